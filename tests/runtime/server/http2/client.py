"""A client made of frames, and one that answers every stream: both sides of a connection in memory."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from hpack import Decoder

from edgewright.runtime.server.http2 import frames as f
from edgewright.runtime.server.http2.connection import Http2
from edgewright.runtime.server.http2.headers import encode
from edgewright.runtime.server.http2.limits import Http2Limits
from edgewright.runtime.server.http2.stream import Answering, Fields, Stream

REQUEST = ((b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/a"), (b"te", b"trailers"))
GREETING = f.PREFACE + f.settings_frame({}) + f.frame(f.SETTINGS, f.ACK, 0)
OK = ((b":status", b"200"),)
STATUS = ((b"grpc-status", b"0"),)
HALF = 0x4


@dataclass
class Call:
    """Implements `Answering`: writes down what it hears."""

    stream: Stream
    fields: Fields
    when_ended: Callable[[Call], None]
    gives_back: bool = True
    body: bytearray = field(default_factory=bytearray)
    trailers: Fields | None = None
    is_gone: bool = False

    def data(self, data: bytes, size_bytes: int) -> None:
        assert not self.is_gone
        assert self.trailers is None
        self.body += data
        if self.gives_back:
            self.stream.took(size_bytes)

    def ended(self, trailers: Fields) -> None:
        assert not self.is_gone
        assert self.trailers is None
        self.trailers = trailers
        self.when_ended(self)

    def gone(self) -> None:
        assert not self.is_gone
        self.is_gone = True

    @property
    def heard(self) -> tuple[int, Fields, bytes, Fields | None, bool]:
        return self.stream.id, self.fields, bytes(self.body), self.trailers, self.is_gone


def echo(call: Call) -> None:
    call.stream.answer(OK, [bytes(call.body)], STATUS)


def nothing(call: Call) -> None:
    del call


@dataclass(frozen=True)
class Sent:
    """A frame that the server has sent."""

    kind: int
    flags: int
    stream_id: int
    payload: bytes

    @property
    def word(self) -> int:
        word: int = struct.unpack(">L", self.payload[-4:])[0]
        return word


def cut(sent: bytes) -> Iterator[Sent]:
    at = 0
    while at < len(sent):
        high, low, kind, flags, stream_id = f.HEAD.unpack_from(sent, at)
        end = at + 9 + (high << 8 | low)
        assert end <= len(sent)
        yield Sent(kind, flags, stream_id, sent[at + 9 : end])
        at = end


class Server:
    """The core, with everything that it has sent and everybody who was called."""

    def __init__(
        self,
        when_ended: Callable[[Call], None] = echo,
        limits: Http2Limits | None = None,
        *,
        greeted: bool = True,
        gives_back: bool = True,
    ) -> None:
        self.calls: list[Call] = []
        self.raw = bytearray()
        self.writes = 0
        self.ended_at_write = False
        self._read_bytes = 0
        self._when_ended = when_ended
        self._gives_back = gives_back
        self.core = Http2(limits or Http2Limits(), self._opened, self._write)
        if greeted:
            self.core.feed(GREETING)
            self.frames()

    def _opened(self, stream: Stream, fields: Fields) -> Answering:
        call = Call(stream, fields, self._when_ended, self._gives_back)
        self.calls.append(call)
        return call

    def _write(self, parts: Sequence[bytes | bytearray | memoryview]) -> None:
        self.writes += 1
        assert not self.ended_at_write
        self.ended_at_write = self.core.ended
        for part in parts:
            self.raw += part

    def frames(self) -> list[Sent]:
        """Return what has been sent since the last time."""
        new = bytes(self.raw[self._read_bytes :])
        self._read_bytes = len(self.raw)
        return list(cut(new))

    def feed(self, *pieces: bytes) -> list[Sent]:
        for piece in pieces:
            self.core.feed(piece)
        return self.frames()

    def goaway(self) -> tuple[int, bytes] | None:
        """Return code and debug data of a GOAWAY that has ended the connection."""
        sent = list(cut(bytes(self.raw)))
        if not sent or sent[-1].kind != f.GOAWAY or not self.core.ended:
            return None
        return struct.unpack(">L", sent[-1].payload[4:8])[0], sent[-1].payload[8:]


def request(stream_id: int, body: bytes | None = b"", fields: Fields = REQUEST) -> bytes:
    """Return the frames of a whole request; without DATA where `body` is None."""
    head = f.header_frames(encode(fields), body is None, stream_id, f.SMALLEST_FRAME_BYTES)
    if body is None:
        return head
    pieces = [body[at : at + f.SMALLEST_FRAME_BYTES] for at in range(0, len(body), f.SMALLEST_FRAME_BYTES)] or [b""]
    datas = [f.frame(f.DATA, 0, stream_id, piece) for piece in pieces[:-1]]
    return b"".join([head, *datas, f.frame(f.DATA, f.END_STREAM, stream_id, pieces[-1])])


def opening(stream_id: int, fields: Fields = REQUEST) -> bytes:
    """Return HEADERS that leaves the stream open."""
    return f.header_frames(encode(fields), False, stream_id, f.SMALLEST_FRAME_BYTES)


def data(stream_id: int, body: bytes, *, ends: bool = False) -> bytes:
    return f.frame(f.DATA, f.END_STREAM if ends else 0, stream_id, body)


def resets(sent: Sequence[Sent]) -> list[tuple[int, int]]:
    """Return stream and code of each RST_STREAM."""
    return [(frame.stream_id, frame.word) for frame in sent if frame.kind == f.RST_STREAM]


def fields_of(sent: Sequence[Sent], decoder: Decoder | None = None) -> list[tuple[tuple[bytes, bytes], ...]]:
    decoder = decoder or Decoder()
    return [tuple((n, v) for n, v in decoder.decode(s.payload, raw=True)) for s in sent if s.kind == f.HEADERS]
