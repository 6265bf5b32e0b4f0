"""The calls of one port that have begun and are not over: their number is bounded, and they hear of the port's end."""

from __future__ import annotations

from typing import Protocol

from ...limits import Limits
from ...refusal import Refusal


class OpenCall(Protocol):
    """What the set needs to know of a call."""

    def drain(self) -> None:
        """The port is to end: no more messages are taken than have come."""

    def sweep(self, now_s: float) -> None:
        """End the call if its message has taken too long to arrive."""


class OpenCalls:
    """Everything happens on the event loop."""

    def __init__(self, limits: Limits) -> None:
        self._most = limits.connections * limits.pipelined
        self._open: set[OpenCall] = set()
        self.draining = False

    def __len__(self) -> int:
        return len(self._open)

    def full(self) -> Refusal | None:
        """Return why no call is taken now, None where there is room."""
        return None if len(self._open) < self._most else Refusal(429, f"more than {self._most} calls at one time")

    def add(self, call: OpenCall) -> None:
        self._open.add(call)

    def remove(self, call: OpenCall) -> None:
        self._open.discard(call)

    def drain(self) -> None:
        self.draining = True
        for call in tuple(self._open):
            call.drain()

    def sweep(self, now_s: float) -> None:
        """Call about once a second."""
        for call in tuple(self._open):
            call.sweep(now_s)
