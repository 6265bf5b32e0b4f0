"""Flow control in both directions (RFC 9113, section 5.2)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewright.runtime.server.http2 import frames as f
from edgewright.runtime.server.http2.faults import Code
from edgewright.runtime.server.http2.limits import Http2Limits
from edgewright.runtime.server.http2.windows import ReceiveWindow
from tests.runtime.server.http2.client import (
    OK,
    STATUS,
    Server,
    cut,
    data,
    nothing,
    opening,
    request,
    resets,
)

SMALL = Http2Limits(stream_window_bytes=65535, connection_window_bytes=100_000)


@given(st.lists(st.integers(0, 50_000), max_size=50))
def test_a_client_that_is_given_back_all_can_always_go_on(sizes: list[int]) -> None:
    window = ReceiveWindow(100_000)
    left = 100_000
    for size in sizes:
        assert window.take(size)
        left += window.give_back(size) - size
        assert left >= 50_000


@given(st.lists(st.tuples(st.integers(0, 70_000), st.booleans()), max_size=50))
def test_a_client_that_sends_more_than_was_announced_is_found(steps: list[tuple[int, bool]]) -> None:
    window = ReceiveWindow(100_000)
    left = 100_000
    for size, gives_back in steps:
        left -= size
        assert window.take(size) == (left >= 0)
        if left < 0:
            return
        left += window.give_back(size) if gives_back else 0


def test_more_than_the_window_of_a_stream_resets_it() -> None:
    server = Server(nothing, SMALL, gives_back=False)
    sent = server.feed(opening(1), *[data(1, bytes(16384))] * 4)
    assert resets(sent) == [(1, Code.FLOW_CONTROL_ERROR)]
    assert server.calls[0].is_gone


def test_more_than_the_window_of_the_connection_ends_it() -> None:
    server = Server(nothing, SMALL, gives_back=False)
    for stream_id in (1, 3, 5):
        server.feed(opening(stream_id), *[data(stream_id, bytes(16000))] * 3)
    goaway = server.goaway()
    assert goaway is not None
    assert goaway[0] == Code.FLOW_CONTROL_ERROR


def test_what_a_stream_held_is_given_back_when_it_is_over() -> None:
    server = Server(nothing, SMALL, gives_back=False)
    for stream_id in range(1, 41, 2):
        server.feed(opening(stream_id), data(stream_id, bytes(16000)))
        if stream_id % 3:
            server.feed(f.reset_frame(stream_id, Code.CANCEL))
        else:
            server.calls[-1].stream.end(STATUS)
    assert not server.core.ended


def test_padding_counts_and_is_given_back() -> None:
    server = Server(nothing, SMALL)
    server.feed(opening(1))
    padded = f.frame(f.DATA, f.PADDED, 1, b"\xff" + b"x" * 300 + bytes(255))
    only = f.frame(f.DATA, f.PADDED, 1, b"\xff" + bytes(255))
    for _ in range(1000):
        server.feed(padded, only)
    assert not server.core.ended
    assert server.calls[0].body == b"x" * 300_000


def test_a_large_answer_waits_for_the_windows_and_streams_take_turns() -> None:
    server = Server()
    body = bytes(range(256)) * 400
    widened = b"".join(f.window_update_frame(stream_id, 1 << 20) for stream_id in (1, 3))
    sent = server.feed(request(1, body), request(3, body), widened)
    got = {1: b"", 3: b""}
    order = []
    while True:
        for s in sent:
            if s.kind == f.DATA:
                got[s.stream_id] += s.payload
                order.append(s.stream_id)
        if server.core.idle:
            break
        sent = server.feed(f.window_update_frame(0, 10_000))
    assert got == {1: body, 3: body}
    assert order[6:11] in ([1, 3, 1, 3, 1], [3, 1, 3, 1, 3])


def test_settings_change_the_windows_of_open_streams_and_may_make_them_negative() -> None:
    server = Server()
    server.feed(f.window_update_frame(0, 1 << 20), request(1, bytes(100_000)))
    server.feed(f.settings_frame({f.INITIAL_WINDOW_SIZE: 0}))  # now at -65 535
    assert [s.kind for s in server.feed(f.window_update_frame(1, 65_535))] == []
    sent = server.feed(f.window_update_frame(1, 1))
    assert [len(s.payload) for s in sent] == [1]
    sent = server.feed(f.settings_frame({f.INITIAL_WINDOW_SIZE: 100_000}))
    assert sum(len(s.payload) for s in sent if s.kind == f.DATA) == 100_000 - 65_535 - 1
    assert server.core.idle


def test_windows_beyond_2_31() -> None:
    server = Server(nothing)
    server.feed(request(1))
    assert resets(server.feed(f.window_update_frame(1, 2**31 - 1))) == [(1, Code.FLOW_CONTROL_ERROR)]
    server.feed(f.window_update_frame(0, 2**31 - 1))
    goaway = server.goaway()
    assert goaway is not None
    assert goaway[0] == Code.FLOW_CONTROL_ERROR


def test_a_setting_that_widens_an_open_stream_beyond_2_31() -> None:
    server = Server(nothing)
    server.feed(request(1), f.window_update_frame(1, 100), f.settings_frame({f.INITIAL_WINDOW_SIZE: 2**31 - 1}))
    goaway = server.goaway()
    assert goaway is not None
    assert goaway[0] == Code.FLOW_CONTROL_ERROR


def test_a_writer_is_told_when_it_can_go_on() -> None:
    server = Server(nothing)
    server.feed(request(1))
    stream = server.calls[0].stream
    called: list[bool] = []
    stream.begin(OK)
    stream.send([bytes(65535)])
    assert stream.writable
    stream.send([bytes(100_000)])
    assert not stream.writable
    stream.on_writable(lambda: called.append(stream.writable))
    assert called == []
    server.feed(f.window_update_frame(0, 100_000), f.window_update_frame(1, 99_999))
    assert called == [], "one byte that waits keeps all of its message in memory"
    server.feed(f.window_update_frame(1, 1))
    assert called == [True]
    stream.end(STATUS)
    assert server.core.idle


def test_what_goes_out_at_once_is_what_both_windows_and_the_transport_take() -> None:
    server = Server(nothing)
    server.feed(request(1), f.settings_frame({f.INITIAL_WINDOW_SIZE: 70_000}))
    stream = server.calls[0].stream
    assert [stream.takes(size) for size in (65_535, 65_536)] == [True, False]
    server.feed(f.window_update_frame(0, 10_000))
    assert [stream.takes(size) for size in (70_000, 70_001)] == [True, False]
    server.core.pause_writing()
    assert not stream.takes(1)
    server.core.resume_writing()
    stream.begin(OK)
    stream.send([bytes(70_001)])
    assert not stream.takes(0), "behind what waits"


def test_a_request_that_is_answered_does_not_take_the_window_of_others() -> None:
    """Its answer waits for the client, which sends on: nobody takes that, but the connection's window is for all."""
    server = Server(nothing, Http2Limits(stream_window_bytes=65_535, connection_window_bytes=100_000))
    server.feed(f.settings_frame({f.INITIAL_WINDOW_SIZE: 0}), opening(1), opening(3))
    server.calls[0].stream.answer(OK, [b"early"], STATUS)
    sent = [s for _ in range(4) for s in server.feed(data(1, bytes(16_000)))]
    assert [s.stream_id for s in sent if s.kind == f.WINDOW_UPDATE] == [0], "its own window is not given again"
    for _ in range(4):
        sent += server.feed(data(3, bytes(16_000)))
    assert len(server.calls[1].body) == 64_000
    assert not server.core.ended


def test_a_writer_that_goes_on_from_the_call_is_no_recursion() -> None:
    server = Server(nothing)
    server.feed(request(1))
    stream = server.calls[0].stream
    parts = 0

    def more() -> None:
        nonlocal parts
        while parts < 500 and stream.writable:
            parts += 1
            stream.send([bytes(10_000)])
        if parts < 500:
            stream.on_writable(more)
        else:
            stream.end(STATUS)

    stream.begin(OK)
    more()
    got = 0
    while not server.core.idle:
        got += sum(len(s.payload) for s in server.frames() if s.kind == f.DATA)
        server.core.feed(f.window_update_frame(0, 50_000) + f.window_update_frame(1, 50_000))
    got += sum(len(s.payload) for s in server.frames() if s.kind == f.DATA)
    assert got == 5_000_000


def test_what_comes_behind_a_reset_takes_no_window_of_the_connection() -> None:
    server = Server(nothing, SMALL)
    server.feed(opening(1))
    server.calls[0].stream.reset(Code.CANCEL)
    for _ in range(20):
        server.feed(data(1, bytes(16_000)))
    assert server.core.failed is None


@pytest.mark.parametrize("drip_bytes", [0, 1, 1000])
def test_a_client_that_takes_next_to_nothing_of_its_answer_loses_the_stream(drip_bytes: int) -> None:
    server = Server()
    server.feed(f.settings_frame({f.INITIAL_WINDOW_SIZE: 10}), request(1, bytes(65_000)), request(3, bytes(65_000)))
    for now_s in range(100):
        server.core.sweep(500.0 + now_s)
        server.feed(f.frame(f.PING, f.ACK, 0, bytes(8)))
        if drip_bytes and now_s <= 62:
            server.feed(f.window_update_frame(1, drip_bytes))
    assert (1, Code.CANCEL) in resets(list(cut(bytes(server.raw))))
    assert server.core.idle


def test_a_client_that_takes_its_answer_slowly_gets_it() -> None:
    server = Server(nothing)
    server.feed(request(1))
    server.calls[0].stream.answer(OK, [bytes(1_000_000)], STATUS)
    for now_s in range(700):
        server.core.sweep(500.0 + now_s)
        server.feed(f.window_update_frame(0, 1500), f.window_update_frame(1, 1500))
    assert resets(list(cut(bytes(server.raw)))) == []
    assert server.core.idle
