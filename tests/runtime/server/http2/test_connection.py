"""A connection in order: requests in, answers out, and how it ends."""

from __future__ import annotations

import gc
import struct
import weakref

import pytest

from edgewright.runtime.server.http2 import frames as f
from edgewright.runtime.server.http2.faults import Code
from edgewright.runtime.server.http2.limits import Http2Limits
from tests.runtime.server.http2.client import (
    GREETING,
    OK,
    REQUEST,
    STATUS,
    Call,
    Server,
    data,
    echo,
    fields_of,
    nothing,
    opening,
    request,
    resets,
)


def test_a_unary_call_is_one_write_of_head_body_and_trailers() -> None:
    server = Server()
    before = server.writes
    sent = server.feed(request(1, b"hello"))
    assert [(s.kind, s.flags, s.stream_id) for s in sent] == [
        (f.HEADERS, f.END_HEADERS, 1),
        (f.DATA, 0, 1),
        (f.HEADERS, f.END_HEADERS | f.END_STREAM, 1),
    ]
    assert server.writes == before + 1
    assert sent[1].payload == b"hello"
    assert fields_of(sent) == [OK, STATUS]
    assert server.calls[0].fields == REQUEST
    assert server.core.idle


def test_all_that_one_feed_causes_is_one_write() -> None:
    server = Server()
    before = server.writes
    sent = server.feed(
        b"".join(request(stream_id, b"x") for stream_id in (1, 3, 5)) + f.frame(f.PING, 0, 0, b"12345678")
    )
    assert server.writes == before + 1
    assert [s.kind for s in sent if s.kind != f.HEADERS] == [f.DATA, f.DATA, f.DATA, f.PING]


def test_an_answer_that_comes_later_is_written_then() -> None:
    server = Server(nothing)
    assert server.feed(request(1, b"x")) == []
    assert not server.core.idle
    echo(server.calls[0])
    assert [s.kind for s in server.frames()] == [f.HEADERS, f.DATA, f.HEADERS]


def test_the_greeting_says_the_limits() -> None:
    server = Server(greeted=False, limits=Http2Limits(streams=7))
    sent = server.feed(GREETING)
    settings = dict(struct.iter_unpack(">HL", sent[0].payload))
    assert settings[f.MAX_CONCURRENT_STREAMS] == 7
    assert [(s.kind, s.flags) for s in sent] == [(f.SETTINGS, 0), (f.WINDOW_UPDATE, 0), (f.SETTINGS, f.ACK)]


def test_what_comes_before_a_greeting_or_in_its_place_ends_the_connection() -> None:
    for data_ in (b"GET / HTTP/1.1\r\n\r\n", b"X", f.PREFACE + f.frame(f.PING, 0, 0, bytes(8)), f.PREFACE + request(1)):
        server = Server(greeted=False)
        server.feed(data_)
        goaway = server.goaway()
        assert goaway is not None
        assert goaway[0] == Code.PROTOCOL_ERROR
        assert server.core.failed
        assert server.ended_at_write


def test_a_request_without_a_body_and_one_with_trailers() -> None:
    server = Server()
    trailers = f.header_frames(b"\x00\x03x-a\x01b", True, 3, 16384)
    server.feed(request(1, None), opening(3) + data(3, b"ab") + trailers)
    assert [(bytes(c.body), c.trailers) for c in server.calls] == [(b"", ()), (b"ab", ((b"x-a", b"b"),))]


def test_an_answer_before_the_request_has_ended_resets_the_rest_and_takes_what_is_under_way() -> None:
    server = Server()
    server.feed(opening(1))
    server.calls[0].stream.end(STATUS)
    sent = server.frames()
    assert [s.kind for s in sent] == [f.HEADERS, f.RST_STREAM]
    assert resets(sent) == [(1, Code.NO_ERROR)]
    assert server.feed(data(1, bytes(1000)), data(1, b"", ends=True)) == []
    assert not server.core.ended
    assert not server.calls[0].body


def test_a_stream_in_parts() -> None:
    server = Server(nothing)
    server.feed(request(1))
    stream = server.calls[0].stream
    stream.begin(OK)
    stream.send([b"a", bytearray(b"b"), memoryview(b"c")])
    stream.send([])
    stream.send([b"d"])
    stream.end(STATUS)
    sent = server.frames()
    assert [s.payload for s in sent if s.kind == f.DATA] == [b"abc", b"d"]
    assert sent[-1].flags & f.END_STREAM
    stream.send([b"late"])
    stream.end(STATUS)
    stream.reset(8)
    stream.took(5)
    assert server.frames() == []


def test_gone_is_said_once_and_nothing_behind_it() -> None:
    server = Server(nothing)
    server.feed(opening(1), opening(3), request(5))
    server.feed(f.reset_frame(1, Code.CANCEL), f.reset_frame(1, Code.CANCEL))
    server.calls[1].stream.reset(Code.CANCEL)
    assert [c.is_gone for c in server.calls] == [True, False, False]
    server.core.lost()
    server.core.lost()
    assert [c.is_gone for c in server.calls] == [True, False, True]
    server.calls[2].stream.answer(OK, [b"x"], STATUS)
    assert resets(server.frames()) == [(3, Code.CANCEL)]
    assert server.core.ended


def test_a_client_may_repeat_a_head_that_the_dynamic_table_is_needed_for() -> None:
    # Literal with indexing the first time (it changes the table), then its index, again and again.
    first = b"\x83\x86\x84" + b"\x40\x03x-a\x05first"
    server = Server()
    server.feed(f.frame(f.HEADERS, 5, 1, first))
    for stream_id in (3, 5):
        server.feed(f.frame(f.HEADERS, 5, stream_id, b"\x83\x86\x84\xbe"))
    server.feed(f.frame(f.HEADERS, 5, 7, b"\x83\x86\x84\x40\x03x-a\x06second"))
    server.feed(f.frame(f.HEADERS, 5, 9, b"\x83\x86\x84\xbe"))
    assert [c.fields[-1][1] for c in server.calls] == [b"first", b"first", b"first", b"second", b"second"]
    assert server.calls[1].fields is server.calls[2].fields


def test_a_client_whose_table_is_small_is_told_that_ours_is_empty() -> None:
    server = Server()
    server.feed(f.settings_frame({f.HEADER_TABLE_SIZE: 0}))
    first, second = server.feed(request(1, None))[0], server.feed(request(3, None))[0]
    assert first.payload == b"\x20" + second.payload


def test_draining_takes_two_steps_and_serves_what_was_under_way() -> None:
    server = Server(nothing)
    server.feed(request(1))
    server.core.drain()
    server.core.drain()
    goaway, ping = server.frames()
    assert struct.unpack(">LL", goaway.payload) == (f.LARGEST_STREAM_ID, 0)
    server.feed(request(3))
    (goaway,) = server.feed(f.frame(f.PING, f.ACK, 0, ping.payload))
    assert struct.unpack(">LL", goaway.payload) == (3, 0)
    # What comes behind was told to go elsewhere: ignored, but decoded and counted.
    assert server.feed(opening(5) + data(5, b"x") + f.reset_frame(5, 8)) == []
    assert [c.stream.id for c in server.calls] == [1, 3]
    echo(server.calls[0])
    assert not server.core.ended
    echo(server.calls[1])
    assert server.core.ended
    assert server.ended_at_write
    assert server.core.failed is None


def test_the_answer_to_another_ping_is_not_the_second_step() -> None:
    server = Server(nothing)
    server.core.drain()
    server.frames()
    assert server.feed(f.frame(f.PING, f.ACK, 0, b"another?")) == []
    assert not server.core.ended
    server.feed(request(1))
    assert len(server.calls) == 1


def test_draining_does_not_wait_for_ever_for_the_second_step() -> None:
    server = Server()
    server.core.drain()
    for now_s in range(13):
        server.core.sweep(100.0 + now_s)
    assert server.core.ended
    assert server.core.failed is None


def test_draining_does_not_wait_long_for_a_greeting() -> None:
    server = Server(greeted=False)
    server.core.drain()
    assert [s.kind for s in server.frames()] == [f.SETTINGS, f.WINDOW_UPDATE, f.GOAWAY, f.PING]
    for now_s in (100.0, 101.0):
        server.core.sweep(now_s)
    assert not server.core.ended
    server.core.sweep(101.1)
    assert server.core.ended
    assert server.core.failed is None


def test_a_request_that_was_under_way_with_its_greeting_is_served_while_draining() -> None:
    server = Server(greeted=False)
    server.core.drain()
    server.core.sweep(100.0)
    server.feed(GREETING + request(1))
    server.core.sweep(105.0)
    assert [c.stream.id for c in server.calls] == [1]
    server.feed(f.frame(f.PING, f.ACK, 0, f.DRAINING))
    assert server.core.ended


@pytest.mark.parametrize("code", [Code.NO_ERROR, Code.ENHANCE_YOUR_CALM, 0xFF, 0xFFFFFFFF])
@pytest.mark.parametrize("busy", [False, True])
def test_a_client_that_leaves_is_told_goodbye_whatever_its_reason(code: int, busy: bool) -> None:
    """RFC 9113, section 7: codes that nobody knows mean nothing special; 6.8: GOAWAY goes before the end."""
    server = Server(nothing)
    sent = server.feed((request(1) if busy else b"") + f.goaway_frame(0, code, ""))
    assert server.core.ended is not busy
    for call in server.calls:
        echo(call)
        sent = server.frames()
        assert [s.kind for s in sent] == [f.HEADERS, f.HEADERS, f.GOAWAY], "behind the answer"
    assert struct.unpack(">LL", sent[-1].payload) == (1 if busy else 0, Code.NO_ERROR)
    assert server.ended_at_write
    assert server.core.failed is None


def test_closing_says_so_and_ends_all() -> None:
    server = Server(nothing)
    server.feed(request(1))
    server.core.close(Code.INTERNAL_ERROR)
    assert server.goaway() == (Code.INTERNAL_ERROR, b"")
    assert server.calls[0].is_gone
    server.feed(request(3))
    assert len(server.calls) == 1


def test_a_silent_client_is_asked_and_then_given_up() -> None:
    server = Server(nothing)
    server.feed(request(1))
    pings = 0
    for now_s in range(75):
        server.core.sweep(1000.0 + now_s)
        pings += [s.kind for s in server.frames()].count(f.PING)
    assert pings == 1
    assert not server.core.ended
    for now_s in range(75, 90):
        server.core.sweep(1000.0 + now_s)
    assert server.core.failed == "no sign of life"
    assert server.calls[0].is_gone


def test_a_client_that_answers_is_kept() -> None:
    server = Server()
    for now_s in range(600):
        server.core.sweep(1000.0 + now_s)
        for sent in server.frames():
            assert sent.kind == f.PING
            server.feed(f.frame(f.PING, f.ACK, 0, sent.payload))
    assert not server.core.ended


def test_answers_pile_up_only_so_far_before_the_transport_can_say_stop() -> None:
    """CVE-2019-9517: a window without bounds, many requests in one piece, and nothing read."""

    def large(call: Call) -> None:
        call.stream.answer(OK, [bytes(10_000)], STATUS)

    server = Server(large)
    server.feed(f.settings_frame({f.INITIAL_WINDOW_SIZE: 2**31 - 1}) + f.window_update_frame(0, 2**31 - 1 - 65535))
    written = server.writes
    server.feed(b"".join(request(2 * i + 1, None) for i in range(100)))
    assert written + 3 <= server.writes <= written + 10, "in large pieces all the same"


def test_a_lost_connection_does_not_wait_for_the_collector() -> None:
    server = Server(nothing)
    server.feed(request(1), opening(3), f.frame(f.PING, 0, 0, bytes(8)), b"\0\0\x10")
    server.core.drain()
    server.core.lost()
    core, stream = weakref.ref(server), server.calls[0].stream
    gc.disable()
    try:
        del server
        assert core() is None
    finally:
        gc.enable()
    stream.end(STATUS)


def test_while_the_transport_is_full_bodies_wait() -> None:
    server = Server()
    server.core.pause_writing()
    sent = server.feed(request(1, b"abc"))
    assert [s.kind for s in sent] == [f.HEADERS]
    assert server.core.streams == 1
    server.core.resume_writing()
    assert [s.kind for s in server.frames()] == [f.DATA, f.HEADERS]
    assert server.core.idle
