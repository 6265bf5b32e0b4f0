"""The messages in the body of a call: five bytes before each say whether it is compressed, and how long it is."""

from __future__ import annotations

from ...http.compression import expanded
from ...http.connections import Connections
from ...http.messages import Payload
from ...limits import Limits
from ...refusal import Refusal, not_now

Message = bytes | bytearray

PREFIX_BYTES = 5
_ENVELOPE_BYTES = 64 * 1024
"""What a message may have beside a body of the largest size."""
_PLAIN, _COMPRESSED = 0, 1


def framed(message: Payload) -> list[Payload]:
    """Return what a message is in the body of an answer."""
    return [b"\0" + len(message).to_bytes(4, "big"), message]


class Messages:
    """The messages of one call in whatever pieces they come; what they hold of the memory for bodies is counted."""

    __slots__ = ("_buffer", "_coding", "_connections", "_held_bytes", "_limits", "taken_bytes")

    def __init__(self, connections: Connections, limits: Limits, coding: bytes | None) -> None:
        """`coding` is of messages that are compressed: gzip, deflate, or None where none may be."""
        self._connections = connections
        self._limits = limits
        self._coding = coding
        self._buffer: Message = b""
        self._held_bytes = 0
        self.taken_bytes = 0
        """What the last message that was taken holds of the memory."""

    @property
    def empty(self) -> bool:
        """True where nothing of a message is there."""
        return not self._buffer

    @property
    def complete(self) -> bool:
        """True where a message can be taken."""
        return self._rest_bytes >= 0

    @property
    def surplus(self) -> bool:
        """True where more is there than one message."""
        return self._rest_bytes > 0

    @property
    def _rest_bytes(self) -> int:
        """What follows the first message; below 0 where that is not complete."""
        buffer = self._buffer
        return len(buffer) - PREFIX_BYTES - (int.from_bytes(buffer[1:5], "big") if len(buffer) >= PREFIX_BYTES else 0)

    def add(self, data: bytes) -> None:
        """Take a piece of the body.

        Raises:
            Refusal: 413 a message is too large, 503 all connections together hold too much.
        """
        self.hold(len(data))
        if not self._buffer:
            self._buffer = data  # nearly always the whole message: no copy
        else:
            if isinstance(self._buffer, bytes):
                self._buffer = bytearray(self._buffer)
            self._buffer += data
        self._check_length()

    def take(self) -> Message | None:
        """Return the next message, None while it is not complete; its memory is held until `release`.

        Raises:
            Refusal: it is too large, it cannot be expanded, or the next one is too large.
        """
        if not self.complete:
            return None
        buffer = self._buffer
        end = PREFIX_BYTES + int.from_bytes(buffer[1:5], "big")
        flag, self.taken_bytes = buffer[0], end
        if len(buffer) == end:
            message, self._buffer = buffer, b""
            if isinstance(message, bytearray):
                del message[:PREFIX_BYTES]
            else:
                message = message[PREFIX_BYTES:]
        else:
            message = buffer[PREFIX_BYTES:end]
            self._buffer = bytearray(buffer) if isinstance(buffer, bytes) else buffer
            del self._buffer[:end]
            self._check_length()
        return message if flag == _PLAIN else self._expanded(message, flag)

    def hold(self, size_bytes: int) -> None:
        """Count so much more of the memory for bodies: answers that wait for their client come from it, too.

        Raises:
            Refusal: 503, all connections together hold too much.
        """
        if not self._connections.hold(size_bytes):
            raise not_now("too many large requests at one time")
        self._held_bytes += size_bytes

    def release(self, size_bytes: int | None = None) -> None:
        """Give memory back: of so many bytes, or of everything that came so far."""
        given = self._held_bytes if size_bytes is None else size_bytes
        self._held_bytes -= given
        self._connections.release(given)

    def _check_length(self) -> None:
        buffer, most = self._buffer, self._limits.body_bytes + _ENVELOPE_BYTES
        if len(buffer) >= PREFIX_BYTES and int.from_bytes(buffer[1:5], "big") > most:
            raise Refusal(413, f"a message of {int.from_bytes(buffer[1:5], 'big')} bytes; the limit is {most}")

    def _expanded(self, message: Message, flag: int) -> Message:
        if flag != _COMPRESSED:
            raise Refusal(400, f"the first byte of a message is {flag}; expected 0, or 1 where it is compressed")
        if self._coding is None:
            # gRPC asks for INTERNAL here (doc/compression.md of grpc/grpc), though it is the client that is wrong.
            raise Refusal(500, "a message is marked as compressed, and no grpc-encoding says how")
        whole = expanded(memoryview(message), self._coding, self._limits)
        self.hold(len(whole))
        self.taken_bytes += len(whole)
        return bytes(whole)
