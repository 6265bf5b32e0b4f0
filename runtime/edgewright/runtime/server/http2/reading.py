"""The frames in the bytes of one connection, however they are cut."""

from __future__ import annotations

from collections.abc import Iterator

from .faults import Code, ConnectionFault
from .frames import HEAD, PREFACE

Frame = tuple[int, int, int, bytes]
"""Type, flags, stream, payload."""


class Reading:
    """Keeps what is there of a frame until the rest comes: never more than one frame."""

    def __init__(self, frame_bytes: int) -> None:
        self._frame_bytes = frame_bytes
        self._rest = bytearray()
        self._needed_bytes = 0
        self.greeted = False
        """Whether the client's preface is there."""

    @property
    def midway(self) -> bool:
        """True while a frame has begun and is not complete."""
        return bool(self._rest)

    def frames(self, data: bytes) -> Iterator[Frame]:
        """Yield the frames that are complete with `data`.

        Raises:
            ConnectionFault: not HTTP/2, or a frame that is too large.
        """
        if self._rest:
            self._rest += data
            if len(self._rest) < self._needed_bytes:
                return
            data = bytes(self._rest)
            self._rest = bytearray()
        at = 0 if self.greeted else self._greeting(data)
        size = len(data)
        self._needed_bytes = 9 if self.greeted else 0
        while size - at >= 9:
            high, low, kind, flags, stream_id = HEAD.unpack_from(data, at)
            length = high << 8 | low
            if length > self._frame_bytes:
                raise ConnectionFault(Code.FRAME_SIZE_ERROR, f"a frame of more than {self._frame_bytes} bytes")
            end = at + 9 + length
            if end > size:
                self._needed_bytes = end - at
                break
            yield kind, flags, stream_id & 0x7FFFFFFF, data[at + 9 : end]
            at = end
        if at < size:
            self._rest += data[at:]

    def _greeting(self, data: bytes) -> int:
        """Return where the frames begin; the end of `data` while the preface is incomplete (it is kept)."""
        begin = data[: len(PREFACE)]
        if not PREFACE.startswith(begin):
            raise ConnectionFault(Code.PROTOCOL_ERROR, "this port speaks HTTP/2, and the client did not begin with it")
        if len(begin) < len(PREFACE):
            self._rest += data
            return len(data)
        self.greeted = True
        return len(PREFACE)
