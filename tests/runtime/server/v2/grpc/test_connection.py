"""The shell between a socket and the connection of HTTP/2: when it reads, when it writes, when it ends."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Iterator
from time import monotonic
from typing import Any

from edgewright.runtime.server.http.connections import Connections
from edgewright.runtime.server.http2.limits import Http2Limits
from edgewright.runtime.server.http2.stream import Answering, Fields, Stream
from edgewright.runtime.server.limits import DEFAULT_LIMITS
from edgewright.runtime.server.v2.grpc.connection import Connection

HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0" + b"\0\0\0\4\1\0\0\0\0"
PING, GOAWAY = 6, 7


class Wire(asyncio.Transport):
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.writes = 0
        self.closed = self.aborted = self.half_closed = False
        self.reading = True
        self.unsent = 0

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        assert not self.closed
        assert not self.half_closed
        self.written += data
        self.writes += 1

    def writelines(self, list_of_data: Any) -> None:
        self.write(b"".join(list_of_data))

    def close(self) -> None:
        self.closed = True

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        assert not self.half_closed
        self.half_closed = True

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def is_closing(self) -> bool:
        return self.closed

    def abort(self) -> None:
        self.closed = self.aborted = True

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True


class Silent:
    """Requests that nobody answers."""

    def __init__(self) -> None:
        self.open: list[Stream] = []
        self.gone_calls = 0

    def __call__(self, stream: Stream, fields: Fields) -> Answering:
        del fields
        self.open.append(stream)
        return self

    def data(self, data: bytes, size_bytes: int) -> None:
        del data, size_bytes

    def ended(self, trailers: Fields) -> None:
        del trailers

    def gone(self) -> None:
        self.gone_calls += 1


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def request(stream: int) -> bytes:
    block = b"\x83\x86\x84" + b"\x41\x01a"  # POST, http, /, :authority a
    return frame(1, 0x4 | 0x1, stream, block)


def split(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield types and payloads of frames."""
    while data:
        end = 9 + int.from_bytes(data[:3], "big")
        yield data[3], data[9:end]
        data = data[end:]


def frames(data: bytes) -> list[int]:
    return [kind for kind, _ in split(data)]


def pong(wire: Wire) -> bytes:
    """Return the answer to the last ping."""
    return frame(PING, 0x1, 0, [payload for kind, payload in split(wire.written) if kind == PING][-1])


def connect() -> tuple[Connection, Wire, Silent, Connections]:
    connections, silent, wire = Connections(DEFAULT_LIMITS), Silent(), Wire()
    connection = Connection(silent, Http2Limits(), DEFAULT_LIMITS, connections)
    connection.connection_made(wire)
    assert len(connections) == 1
    return connection, wire, silent, connections


def test_an_answer_is_written_when_it_comes_and_at_once() -> None:
    connection, wire, silent, _ = connect()
    connection.data_received(HELLO)
    connection.data_received(request(1))
    assert not connection.idle
    before = wire.writes
    silent.open[0].answer(((b":status", b"200"),), [b"body"], ((b"a", b"b"),))
    assert wire.writes == before + 1
    assert connection.idle
    assert not wire.closed


def test_what_is_no_http2_is_ended_and_forgotten() -> None:
    connection, wire, silent, connections = connect()
    connection.data_received(HELLO + request(1) + b"\0\0\0\0\0\0\0\0\0")  # DATA of stream 0
    assert wire.half_closed
    assert GOAWAY in frames(wire.written)
    connection.data_received(HELLO)
    connection.connection_lost(None)
    assert (len(connections), silent.gone_calls) == (0, 1)


def test_a_connection_that_is_lost_takes_its_calls_along() -> None:
    connection, _, silent, connections = connect()
    connection.data_received(HELLO + request(1) + request(3))
    assert not connection.eof_received(), "there is no half of a connection"
    connection.connection_lost(None)
    assert (silent.gone_calls, len(connections)) == (2, 0)


def test_a_client_that_does_not_read_is_not_read_either_and_is_given_up() -> None:
    connection, wire, _, _ = connect()
    connection.data_received(HELLO)
    connection.pause_writing()
    assert not wire.reading
    connection.resume_writing()
    assert wire.reading
    connection.pause_writing()
    connection.sweep(monotonic() + DEFAULT_LIMITS.receive_s - 1)
    assert not wire.closed
    connection.sweep(monotonic() + DEFAULT_LIMITS.receive_s + 1)
    assert wire.aborted


def test_draining_ends_an_idle_connection_and_lets_a_busy_one_answer() -> None:
    connection, wire, silent, _ = connect()
    connection.data_received(HELLO + request(1))
    connection.drain()
    assert GOAWAY in frames(wire.written)
    connection.data_received(request(3) + pong(wire))
    assert not wire.closed
    for stream in silent.open:
        stream.answer(((b":status", b"200"),), [b"body"], ((b"a", b"b"),))
    assert len(silent.open) == 2, "what was under way is served"
    assert wire.half_closed
    assert not wire.closed
    idle, wire, _, _ = connect()
    idle.data_received(HELLO)
    idle.drain()
    idle.data_received(pong(wire))
    assert wire.half_closed


def test_a_silent_client_is_asked_and_then_given_up() -> None:
    connection, wire, _, _ = connect()
    connection.data_received(HELLO)
    before = len(wire.written)
    for now_s in range(62):
        connection.sweep(float(now_s))
    assert PING in frames(wire.written[before:])
    assert not wire.half_closed
    for now_s in range(62, 90):
        connection.sweep(float(now_s))
    assert wire.half_closed


def test_close_says_so() -> None:
    connection, wire, _, _ = connect()
    connection.data_received(HELLO)
    connection.close()
    assert wire.half_closed
    assert GOAWAY in frames(wire.written)


def test_the_last_bytes_are_not_overtaken_by_a_reset() -> None:
    connection, wire, _, _ = connect()
    connection.data_received(HELLO)
    connection.close()
    assert wire.half_closed
    assert wire.reading
    before = wire.written
    connection.data_received(request(1) + b"whatever a client still sends")
    assert wire.written == before
    connection.sweep(monotonic() + DEFAULT_LIMITS.linger_s - 1)
    assert not wire.closed
    wire.unsent = 1
    connection.sweep(monotonic() + DEFAULT_LIMITS.linger_s + 1)
    assert not wire.closed, "what is still to be sent gets longer"
    wire.unsent = 0
    connection.sweep(monotonic() + DEFAULT_LIMITS.linger_s + 1)
    assert wire.aborted


def test_answers_that_an_end_sets_free_are_not_written_behind_it() -> None:
    """A job that is cancelled may let another one finish at once: a transport that was ended takes no more."""
    connection, wire, silent, _ = connect()
    connection.data_received(HELLO + request(1) + request(3) + request(5))

    def gone() -> None:
        for stream in silent.open:
            stream.answer(((b":status", b"200"),), [b"body"], ((b"a", b"b"),))

    silent.gone = gone  # type: ignore[method-assign]
    connection.close()
    assert wire.half_closed
    assert GOAWAY in frames(wire.written)
