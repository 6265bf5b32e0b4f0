"""Known attacks on HTTP/2, each with what the server does against it. Bounds are in frames, not in seconds."""

from __future__ import annotations

import struct
import tracemalloc
from collections.abc import Callable, Iterator
from itertools import count

import pytest

from edgewright.runtime.server.http2 import frames as f
from edgewright.runtime.server.http2.faults import Code
from edgewright.runtime.server.http2.headers import encode
from edgewright.runtime.server.http2.limits import Http2Limits
from tests.runtime.server.http2.client import (
    REQUEST,
    Server,
    data,
    echo,
    nothing,
    opening,
    request,
    resets,
)

PING = f.frame(f.PING, 0, 0, b"12345678")


def frames_until_calm(server: Server, flood: Iterator[bytes], at_most: int) -> int:
    """Return how many frames (or groups of them) it took until the server told the client to calm down."""
    for number in range(at_most):
        server.core.feed(next(flood))
        if server.core.ended:
            goaway = server.goaway()
            assert goaway is not None
            assert goaway[0] == Code.ENHANCE_YOUR_CALM
            return number
    pytest.fail(f"{at_most} frames were not too many")


def always(frame: bytes) -> Iterator[bytes]:
    while True:
        yield frame


def stream_ids() -> Iterator[int]:
    return count(1, 2)


FLOODS: dict[str, Callable[[], Iterator[bytes]]] = {
    "settings (CVE-2019-9515)": lambda: always(f.settings_frame({})),
    "settings acknowledged": lambda: always(f.frame(f.SETTINGS, f.ACK, 0)),
    "ping acknowledged": lambda: always(f.frame(f.PING, f.ACK, 0, bytes(8))),
    "priority (CVE-2019-9513)": lambda: always(f.frame(f.PRIORITY, 0, 1, bytes(5))),
    "window updates of the connection": lambda: always(f.window_update_frame(0, 1)),
    "unknown frames": lambda: always(f.frame(0x77, 0, 0, b"x")),
    "goaway": lambda: always(f.goaway_frame(0, 0, "")),
}


@pytest.mark.parametrize("name", FLOODS)
def test_frames_of_the_connection_that_bring_nothing(name: str) -> None:
    server = Server(nothing)
    server.core.feed(opening(1))
    assert frames_until_calm(server, FLOODS[name](), 2100) > 500
    assert server.calls[0].is_gone


def test_pings_without_data() -> None:
    server = Server()
    assert frames_until_calm(server, always(PING), 10) == 4
    assert server.goaway() == (Code.ENHANCE_YOUR_CALM, b"too_many_pings")


def test_pings_by_the_rules_and_pings_with_data_go_on_for_ever() -> None:
    server = Server()
    for now_s in range(0, 3000, 10):
        server.core.sweep(100.0 + now_s)
        server.core.feed(PING)
    for stream_id in range(1, 4001, 2):  # gRPC's bandwidth probes: one behind each message
        server.core.feed(request(stream_id, b"abc") + f.window_update_frame(0, 300) + PING)
    assert not server.core.ended


NEXT_TO_NOTHING = [data(1, b""), data(1, b"x"), f.window_update_frame(1, 1), f.frame(f.DATA, f.PADDED, 1, b"\x01\0")]


@pytest.mark.parametrize("frame", NEXT_TO_NOTHING)
def test_frames_of_a_stream_that_bring_nothing_or_next_to_it(frame: bytes) -> None:
    """Empty DATA (CVE-2019-9518), crumbs, and nothing but padding."""
    server = Server(nothing)
    server.core.feed(opening(1))
    frames_until_calm(server, always(frame), 2100)


def test_an_answer_that_is_taken_byte_by_byte() -> None:
    """CVE-2019-9511: a large answer through a window of one byte."""
    server = Server(echo)
    server.core.feed(f.settings_frame({f.INITIAL_WINDOW_SIZE: 0}) + request(1, bytes(60_000)))
    frames_until_calm(server, always(f.window_update_frame(1, 1)), 2100)


def test_a_window_that_is_opened_and_shut() -> None:
    server = Server(echo)
    server.core.feed(request(1, bytes(100_000)))
    toggled = f.settings_frame({f.INITIAL_WINDOW_SIZE: 0}) + f.settings_frame({f.INITIAL_WINDOW_SIZE: 65_535})
    frames_until_calm(server, always(toggled), 1100)


def test_settings_that_repeat_one_setting_cost_by_their_length() -> None:
    server = Server(nothing)
    many = f.frame(f.SETTINGS, 0, 0, struct.pack(">HL", f.INITIAL_WINDOW_SIZE, 1) * 2730)
    assert frames_until_calm(server, always(many), 50) < 40


def test_rapid_reset() -> None:
    """CVE-2023-44487."""
    server = Server(nothing)
    flood = (opening(stream_id) + f.reset_frame(stream_id, Code.CANCEL) for stream_id in stream_ids())
    assert frames_until_calm(server, flood, 1100) > 500
    assert server.core.streams == 0


def test_resets_beside_honest_work_go_on_for_ever() -> None:
    server = Server(lambda call: echo(call) if call.stream.id % 4 == 1 else None)
    for stream_id in range(1, 20_000, 4):
        server.core.feed(request(stream_id, b"abc") + f.window_update_frame(0, 300))
        server.core.feed(request(stream_id + 2, b"abc") + f.reset_frame(stream_id + 2, Code.CANCEL))
    assert not server.core.ended


PROVOKED: dict[str, Callable[[int], bytes]] = {
    "malformed request": lambda i: f.frame(f.HEADERS, 5, i, b"\x83"),
    "window of 0": lambda i: opening(i) + f.window_update_frame(i, 0),
    "window beyond 2^31": lambda i: opening(i) + f.window_update_frame(i, 2**31 - 1),
    "data behind the end": lambda i: request(i, None) + data(i, bytes(300)),
    "headers behind the end": lambda i: request(i, None) + request(i, None),
    "too long a body": lambda i: opening(i, (*REQUEST, (b"content-length", b"1"))) + data(i, bytes(300)),
    "too short a body": lambda i: opening(i, (*REQUEST, (b"content-length", b"1"))) + data(i, b"", ends=True),
    "data of a stream that is over": lambda i: opening(i) + f.reset_frame(i, 8) + data(i, bytes(300)),
}


@pytest.mark.parametrize("name", PROVOKED)
def test_resets_that_the_client_provokes_are_its_own(name: str) -> None:
    """CVE-2025-8671, "MadeYouReset"."""
    server = Server(nothing)
    flood = (PROVOKED[name](stream_id) for stream_id in stream_ids())
    assert frames_until_calm(server, flood, 1100) > 300
    assert server.core.streams == 0
    assert all(call.is_gone for call in server.calls)


def test_resets_that_the_client_provokes_where_somebody_else_makes_them() -> None:
    server = Server(lambda call: call.stream.reset(Code.INTERNAL_ERROR))
    frames_until_calm(server, (request(stream_id, b"") for stream_id in stream_ids()), 1100)


def test_too_many_streams_at_one_time() -> None:
    server = Server(nothing, Http2Limits(streams=3))
    sent = server.feed(*[opening(stream_id) for stream_id in (1, 3, 5, 7)])
    assert resets(sent) == [(7, Code.REFUSED_STREAM)]
    assert server.core.streams == len(server.calls) == 3
    frames_until_calm(server, (opening(2 * i + 9) for i in count()), 1100)


def test_continuation_without_end() -> None:
    """CVE-2024-27316: neither large nor empty ones go on for ever."""
    for fragment in (b"", b"\x00\x01a\x01b", bytes(8000)):
        server = Server(nothing)
        server.core.feed(f.frame(f.HEADERS, 0, 1, b"\x83"))
        frames_until_calm(server, always(f.frame(f.CONTINUATION, 0, 1, fragment)), 8200)
        assert server.calls == []


def test_a_head_that_is_never_finished() -> None:
    for piece in (f.frame(f.HEADERS, 0, 1, b"\x83"), b"\x00", f.frame(f.DATA, 0, 1, bytes(100))[:50]):
        server = Server(nothing)
        server.core.feed(opening(1))
        server.core.feed(piece if piece[3:4] != b"\x01" else f.frame(f.HEADERS, 0, 3, b"\x83"))
        for now_s in range(30):
            server.core.sweep(100.0 + now_s)
        assert server.core.ended
        assert server.calls[0].is_gone


@pytest.mark.parametrize(
    "pieces", [[], [b"PRI"], [f.PREFACE], [f.PREFACE, f.settings_frame({})], [f.PREFACE, f.settings_frame({}), PING]]
)
def test_a_client_that_never_says_hello(pieces: list[bytes]) -> None:
    server = Server(greeted=False)
    for piece in pieces:
        server.core.feed(piece)
    for now_s in range(13):
        server.core.sweep(100.0 + now_s)
    assert server.core.ended
    goaway = server.goaway()
    assert goaway is not None
    assert goaway[0] == Code.SETTINGS_TIMEOUT


def test_heads_that_take_long_to_decode() -> None:
    server = Server(echo)
    heads = ((*REQUEST, (b"x-a", b"%06d" % number * 2500)) for number in stream_ids())
    flood = (
        request(number, b"x", head) + f.window_update_frame(0, 300) for number, head in enumerate(heads) if number & 1
    )
    frames_until_calm(server, flood, 1000)


def test_honest_tokens_are_no_flood() -> None:
    server = Server(echo)
    for stream_id in range(1, 10_001, 2):
        token = (*REQUEST, (b"authorization", b"%06d" % stream_id * 600))
        server.core.feed(request(stream_id, b"x", token) + f.window_update_frame(0, 300))
    assert not server.core.ended


def test_streams_that_wait_and_are_reset_leave_nothing() -> None:
    server = Server(echo)
    server.core.feed(b"".join(request(stream_id, bytes(16_000)) for stream_id in (1, 3, 5, 7, 9)))
    for stream_id in range(11, 1000, 2):
        server.core.feed(request(stream_id, b"x") + f.reset_frame(stream_id, Code.CANCEL))
    assert len(server.core._sending._waiting) <= server.core.streams == 1


def test_a_header_list_that_is_a_little_too_large_is_refused_and_a_bomb_ends_the_connection() -> None:
    server = Server(nothing, Http2Limits(head_bytes=4096))
    sent = server.feed(opening(1, (*REQUEST, (b"x-a", bytes(b"a" * 3990)))))
    assert sent[0].payload == b"\x08\x03431"
    assert server.calls == []
    assert not server.core.ended
    # One entry of the dynamic table, named by one byte, again and again.
    bomb = b"\x83\x86\x84\x40\x03x-a\x7f\xa1\x0f" + b"b" * 2000 + b"\xbe" * 1000
    server.feed(f.frame(f.HEADERS, 4, 3, bomb))
    goaway = server.goaway()
    assert goaway is not None
    assert goaway[0] == Code.COMPRESSION_ERROR


def test_too_many_header_fields_are_refused() -> None:
    server = Server(nothing)
    sent = server.feed(request(1, None, (*REQUEST, *[(b"a", b"b")] * 97)))
    assert sent[0].payload == b"\x08\x03431"
    assert server.calls == []


CONNECTION_ERRORS: dict[str, tuple[bytes, Code]] = {
    "too large a frame": (f.frame(f.DATA, 0, 1, bytes(16385)), Code.FRAME_SIZE_ERROR),
    "data of an idle stream": (data(99, b"x"), Code.PROTOCOL_ERROR),
    "data of stream 0": (data(0, b"x"), Code.PROTOCOL_ERROR),
    "reset of an idle stream": (f.reset_frame(99, 8), Code.PROTOCOL_ERROR),
    "window of an idle stream": (f.window_update_frame(99, 8), Code.PROTOCOL_ERROR),
    "window of 0": (f.window_update_frame(0, 0), Code.PROTOCOL_ERROR),
    "window update of 3 bytes": (f.frame(f.WINDOW_UPDATE, 0, 0, b"abc"), Code.FRAME_SIZE_ERROR),
    "reset of 3 bytes": (f.frame(f.RST_STREAM, 0, 1, b"abc"), Code.FRAME_SIZE_ERROR),
    "ping of 7 bytes": (f.frame(f.PING, 0, 0, bytes(7)), Code.FRAME_SIZE_ERROR),
    "ping of a stream": (f.frame(f.PING, 0, 1, bytes(8)), Code.PROTOCOL_ERROR),
    "settings of a stream": (f.frame(f.SETTINGS, 0, 1), Code.PROTOCOL_ERROR),
    "settings of 5 bytes": (f.frame(f.SETTINGS, 0, 0, bytes(5)), Code.FRAME_SIZE_ERROR),
    "settings acknowledged with a payload": (f.frame(f.SETTINGS, f.ACK, 0, bytes(6)), Code.FRAME_SIZE_ERROR),
    "push of 2": (f.settings_frame({f.ENABLE_PUSH: 2}), Code.PROTOCOL_ERROR),
    "initial window of 2^31": (f.settings_frame({f.INITIAL_WINDOW_SIZE: 2**31}), Code.FLOW_CONTROL_ERROR),
    "largest frame too small": (f.settings_frame({f.MAX_FRAME_SIZE: 1}), Code.PROTOCOL_ERROR),
    "priority of stream 0": (f.frame(f.PRIORITY, 0, 0, bytes(5)), Code.PROTOCOL_ERROR),
    "push promise": (f.frame(f.PUSH_PROMISE, 4, 1, bytes(4)), Code.PROTOCOL_ERROR),
    "continuation of nothing": (f.frame(f.CONTINUATION, 4, 1), Code.PROTOCOL_ERROR),
    "continuation of another": (f.frame(f.HEADERS, 0, 3) + f.frame(f.CONTINUATION, 4, 5), Code.PROTOCOL_ERROR),
    "something between": (f.frame(f.HEADERS, 0, 3) + PING, Code.PROTOCOL_ERROR),
    "headers on stream 0": (f.frame(f.HEADERS, 5, 0, b"\x83"), Code.PROTOCOL_ERROR),
    "headers on stream 0, unfinished": (f.frame(f.HEADERS, 0, 0, b"\x83"), Code.PROTOCOL_ERROR),
    "an even stream": (request(2), Code.PROTOCOL_ERROR),
    "streams out of order": (request(9) + request(7), Code.STREAM_CLOSED),
    "priority of 4 bytes": (f.frame(f.PRIORITY, 0, 1, bytes(4)), Code.FRAME_SIZE_ERROR),
    "padding beyond the data": (f.frame(f.DATA, f.PADDED, 1, b"\x05abc"), Code.PROTOCOL_ERROR),
    "padding without its length": (f.frame(f.DATA, f.PADDED, 1, b""), Code.PROTOCOL_ERROR),
    "padding beyond the head": (f.frame(f.HEADERS, 0xC, 3, b"\x05abc"), Code.PROTOCOL_ERROR),
    "priority cut off": (f.frame(f.HEADERS, 0x24, 3, b"\x05ab"), Code.FRAME_SIZE_ERROR),
    "no HPACK": (f.frame(f.HEADERS, 5, 3, b"\x80"), Code.COMPRESSION_ERROR),
    "an index beyond the table": (f.frame(f.HEADERS, 5, 3, b"\xff\xff\x01"), Code.COMPRESSION_ERROR),
    "an integer without end": (f.frame(f.HEADERS, 5, 3, b"\xff" * 100), Code.COMPRESSION_ERROR),
    "too large a table": (f.frame(f.HEADERS, 5, 3, b"\x3f\xff\xff\x03\x83"), Code.COMPRESSION_ERROR),
    "bad Huffman": (f.frame(f.HEADERS, 5, 3, b"\x83\x86\x44\x84\xff\xff\xff\xff"), Code.COMPRESSION_ERROR),
}


@pytest.mark.parametrize("name", CONNECTION_ERRORS)
def test_what_ends_the_connection(name: str) -> None:
    server = Server(nothing)
    server.core.feed(opening(1))
    server.core.feed(CONNECTION_ERRORS[name][0])
    goaway = server.goaway()
    assert goaway is not None
    assert goaway[0] == CONNECTION_ERRORS[name][1]
    assert server.core.failed
    assert server.calls[0].is_gone
    assert server.ended_at_write
    server.core.feed(request(11))
    assert len([c for c in server.calls if c.stream.id == 11]) == 0


def test_a_head_that_drips_in_by_continuations_is_not_waited_for() -> None:
    server = Server(nothing)
    server.feed(f.frame(f.HEADERS, 0, 1, encode(REQUEST)))
    for now_s in range(30):
        server.core.sweep(100.0 + now_s)
        server.feed(f.frame(f.CONTINUATION, 0, 1))
    assert server.core.failed is not None
    assert "not completed in time" in server.core.failed


def test_frames_that_come_in_pieces_are_waited_for_as_long_as_others_get_complete() -> None:
    server = Server(nothing)
    server.feed(opening(1))
    piece = data(1, bytes(300))
    server.feed(piece[:100])
    for now_s in range(100):
        server.core.sweep(100.0 + now_s)
        server.feed(piece[100:] + piece[:100])
    assert server.core.failed is None


def test_what_is_remembered_of_heads_takes_little_memory_however_small_they_are() -> None:
    """The objects of a field are larger than its letters: an attacker has as many as fit, on each connection."""
    server = Server(echo)
    names = [b"%c%c" % (97 + i // 26, 97 + i % 26) for i in range(600)]
    tracemalloc.start()
    try:
        for number, name in enumerate(names):
            fields = (*REQUEST, *((other, b"value") for other in names[:40]), (name, b"%d" % number))
            server.feed(request(2 * number + 1, None, fields))
            server.calls.clear()
            server.raw.clear()
            server.frames()
        held_bytes = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert server.core.failed is None
    assert held_bytes < 180 * 1024
