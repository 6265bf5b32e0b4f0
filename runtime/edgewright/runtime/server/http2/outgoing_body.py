"""The part of one stream's answer that waits for the client's window."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from ..http.messages import Payload


class OutgoingBody:
    """Parts in their order, taken out again in pieces of any size without being copied."""

    __slots__ = ("_parts", "size_bytes")

    def __init__(self) -> None:
        self._parts: deque[memoryview] = deque()
        self.size_bytes = 0

    def put(self, parts: Sequence[Payload], size_bytes: int) -> None:
        """Append `parts`, which have `size_bytes` together."""
        self._parts.extend(memoryview(part) for part in parts if len(part))
        self.size_bytes += size_bytes

    def take(self, size_bytes: int) -> list[Payload]:
        """Take out `size_bytes`, which must be there."""
        self.size_bytes -= size_bytes
        taken: list[Payload] = []
        while size_bytes:
            part = self._parts.popleft()
            if len(part) > size_bytes:
                self._parts.appendleft(part[size_bytes:])
                part = part[:size_bytes]
            size_bytes -= len(part)
            taken.append(part)
        return taken
