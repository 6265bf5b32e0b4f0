"""The HTTP connection alone: no socket, a transport in memory, and a handler that says what it got."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewright.runtime.server.http.connection import Connection
from edgewright.runtime.server.http.connections import Connections
from edgewright.runtime.server.http.messages import Request, Respond, Response
from edgewright.runtime.server.limits import Limits
from edgewright.runtime.server.refusal import Refusal

LIMITS = Limits(
    head_bytes=1000,
    headers=10,
    body_bytes=5000,
    total_body_bytes=8000,
    chunks=20,
    chunk_overhead_bytes=500,
    pipelined=4,
)


class MemoryTransport(asyncio.Transport):
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = bytearray()
        self.closed = False
        self.reading = True
        self.half_closed = False

    def write(self, data: Any) -> None:
        assert not self.closed
        self.written += data

    def writelines(self, parts: Any) -> None:
        for part in parts:
            self.write(part)

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.half_closed = True

    def close(self) -> None:
        self.closed = True

    abort = close

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True


class Peer:
    """A connection with its transport and a handler; `late` holds answers that are given by hand."""

    def __init__(self, *, answer_at_once: bool = True, limits: Limits = LIMITS) -> None:
        self.requests: list[Request] = []
        self.late: list[Callable[[], None]] = []
        self.at_once = answer_at_once
        self.connections = Connections(limits)
        self.transport = MemoryTransport()
        self.connection = Connection(self.handle, limits, self.connections)
        self.connection.connection_made(self.transport)

    def handle(self, request: Request, respond: Respond) -> None:
        self.requests.append(request)
        if request.target == b"/refuse":
            raise Refusal(404, "refused")
        if request.target == b"/bug":
            raise ZeroDivisionError
        response = Response(200, [request.target + b":" + bytes(request.body)])
        if self.at_once:
            respond(response)
        else:
            self.late.append(lambda: respond(response))

    def send(self, data: bytes, step: int | None = None) -> Peer:
        for start in range(0, len(data), step or max(len(data), 1)):
            self.connection.data_received(data[start : start + (step or len(data))])
        return self

    @property
    def answers(self) -> list[tuple[int, bytes]]:
        return parse_responses(bytes(self.transport.written))


def parse_responses(data: bytes) -> list[tuple[int, bytes]]:
    """Return status and body of each response; fails on anything that is not a whole response."""
    found = []
    while data:
        head, separator, rest = data.partition(b"\r\n\r\n")
        assert separator
        status = int(head.split(b" ")[1])
        lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        length = int(lengths[0].split(b":")[1]) if lengths else 0
        assert len(rest) >= length
        found.append((status, rest[:length]))
        data = rest[length:]
    return found


def post(target: bytes, body: bytes, extra: bytes = b"") -> bytes:
    return b"POST %b HTTP/1.1\r\nHost: a\r\n%bContent-Length: %d\r\n\r\n%b" % (target, extra, len(body), body)


def chunked(target: bytes, *chunks: bytes) -> bytes:
    parts = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)
    return b"POST %b HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n%b0\r\n\r\n" % (target, parts)


STREAM = post(b"/a", b"one") + b"GET /b?x=1 HTTP/1.1\r\n\r\n" + chunked(b"/c", b"two", b"three") + post(b"/d", b"")
ANSWERS = [(200, b"/a:one"), (200, b"/b?x=1:"), (200, b"/c:twothree"), (200, b"/d:")]


@pytest.mark.parametrize("step", [1, 2, 3, 7, 64, None])
def test_the_same_bytes_give_the_same_answers_however_they_are_cut(step: int | None) -> None:
    assert Peer().send(STREAM, step).answers == ANSWERS


def test_pipelined_requests_are_answered_in_order_one_at_a_time() -> None:
    peer = Peer(answer_at_once=False).send(STREAM)
    for done in range(4):
        assert len(peer.requests) == done + 1
        assert peer.answers == ANSWERS[:done]
        peer.late[done]()
    assert peer.answers == ANSWERS


@given(
    st.lists(st.tuples(st.sampled_from([b"/a", b"/b"]), st.sampled_from([b"one", b"two", b"longer"]), st.booleans()))
)
def test_a_head_that_comes_again_is_taken_as_the_parser_would(sent: list[tuple[bytes, bytes, bool]]) -> None:
    peer = Peer()
    for target, body, whole in sent:
        peer.send(post(target, body), None if whole else 7)
    assert peer.answers == [(200, target + b":" + body) for target, body, _ in sent]
    assert [bytes(request.body) for request in peer.requests] == [body for _, body, _ in sent]
    assert all(int(request.headers[b"content-length"]) == len(request.body) for request in peer.requests)
    peer.connection.connection_lost(None)
    assert peer.connections.hold(LIMITS.total_body_bytes), "what bodies held is given back"


def test_a_repeated_head_with_another_number_of_bytes_behind_it_is_parsed() -> None:
    request = post(b"/a", b"one")
    peer = Peer().send(request).send(request[:-1])
    assert len(peer.answers) == 1
    peer.send(request[-1:] + request + b"GE").send(b"T /b HTTP/1.1\r\n\r\n")
    assert peer.answers == [(200, b"/a:one")] * 3 + [(200, b"/b:")]


INFERENCES = [b"/%d/infer" % index for index in range(4)]


@given(st.permutations(range(4)))
def test_pipelined_inferences_run_together_and_are_answered_in_order(finishing: list[int]) -> None:
    peer = Peer(answer_at_once=False).send(b"".join(post(target, b"x") for target in INFERENCES))
    assert [request.target for request in peer.requests] == INFERENCES
    done: set[int] = set()
    for index in finishing:
        peer.late[index]()
        done.add(index)
        ready = next((place for place in range(4) if place not in done), 4)
        assert peer.answers == [(200, target + b":x") for target in INFERENCES[:ready]]


def test_what_is_no_inference_waits_for_what_came_before_and_holds_up_what_follows() -> None:
    change = post(b"/load", b"")
    peer = Peer(answer_at_once=False).send(post(INFERENCES[0], b"") + change + post(INFERENCES[1], b""))
    assert len(peer.requests) == 1
    peer.late[0]()
    assert len(peer.requests) == 2
    peer.late[1]()
    assert len(peer.requests) == 3


def test_nothing_is_begun_behind_an_inference_that_ends_the_connection() -> None:
    last = post(INFERENCES[0], b"", b"Connection: close\r\n")
    peer = Peer(answer_at_once=False).send(last + post(INFERENCES[1], b""))
    assert len(peer.requests) == 1
    peer.late[0]()
    assert (len(peer.requests), len(peer.answers), peer.transport.closed) == (1, 1, True)


def test_a_client_that_goes_is_told_to_whoever_works_on_its_requests() -> None:
    peer = Peer(answer_at_once=False).send(post(INFERENCES[0], b"") + post(INFERENCES[1], b""))
    gone: list[bytes] = []
    for request in peer.requests:
        request.on_gone = lambda target=request.target: gone.append(target)
    peer.late[0]()
    peer.connection.connection_lost(None)
    assert gone == [INFERENCES[1]]


def test_too_many_waiting_requests_stop_the_reading_until_they_are_answered() -> None:
    peer = Peer(answer_at_once=False).send(b"GET /x HTTP/1.1\r\n\r\n" * 6)
    assert not peer.transport.reading
    peer.late[0]()
    peer.late[1]()
    assert peer.transport.reading


def test_a_reader_that_is_slow_stops_the_answering() -> None:
    peer = Peer()
    peer.connection.pause_writing()
    peer.send(STREAM)
    assert peer.answers == []
    peer.connection.resume_writing()
    assert peer.answers == ANSWERS


def test_an_answer_given_twice_or_too_late_is_ignored() -> None:
    peer = Peer(answer_at_once=False).send(b"GET /x HTTP/1.1\r\n\r\nGET /y HTTP/1.1\r\n\r\n")
    peer.late[0]()
    peer.late[0]()
    assert peer.answers == [(200, b"/x:")]
    peer.connection.connection_lost(None)
    peer.late[1]()
    assert peer.answers == [(200, b"/x:")]


def test_the_body_is_aligned_for_the_tensors_behind_the_json() -> None:
    for json_length in range(40):
        extra = b"Inference-Header-Content-Length: %d\r\n" % json_length
        request = post(b"/t", b"j" * json_length + b"T" * 800, extra)
        peer = Peer().send(request, 100)
        import numpy as np

        tensor = np.frombuffer(peer.requests[0].body[json_length:], np.float64)
        assert tensor.flags.aligned


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nbad header\r\n\r\n", 400),
        (b"GET /\x01 HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/2.0\r\n\r\n", 505),
        (b"GET /" + b"x" * 1000 + b" HTTP/1.1\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 11 + b"\r\n", 431),
        (b"GET / HTTP/1.1\r\na: " + b"x" * 100_000, 431),
        (b"POST / HTTP/1.1\r\nContent-Length: 5001\r\n\r\n", 413),
        (b"POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: -5\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501),
        (b"POST / HTTP/1.1\r\nContent-Encoding: br\r\nContent-Length: 1\r\n\r\nx", 415),
        (b"POST / HTTP/1.1\r\nExpect: a miracle\r\nContent-Length: 1\r\n\r\nx", 417),
        (chunked(b"/", *[b"x"] * 21), 413),
        (chunked(b"/", b"x" * 3000, b"x" * 3000), 413),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1;" + b"e" * 2000, 413),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nt: " + b"e" * 2000, 413),
        (b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", 405),
    ],
)
@pytest.mark.parametrize("step", [1, 50, None])
def test_what_cannot_be_taken_is_refused_once_and_in_order(request_bytes: bytes, status: int, step: int | None) -> None:
    peer = Peer().send(post(b"/first", b"x") + request_bytes, step)
    if step is None and peer.answers[1:] == [] and not peer.transport.closed:
        peer.send(b"e" * 1100)  # a limit on what has not been parsed acts with the next piece
    assert [found for found, _ in peer.answers] == [200, status]
    assert json.loads(peer.answers[1][1])["error"]
    assert peer.transport.half_closed, "the answer must arrive before the connection is reset"
    peer.send(post(b"/later", b"x"))
    assert len(peer.answers) == 2


def test_a_refused_request_lingers_for_a_while_only() -> None:
    peer = Peer().send(b"nonsense\r\n\r\n")
    peer.connection.sweep(time.monotonic())
    assert not peer.transport.closed
    peer.connection.sweep(time.monotonic() + LIMITS.linger_s + 1)
    assert peer.transport.closed


def test_handler_errors_are_answers() -> None:
    peer = Peer().send(b"GET /refuse HTTP/1.1\r\n\r\nGET /bug HTTP/1.1\r\n\r\nGET /ok HTTP/1.1\r\n\r\n")
    assert [status for status, _ in peer.answers] == [404, 500, 200]
    assert "division" not in peer.answers[1][1].decode()


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
@pytest.mark.parametrize("wish", [b"", b"Connection: close\r\n", b"Connection: keep-alive\r\n"])
def test_the_connection_ends_when_the_client_says_so(version: bytes, wish: bytes) -> None:
    peer = Peer().send(b"GET /x HTTP/%b\r\n%b\r\n" % (version, wish))
    assert peer.transport.closed == (b"close" in wish or (version == b"1.0" and not wish))


def test_100_continue_is_sent_when_its_turn_comes() -> None:
    head = b"POST /x HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n"
    peer = Peer(answer_at_once=False).send(b"GET /first HTTP/1.1\r\n\r\n" + head)
    assert peer.answers == []
    peer.late[0]()
    assert peer.answers == [(200, b"/first:"), (100, b"")]
    peer.send(b"abc")
    peer.late[1]()
    assert peer.answers[2:] == [(200, b"/x:abc")]
    assert Peer().send(b"POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 9000\r\n\r\n").answers[0][0] == 413


@pytest.mark.parametrize("step", [1, None])
def test_an_offer_to_upgrade_is_ignored(step: int | None) -> None:
    head = b"POST /x HTTP/1.1\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nContent-Length: 3\r\n\r\nabc"
    assert Peer().send(head + post(b"/y", b"z"), step).answers == [(200, b"/x:abc"), (200, b"/y:z")]


def test_all_bodies_together_have_a_limit_and_are_given_back() -> None:
    peer, other = Peer(answer_at_once=False), Peer()
    other.connection = Connection(other.handle, LIMITS, peer.connections)
    other.connection.connection_made(other.transport)
    peer.send(post(b"/x", b"a" * 5000))
    other.send(post(b"/x", b"a" * 5000))
    assert [status for status, _ in other.answers] == [503]
    peer.late[0]()
    third = Peer()
    third.connection = Connection(third.handle, LIMITS, peer.connections)
    third.connection.connection_made(third.transport)
    assert third.send(post(b"/x", b"a" * 5000)).answers[0][0] == 200


def test_time_ends_what_takes_too_long() -> None:
    now_s = time.monotonic()
    slow = Peer().send(b"GET / HT")
    slow.connection.sweep(now_s + 61)
    assert [status for status, _ in slow.answers] == [408]
    idle = Peer().send(b"GET / HTTP/1.1\r\n\r\n")
    idle.connection.sweep(now_s + 70)
    assert not idle.transport.closed
    idle.connection.sweep(now_s + 80)
    assert idle.transport.closed
    busy = Peer(answer_at_once=False).send(b"GET / HTTP/1.1\r\n\r\n")
    busy.connection.sweep(now_s + 1000)
    assert not busy.transport.closed


def test_a_draining_connection_answers_what_it_has_and_closes() -> None:
    busy = Peer(answer_at_once=False).send(b"GET /x HTTP/1.1\r\n\r\n")
    busy.connection.drain()
    busy.late[0]()
    assert busy.answers == [(200, b"/x:")]
    assert busy.transport.closed
    assert b"connection: close" in busy.transport.written
    quiet = Peer()
    quiet.connection.drain()
    quiet.connection.sweep(time.monotonic() + 1)
    assert quiet.transport.closed


def test_a_client_that_half_closes_still_gets_its_answer() -> None:
    peer = Peer(answer_at_once=False).send(b"GET /x HTTP/1.1\r\n\r\n")
    assert peer.connection.eof_received()
    peer.late[0]()
    assert peer.answers == [(200, b"/x:")]
    assert peer.transport.closed


PIECES = st.sampled_from(
    [
        b"GET ",
        b"POST ",
        b"/v2 ",
        b"HTTP/1.1\r\n",
        b"\r\n",
        b"\r\n\r\n",
        b"Content-Length: 3\r\n",
        b"abc",
        b"0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Connection: close\r\n",
        b"Upgrade: x\r\nConnection: upgrade\r\n",
        b"3\r\nabc\r\n",
        b"Expect: 100-continue\r\n",
        b"\x00",
        b"\xff\xfe",
        b"Inference-Header-Content-Length: 1\r\n",
        b"x" * 600,
    ]
)


@given(st.lists(st.one_of(PIECES, st.binary(max_size=20)), max_size=30))
def test_whatever_comes_in_only_whole_responses_go_out(pieces: list[bytes]) -> None:
    peer = Peer()
    for piece in pieces:
        if not peer.transport.closed:
            peer.send(piece)
    for status, body in peer.answers:
        assert status in {100, 200} or msgspec.json.decode(body)["error"]
    peer.connection.connection_lost(None)
    assert len(peer.connections) == 0


INFER = b"POST /v2/models/m/infer HTTP/1.1\r\ncontent-length: 1000\r\n\r\n" + bytes(1000)


def test_a_client_that_is_never_idle_holds_only_what_is_not_answered() -> None:
    """Otherwise its bodies would add up to the limit of all connections, and everybody would be refused."""
    peer = Peer(answer_at_once=False).send(INFER)
    for _ in range(40):
        peer.send(INFER)
        peer.late.pop(0)()
    assert {status for status, _ in peer.answers} == {200}
    peer.late.pop(0)()
    assert peer.connections.hold(LIMITS.total_body_bytes), "all was given back"


def test_a_stranger_is_refused_before_a_large_body_is_read() -> None:
    peer = Peer(limits=Limits())
    peer.connections.admits = lambda target, headers: Refusal(401, f"{target!r} needs a token, not {len(headers)}")
    peer.connection = Connection(peer.handle, Limits(), peer.connections)
    peer.connection.connection_made(peer.transport)
    peer.send(b"POST /a HTTP/1.1\r\ncontent-length: 60000000\r\n\r\n")
    assert [status for status, _ in peer.answers] == [401]
    assert peer.transport.half_closed
