"""All open connections: their number, what they hold in memory, how they ended their requests."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Protocol

from ..limits import Limits
from ..refusal import Refusal

Admits = Callable[[bytes, Mapping[bytes, bytes]], Refusal | None]
"""Takes the target and the header fields of a request; returns why whoever sends it is not let in."""


def let_in(target: bytes, headers: Mapping[bytes, bytes]) -> Refusal | None:
    """Let everybody in."""
    del target, headers
    return None


class SweptConnection(Protocol):
    """What the set needs to know of a connection."""

    @property
    def idle(self) -> bool: ...

    def drain(self) -> None: ...

    def close(self) -> None: ...

    def sweep(self, now_s: float) -> None: ...


class Connections:
    """The set of open connections. Everything happens on the event loop."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._open: set[SweptConnection] = set()
        self._draining = False
        self._held_bytes = 0
        self.responses: Counter[int] = Counter()
        """Responses by HTTP status, for metrics."""
        self.admits: Admits = let_in
        """Asked before a large body is read."""
        self.on_room: Callable[[], None] = lambda: None
        """Called when a connection has ended."""

    def __len__(self) -> int:
        return len(self._open)

    def add(self, connection: SweptConnection) -> None:
        self._open.add(connection)
        if self._draining:
            connection.drain()

    def remove(self, connection: SweptConnection, held_bytes: int) -> None:
        self._open.discard(connection)
        self._held_bytes -= held_bytes
        self.on_room()

    def hold(self, size: int) -> bool:
        """Reserve memory for a piece of a body; False when all connections together hold too much."""
        if self._held_bytes + size > self._limits.total_body_bytes:
            return False
        self._held_bytes += size
        return True

    def release(self, size: int) -> None:
        self._held_bytes -= size

    def answered(self, status: int) -> None:
        self.responses[status] += 1

    def sweep(self, now_s: float) -> None:
        for connection in tuple(self._open):
            connection.sweep(now_s)

    def close(self) -> None:
        """End all connections, whatever is under way on them."""
        for connection in tuple(self._open):
            connection.close()

    def drain(self) -> None:
        """From now on each connection ends with its next response."""
        self._draining = True
        for connection in tuple(self._open):
            connection.drain()
