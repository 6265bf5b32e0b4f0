"""Flow control of what comes in (RFC 9113, section 5.2): what the client may send, and when it may send more."""

from __future__ import annotations

from .frames import DEFAULT_WINDOW_BYTES


class ReceiveWindow:
    """The window of one stream, or of the connection. What is given back is announced in halves, not in crumbs."""

    __slots__ = ("_given_back", "_left", "_size")

    def __init__(self, size_bytes: int) -> None:
        """Begin with `size_bytes`; not below the 65 535 that a client may use before it knows our settings."""
        self._size = max(size_bytes, DEFAULT_WINDOW_BYTES)
        self._left = self._size
        self._given_back = 0

    def take(self, size_bytes: int) -> bool:
        """Count what has come; False where the client has sent more than it may."""
        self._left -= size_bytes
        return self._left >= 0

    def give_back(self, size_bytes: int) -> int:
        """Count what is not held any more; return how much is to be announced now, 0 for nothing."""
        given_back = self._given_back + size_bytes
        if given_back * 2 < self._size:
            self._given_back = given_back
            return 0
        self._given_back = 0
        self._left += given_back
        return given_back
