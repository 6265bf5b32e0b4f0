"""What goes to the client on one connection: bytes that wait to be written, and the client's windows and settings."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Protocol

from ..http.messages import Payload
from .faults import Code, ConnectionFault
from .frames import (
    DATA,
    DEFAULT_WINDOW_BYTES,
    END_HEADERS,
    END_STREAM,
    HEAD,
    HEADERS,
    LARGEST_WINDOW_BYTES,
    SMALLEST_FRAME_BYTES,
    frame_head,
    header_frames,
)
from .headers import encode
from .stream import Fields

_LARGEST_FRAME_BYTES = 64 * 1024
"""However large a frame the client would take: streams take turns by frames."""
_DEFAULT_TABLE_BYTES = 4096
_EMPTY_THE_TABLE = b"\x20"
_COLLECTED_BYTES = 128 * 1024
"""Bodies that are collected for one write; the transport can pause us between two."""

Write = Callable[[list[Payload]], None]


class Waiting(Protocol):
    """A stream whose body waits for a window."""

    def send_frame(self) -> bool:
        """Send one frame, where the windows let it; False when there is nothing (any more) that may be sent."""


class Sending:
    """Collects what one turn of the connection causes, and writes it at once."""

    def __init__(self, write: Write) -> None:
        self._write = write
        self._waiting: OrderedDict[Waiting, None] = OrderedDict()
        self._table_to_empty = False
        self._body_bytes = 0
        self.out: list[Payload] = []
        self.collecting = False
        """While true, `flush` leaves it for later."""
        self.paused = False
        self.window = DEFAULT_WINDOW_BYTES
        self.stream_window = DEFAULT_WINDOW_BYTES
        """What a new stream may send."""
        self.frame_bytes = SMALLEST_FRAME_BYTES

    def flush(self, *, even_nothing: bool = False) -> None:
        if (self.out or even_nothing) and not self.collecting:
            self._write_out()

    def _write_out(self) -> None:
        out, self.out = self.out, []
        self._body_bytes = 0
        self._write(out)

    def _count(self, size_bytes: int) -> None:
        """Count a body: a client that sends many requests at once must not have all answers pile up here."""
        self.window -= size_bytes
        self._body_bytes += size_bytes
        if self._body_bytes > _COLLECTED_BYTES:
            self._write_out()

    def data(self, stream_id: int, parts: Sequence[Payload], size_bytes: int) -> None:
        """Send DATA that the windows have room for."""
        self.out.append(frame_head(size_bytes, DATA, 0, stream_id))
        self.out += parts
        self._count(size_bytes)

    def block(self, fields: Fields) -> bytes:
        """Return the header block for `fields`."""
        block = encode(fields)
        if self._table_to_empty:
            # RFC 7541, section 4.2: said once, at the beginning of the first block behind the client's setting.
            self._table_to_empty = False
            return _EMPTY_THE_TABLE + block
        return block

    def headers(self, stream_id: int, fields: Fields, *, end_stream: bool) -> None:
        self.out.append(header_frames(self.block(fields), end_stream, stream_id, self.frame_bytes))

    def answer(
        self, stream_id: int, fields: Fields, parts: Sequence[Payload], size_bytes: int, trailers: Fields
    ) -> None:
        """Send head, a body that fits into one frame and the windows, and trailers, as one piece."""
        head, tail = self.block(fields), encode(trailers)
        pack = HEAD.pack
        self.out.append(
            b"".join(
                (
                    pack(len(head) >> 8, len(head) & 0xFF, HEADERS, END_HEADERS, stream_id),
                    head,
                    pack(size_bytes >> 8, size_bytes & 0xFF, DATA, 0, stream_id),
                    *parts,
                    pack(len(tail) >> 8, len(tail) & 0xFF, HEADERS, END_HEADERS | END_STREAM, stream_id),
                    tail,
                )
            )
        )
        self._count(size_bytes)

    def table_bytes(self, size: int) -> None:
        """Take the client's HEADER_TABLE_SIZE: we use no table, but one below the default has to be confirmed."""
        if size < _DEFAULT_TABLE_BYTES:
            self._table_to_empty = True

    def largest_frame(self, size: int) -> None:
        """Take the client's MAX_FRAME_SIZE."""
        self.frame_bytes = min(size, _LARGEST_FRAME_BYTES)

    def widen(self, increment: int) -> None:
        """Take the client's WINDOW_UPDATE of the connection.

        Raises:
            ConnectionFault: the window is larger than 2^31-1 now.
        """
        self.window += increment
        if self.window > LARGEST_WINDOW_BYTES:
            raise ConnectionFault(Code.FLOW_CONTROL_ERROR, "connection window above 2^31-1")
        self.pump()

    def wait(self, stream: Waiting) -> None:
        """Have the stream take its turn when the connection can send again."""
        self._waiting[stream] = None

    def wait_no_more(self, stream: Waiting) -> None:
        """Forget a stream that is over."""
        self._waiting.pop(stream, None)

    def pump(self) -> None:
        """Let the streams that wait send in turns, a frame each, as far as the connection's window goes."""
        while self._waiting and self.window > 0 and not self.paused:
            stream, _ = self._waiting.popitem(last=False)
            if stream.send_frame():
                self._waiting[stream] = None
        self.flush()

    def forget(self) -> None:
        """Write nothing any more."""
        self._write = _nowhere
        self.out = []
        self._waiting.clear()


def _nowhere(parts: list[Payload]) -> None:
    del parts
