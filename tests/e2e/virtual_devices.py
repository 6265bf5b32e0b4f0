"""Many virtual devices on a real broker: they enrol over the API and speak over one MQTT connection."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion

from edgewright.fleet.client import FleetClient
from edgewright.fleet.sim.device import Behaviour, Identity, Message, VirtualDevice
from edgewright.runtime.telemetry import wire

STEP_S = 0.4


class VirtualDevices:
    """`deaf` ones report, but hear nothing: as a device whose downlink is broken."""

    def __init__(
        self, identities: Iterable[Identity], behaviour_of: Callable[[str], Behaviour], mqtt_port: int
    ) -> None:
        self.devices = {
            one.device: VirtualDevice(one, behaviour_of=behaviour_of, seed=number, window_s=2)
            for number, one in enumerate(identities)
        }
        self.deaf: set[str] = set()
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._mqtt = paho.Client(CallbackAPIVersion.VERSION2, client_id="virtual-devices")
        self._mqtt.reconnect_delay_set(1, 1)
        self._mqtt.on_connect = self._connected
        self._mqtt.on_message = self._received
        self._mqtt.connect_async("127.0.0.1", mqtt_port)
        self._thread = threading.Thread(target=self._run, name="virtual-devices")

    def start(self) -> None:
        self._mqtt.loop_start()
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()
        self._mqtt.disconnect()
        self._mqtt.loop_stop()

    def versions(self) -> dict[str, str]:
        """What each runs; empty: nothing yet."""
        with self._lock:
            return {name: one.active.version if one.active else "" for name, one in self.devices.items()}

    def _connected(self, client: Any, *_: Any) -> None:
        for name, one in self.devices.items():
            client.subscribe(wire.topic(one.identity.tenant, name, "down", "+"), qos=1)
        with self._lock:
            for one in self.devices.values():
                self._publish(one.connect())

    def _received(self, _client: Any, _data: Any, message: Any) -> None:
        name = message.topic.split("/")[3]
        with self._lock:
            if name not in self.deaf:
                self.devices[name].receive(message.payload, now_s=time.time())

    def _run(self) -> None:
        while not self._stopping.wait(STEP_S):
            for one in self.devices.values():
                with self._lock:
                    sent = one.step(time.time())
                    if self._mqtt.is_connected():
                        self._publish(sent)

    def _publish(self, messages: Iterable[Message]) -> None:
        for topic, payload in messages:
            self._mqtt.publish(topic, payload, qos=1)


@contextmanager
def virtual_devices(
    client: FleetClient,
    names: Iterable[str],
    board: Mapping[str, str],
    behaviour_of: Callable[[str], Behaviour],
    mqtt_port: int,
) -> Iterator[VirtualDevices]:
    """Devices that are enrolled and run."""
    found = VirtualDevices([_enrol(client, name, board) for name in names], behaviour_of, mqtt_port)
    found.start()
    try:
        yield found
    finally:
        found.stop()


def _enrol(client: FleetClient, name: str, board: Mapping[str, str]) -> Identity:
    token = client.post("/v1/tokens", {"site": "virtual"})["token"]
    given = client.post("/v1/enroll", {"token": token, "name": name, **board})
    return Identity(tenant=given["tenant"], device=name, secret=bytes.fromhex(given["secret"]), **board)
