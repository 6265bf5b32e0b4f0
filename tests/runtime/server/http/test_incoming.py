"""The requests in the bytes: what is taken as a head that came before must be what the parser would make of it."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewright.runtime.server.http.incoming import Incoming
from edgewright.runtime.server.http.messages import Request
from edgewright.runtime.server.limits import Limits
from edgewright.runtime.server.refusal import Refusal

HEAD = b"POST /a HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n"


def arrived(*pieces: bytes) -> list[tuple[bytes, bytes] | int]:
    """Return target and body of each request, and the status of a refusal."""
    incoming = Incoming(Limits(), lambda size: size >= 0)
    for piece in pieces:
        if incoming.refusal is None:
            incoming.feed(piece)
    return [item.status if isinstance(item, Refusal) else (item.target, bytes(item.body)) for item in incoming.arrived]


def test_a_line_end_behind_a_body_that_begins_with_one_is_not_taken_for_the_end_of_a_head() -> None:
    """A repeated head that swallowed the first bytes of the body would read the next request as a part of it."""
    head = HEAD % 4
    first, second = head + b"\r\nab" + b"\r\n", head + b"\r\ncdGE"
    assert arrived(first, second, b"T /b HTTP/1.1\r\n\r\n") == [
        (b"/a", b"\r\nab"),
        (b"/a", b"\r\ncd"),
        (b"/b", b""),
    ]


BODIES = st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", b"a", b"GET / HTTP/1.1\r\n\r\n"]), max_size=5).map(b"".join)
ENDS = st.sampled_from([b"", b"", b"\r\n", b"\r\n\r\n"])


@given(st.lists(st.tuples(BODIES, ENDS), min_size=1, max_size=6), st.integers(1, 9))
def test_in_one_piece_each_or_in_small_ones_it_is_the_same(messages: list[tuple[bytes, bytes]], size: int) -> None:
    pieces = [HEAD % len(body) + body + end for body, end in messages]
    whole = b"".join(pieces)
    small = [whole[start : start + size] for start in range(0, len(whole), size)]
    assert arrived(*pieces) == arrived(*small) == [(b"/a", body) for body, _ in messages]


@pytest.mark.parametrize(
    "fields",
    [
        b"content-length: 4\r\ntransfer-encoding: chunked",
        b"transfer-encoding: chunked\r\ncontent-length: 4",
        b"content-length: 4\r\ncontent-length: 4",
        b"content-length: 4, 4",
        b"content-length: +4",
        b"content-length : 4",
        b"content-length:\r\n 4",
        b"transfer-encoding:\r\n chunked",
        b"transfer-encoding: chunked\r\n , identity",
        b"transfer-encoding: identity\r\ncontent-length: 4",
        b"transfer-encoding: chunked\r\ntransfer-encoding: chunked",
        b"transfer-encoding:\x0bchunked",
        b"authorization: Bearer\r\n folded\r\ncontent-length: 4",
        b"x-a: b\ncontent-length: 4",
        b"x-a: b\rcontent-length: 4",
        b"x-a: b\0c\r\ncontent-length: 4",
        b"connection: upgrade\r\nupgrade: h2c\r\ncontent-length: 4\r\ntransfer-encoding: chunked",
    ],
)
def test_framing_of_two_meanings_has_none(fields: bytes) -> None:
    assert arrived(b"POST /a HTTP/1.1\r\nhost: a\r\n%b\r\n\r\n0\r\n\r\n" % fields) == [400]


def test_a_repeated_head_brings_nothing_of_the_request_before_it() -> None:
    incoming = Incoming(Limits(), lambda size: size >= 0)
    for body in (b"one.", b"two."):
        incoming.feed(HEAD % 4 + body)
    first, second = incoming.arrived
    assert isinstance(first, Request)
    assert isinstance(second, Request)
    first.on_gone = lambda: None
    first.tensors = memoryview(b"x")
    assert (second.on_gone, second.tensors, bytes(second.body)) == (None, None, b"two.")


@pytest.mark.parametrize(
    ("framing", "read"),
    [(b"content-length: 16384", True), (b"content-length: 16385", False), (b"transfer-encoding: chunked", False)],
)
def test_a_stranger_is_refused_before_a_large_body_is_read(framing: bytes, read: bool) -> None:
    unknown = Refusal(401, "a token is needed")

    def admits(target: bytes, headers: Mapping[bytes, bytes]) -> Refusal | None:
        return None if target == b"/open" or b"authorization" in headers else unknown

    for target, fields, refused in (
        (b"/a", b"", not read),
        (b"/open", b"", False),
        (b"/a", b"authorization: x", False),
    ):
        incoming = Incoming(Limits(), lambda size: size >= 0, admits)
        incoming.feed(b"POST %b HTTP/1.1\r\nexpect: 100-continue\r\n%b\r\n" % (target, framing))
        incoming.feed(fields + b"\r\n\r\n" if fields else b"\r\n")
        assert (incoming.refusal is unknown) == refused
        assert incoming.continue_owed != refused, "nobody asks for a body that is not read"
