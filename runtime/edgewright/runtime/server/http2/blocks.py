"""The header block of one HEADERS frame and the CONTINUATION frames behind it (RFC 9113, section 6.10)."""

from __future__ import annotations

from .faults import Code, ConnectionFault


class Blocks:
    """Puts header blocks together; never more of one than the limit."""

    def __init__(self, head_bytes: int) -> None:
        self._head_bytes = head_bytes
        self._block = bytearray()
        self._stream_id = 0
        self._end_stream = False

    @property
    def midway(self) -> bool:
        """True between HEADERS and the last CONTINUATION: nothing else may come there."""
        return self._stream_id != 0

    def begin(self, stream_id: int, fragment: bytes, *, end_stream: bool) -> None:
        """Take HEADERS that has no END_HEADERS.

        Raises:
            ConnectionFault: on stream 0, or the block is too large.
        """
        if stream_id == 0:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "HEADERS on stream 0")
        self._stream_id, self._end_stream = stream_id, end_stream
        self._add(fragment)

    def go_on(self, stream_id: int, fragment: bytes, *, complete: bool) -> tuple[bytes, bool] | None:
        """Take CONTINUATION; return the block and whether the stream ends with it, when it is complete.

        Raises:
            ConnectionFault: nothing is to be continued there, or the block is too large.
        """
        if stream_id == 0 or stream_id != self._stream_id:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "CONTINUATION without HEADERS")
        self._add(fragment)
        if not complete:
            return None
        block, self._block, self._stream_id = bytes(self._block), bytearray(), 0
        return block, self._end_stream

    def _add(self, fragment: bytes) -> None:
        if len(self._block) + len(fragment) > self._head_bytes:
            raise ConnectionFault(Code.ENHANCE_YOUR_CALM, f"header block of more than {self._head_bytes} bytes")
        self._block += fragment
