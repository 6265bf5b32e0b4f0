"""A broker in virtual time: loses, repeats and delays messages, so that they overtake each other."""

from __future__ import annotations

import random
from collections.abc import Callable

import msgspec

from .device import Message
from .events import Events

DAY_S = 86400.0


class Weather(msgspec.Struct, frozen=True, kw_only=True):
    """How bad the network is. Shares are of messages, from 0 to 1."""

    lost: float = 0.0
    repeated: float = 0.0
    late: float = 0.0
    """Share that takes up to `late_s` instead of up to `usual_s`."""
    usual_s: float = 0.1
    late_s: float = 60.0


FAIR = Weather()


class StormyNetwork:
    """The `Downlink` of a fleet server, and the way up: what is handed over arrives later, twice, or never."""

    def __init__(self, events: Events, *, weather: Weather, seed: int) -> None:
        self.weather = weather
        self.on_down: Callable[[Message], None] = lambda _message: None
        self.on_up: Callable[[Message], None] = lambda _message: None
        self._events = events
        self._random = random.Random(seed)  # noqa: S311  (a simulation is to be repeatable)

    def publish(self, topic: str, payload: bytes) -> None:
        """Take a message from the fleet to a device."""
        self._carry((topic, payload), self.on_down)

    def send(self, message: Message) -> None:
        """Take a message from a device to the fleet."""
        self._carry(message, self.on_up)

    def _carry(self, message: Message, arrive: Callable[[Message], None]) -> None:
        weather, draw = self.weather, self._random.random
        if draw() < weather.lost:
            return
        for _ in range(2 if draw() < weather.repeated else 1):
            longest_s = weather.late_s if draw() < weather.late else weather.usual_s
            self._events.after(draw() * longest_s, lambda: arrive(message))
