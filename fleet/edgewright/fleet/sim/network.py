"""A broker in memory, which may lose, repeat and reorder what goes up and down. Seeded: a run can be repeated."""

from __future__ import annotations

import random

import msgspec

from edgewright.runtime.telemetry import wire

from ..ingest.downlink import Postbox
from ..ingest.recorder import Arrival, Recorder
from .device import Message, VirtualDevice


class Faults(msgspec.Struct, frozen=True, kw_only=True):
    """How bad the network is: shares of messages, each from 0 to 1."""

    lost: float = 0.0
    repeated: float = 0.0
    reordered: bool = False


FAULTLESS = Faults()


class MemoryNetwork:
    """The `Downlink` of a fleet whose devices are virtual, and the way up as well."""

    def __init__(self, *, faults: Faults = FAULTLESS, seed: int = 0) -> None:
        self.faults = faults
        self.devices: dict[str, VirtualDevice] = {}
        self.published: list[Message] = []
        self._random = random.Random(seed)  # noqa: S311  (a simulation is to be repeatable)

    def join(self, device: VirtualDevice) -> None:
        """Add a device."""
        self.devices[device.identity.device] = device

    def publish(self, topic: str, payload: bytes) -> None:
        """Take a message from the fleet; it is delivered by `deliver`."""
        self.published.append((topic, payload))

    def step(self, recorder: Recorder, postbox: Postbox, *, now_s: float, connecting: bool = False) -> None:
        """Let every device send, the fleet store and answer, and the answers arrive."""
        sent = [
            message
            for device in self.devices.values()
            for message in (device.connect() if connecting else device.step(now_s))
        ]
        arrivals = [Arrival(topic, payload) for topic, payload in self._through(sent)]
        for letter in recorder.record(arrivals, now_s=now_s):
            postbox.send(letter)
        self.deliver(now_s=now_s)

    def deliver(self, *, now_s: float) -> None:
        """Bring what the fleet published to the devices."""
        waiting, self.published = self.published, []
        for topic, payload in self._through(waiting):
            _, device, _, _ = wire.parse_topic(topic)
            if device in self.devices:
                self.devices[device].receive(payload, now_s=now_s)

    def _through(self, messages: list[Message]) -> list[Message]:
        passed: list[Message] = []
        for message in messages:
            if self._random.random() < self.faults.lost:
                continue
            passed += [message] * (2 if self._random.random() < self.faults.repeated else 1)
        if self.faults.reordered:
            self._random.shuffle(passed)
        return passed
