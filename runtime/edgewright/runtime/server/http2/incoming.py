"""What the client's frames do (RFC 9113, section 6)."""

from __future__ import annotations

from .abuse import Floods
from .blocks import Blocks
from .faults import Code, ConnectionFault, StreamFault
from .field_rules import check_trailers
from .frames import (
    ACK,
    CONTINUATION,
    DATA,
    DRAINING,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADER_TABLE_SIZE,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    LARGEST_STREAM_ID,
    MAX_FRAME_SIZE,
    PADDED,
    PING,
    PRIORITY,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    WITH_PRIORITY,
    frame,
    header_block_fragment,
    parse_settings,
    parse_word,
    unpadded,
)
from .headers import HeaderDecoder
from .limits import Http2Limits
from .stream import Answering, Fields, Opened, Stream
from .streams import Streams

_TOO_LARGE = ((b":status", b"431"),)


def _nobody(stream: Stream, fields: Fields) -> Answering:
    raise AssertionError(f"stream {stream.id} opened behind the end: {len(fields)} fields")


class Incoming:
    """Takes complete frames in their order; `take` raises `ConnectionFault` where the connection cannot go on."""

    def __init__(self, limits: Http2Limits, opened: Opened, streams: Streams) -> None:
        self._limits = limits
        self._opened = opened
        self._streams = streams
        self._sending = streams.sending
        self._floods: Floods = streams.floods
        self._blocks = Blocks(limits.head_bytes)
        self._decoder = HeaderDecoder(limits.head_bytes, limits.headers, self._floods.head)
        self.greeted = False
        """Whether the client's settings are there."""
        self.acknowledged = False
        """Whether the client has acknowledged ours."""
        self.drain_answered = False
        """Whether the client has seen the first step of draining: what it sends from here on is behind it."""
        self.leaving = False
        """Whether the client has said that it will open no more streams."""
        self.last_allowed = LARGEST_STREAM_ID
        """Streams above this are ignored: they were told to go elsewhere."""

    def forget(self) -> None:
        """Let go of who answers: it refers to the connection, and both would stay until the collector comes by."""
        self._opened = _nobody

    @property
    def midway(self) -> bool:
        """True while a header block is incomplete."""
        return self._blocks.midway

    def take(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        """Do what a frame says.

        Raises:
            ConnectionFault: the connection has to end.
        """
        if self._blocks.midway and kind != CONTINUATION:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "a header block was not completed")
        if not self.greeted and (kind != SETTINGS or flags & ACK):
            raise ConnectionFault(Code.PROTOCOL_ERROR, "the first frame is not SETTINGS")
        if kind == DATA:
            self._data(flags, stream_id, payload)
        elif kind == HEADERS:
            self._headers(flags, stream_id, payload)
        elif kind == WINDOW_UPDATE:
            self._window_update(stream_id, parse_word(payload))
        elif kind == CONTINUATION:
            self._continuation(flags, stream_id, payload)
        elif kind in {SETTINGS, PING, GOAWAY}:
            self._of_the_connection(kind, flags, stream_id, payload)
        elif kind == RST_STREAM:
            self._reset(stream_id, payload)
        elif kind == PRIORITY:
            self._priority(stream_id, payload)
        elif kind == PUSH_PROMISE:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "a client cannot push")
        else:
            self._floods.overhead(len(payload))  # RFC 9113, section 5.5: ignored

    def _data(self, flags: int, stream_id: int, payload: bytes) -> None:
        size = len(payload)
        streams = self._streams
        streams.count_data(size)
        data = unpadded(payload, flags) if flags & PADDED else payload
        exchange = streams.open.get(stream_id)
        if exchange is None:
            self._stray_data(stream_id, size)
            return
        ends = bool(flags & END_STREAM)
        self._floods.received(len(data), ends=ends)
        try:
            exchange.received(data, size, ends=ends)
        except StreamFault as fault:
            streams.refuse(stream_id, fault.code)

    def _stray_data(self, stream_id: int, size: int) -> None:
        self._check_not_idle(stream_id)
        self._streams.give_back(size)
        self._floods.stray(size)
        if not self._streams.was_reset(stream_id) and stream_id <= self.last_allowed:
            self._streams.refuse(stream_id, Code.STREAM_CLOSED)

    def _check_not_idle(self, stream_id: int) -> None:
        if stream_id == 0 or (stream_id > self._streams.last_id and stream_id <= self.last_allowed):
            raise ConnectionFault(Code.PROTOCOL_ERROR, "a frame of a stream that was never opened")

    def _headers(self, flags: int, stream_id: int, payload: bytes) -> None:
        if flags & (PADDED | WITH_PRIORITY):
            payload = header_block_fragment(payload, flags)
        end_stream = bool(flags & END_STREAM)
        if flags & END_HEADERS:
            self._block(stream_id, payload, end_stream=end_stream)
        else:
            self._blocks.begin(stream_id, payload, end_stream=end_stream)

    def _continuation(self, flags: int, stream_id: int, payload: bytes) -> None:
        self._floods.overhead()
        block = self._blocks.go_on(stream_id, payload, complete=bool(flags & END_HEADERS))
        if block is not None:
            self._block(stream_id, block[0], end_stream=block[1])

    def _block(self, stream_id: int, block: bytes, *, end_stream: bool) -> None:
        if stream_id == 0:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "HEADERS on stream 0")
        try:
            if stream_id > self._streams.last_id:
                self._request(stream_id, block, end_stream=end_stream)
            else:
                self._trailers(stream_id, block, end_stream=end_stream)
        except StreamFault as fault:
            self._streams.refuse(stream_id, fault.code)

    def _request(self, stream_id: int, block: bytes, *, end_stream: bool) -> None:
        if not stream_id & 1:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "a client's streams have odd numbers")
        streams = self._streams
        if stream_id > self.last_allowed:
            self._decoder.fields(block)  # the table has to stay in step
            self._floods.overhead()
            return
        streams.last_id = stream_id
        head = self._decoder.request(block)
        if len(streams.open) >= self._limits.streams:
            raise StreamFault(Code.REFUSED_STREAM, "too many streams at one time")
        if head is None:
            self._refuse_head(stream_id, end_stream=end_stream)
            return
        exchange = streams.new(stream_id, head.content_length)
        if end_stream:
            exchange.complete()
        answering = self._opened(exchange, head.fields)
        exchange.answered_by(answering)
        if end_stream:
            exchange.tell_ended(())

    def _refuse_head(self, stream_id: int, *, end_stream: bool) -> None:
        """Answer in place of whoever would (RFC 9113, section 10.5.1)."""
        exchange = self._streams.new(stream_id, None)
        if end_stream:
            exchange.complete()
        exchange.end(_TOO_LARGE)

    def _trailers(self, stream_id: int, block: bytes, *, end_stream: bool) -> None:
        fields = self._decoder.fields(block)
        exchange = self._streams.open.get(stream_id)
        if exchange is None:
            if not self._streams.was_reset(stream_id):
                raise ConnectionFault(Code.STREAM_CLOSED, "HEADERS of a stream that is over")
            self._floods.overhead()
            return
        if not end_stream and not exchange.request_ended:
            raise StreamFault(Code.PROTOCOL_ERROR, "trailers that do not end the request")
        if fields is None:
            raise StreamFault(Code.ENHANCE_YOUR_CALM, "trailers are too large")
        check_trailers(fields)
        exchange.complete()
        exchange.tell_ended(fields)

    def _reset(self, stream_id: int, payload: bytes) -> None:
        parse_word(payload)
        self._check_not_idle(stream_id)
        self._floods.overhead()
        if stream_id in self._streams.open:
            self._streams.drop(stream_id)

    def _priority(self, stream_id: int, payload: bytes) -> None:
        if stream_id == 0:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "PRIORITY of stream 0")
        if len(payload) != 5:
            raise ConnectionFault(Code.FRAME_SIZE_ERROR, "PRIORITY of a wrong length")
        self._floods.overhead()

    def _window_update(self, stream_id: int, word: int) -> None:
        self._floods.overhead()
        increment = word & 0x7FFFFFFF
        if stream_id == 0:
            if increment == 0:
                raise ConnectionFault(Code.PROTOCOL_ERROR, "WINDOW_UPDATE of 0")
            self._sending.widen(increment)
            return
        self._check_not_idle(stream_id)
        exchange = self._streams.open.get(stream_id)
        if exchange is None:
            return
        try:
            if increment == 0:
                raise StreamFault(Code.PROTOCOL_ERROR, "WINDOW_UPDATE of 0")
            exchange.widen(increment)
        except StreamFault as fault:
            self._streams.refuse(stream_id, fault.code)

    def _of_the_connection(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id != 0:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "a frame of the connection on a stream")
        if kind == SETTINGS:
            self._settings(flags, payload)
        elif kind == PING:
            self._ping(flags, payload)
        else:
            if len(payload) < 8:
                raise ConnectionFault(Code.FRAME_SIZE_ERROR, "GOAWAY too short for its last stream and code")
            self._floods.overhead(len(payload))
            self.leaving = True

    def _settings(self, flags: int, payload: bytes) -> None:
        if flags & ACK:
            if payload:
                raise ConnectionFault(Code.FRAME_SIZE_ERROR, "acknowledgement of SETTINGS with a payload")
            self._floods.overhead()
            self.acknowledged = True
            return
        self._floods.overhead(len(payload))
        values = parse_settings(payload)
        self.greeted = True
        # In the order of their numbers: none depends on another.
        if HEADER_TABLE_SIZE in values:
            self._sending.table_bytes(values[HEADER_TABLE_SIZE])
        if MAX_FRAME_SIZE in values:
            self._sending.largest_frame(values[MAX_FRAME_SIZE])
        self._sending.out.append(frame(SETTINGS, ACK, 0))
        if INITIAL_WINDOW_SIZE in values:
            self._streams.initial_window(values[INITIAL_WINDOW_SIZE])

    def _ping(self, flags: int, payload: bytes) -> None:
        if len(payload) != 8:
            raise ConnectionFault(Code.FRAME_SIZE_ERROR, "PING has 8 bytes")
        if flags & ACK:
            self._floods.overhead()
            self.drain_answered = self.drain_answered or payload == DRAINING
        else:
            self._floods.ping()
            self._sending.out.append(frame(PING, ACK, 0, payload))
