"""Whatever way the bytes of a connection are cut into pieces, the same requests are found in them."""

from __future__ import annotations

import random
from collections.abc import Mapping

import pytest

from edgewright.runtime.server.http.incoming import Incoming
from edgewright.runtime.server.http.messages import Request
from edgewright.runtime.server.limits import Limits
from tests.runtime.fuzzing import fuzz, mutated

LIMITS = Limits()
Found = list[tuple[bytes, bytes, Mapping[bytes, bytes], bytes, bool] | int]


def found_in(pieces: list[bytes]) -> Found:
    """The requests up to the one that ends the connection, or the status of the refusal."""
    incoming = Incoming(LIMITS, lambda _: True)
    for piece in pieces:
        if piece and incoming.refusal is None:
            incoming.feed(piece)
    found: Found = []
    for item in incoming.arrived:
        if not isinstance(item, Request):
            found.append(item.status)
            break
        found.append((item.method, item.target, item.headers, bytes(item.body), item.keep_alive))
        if not item.keep_alive:
            break
    return found


def cut(data: bytes, places: list[int]) -> list[bytes]:
    ends = [*sorted(places), len(data)]
    return [data[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def post(body: bytes, extra: bytes = b"") -> bytes:
    return b"POST /x/infer HTTP/1.1\r\n%bContent-Length: %d\r\n\r\n%b" % (extra, len(body), body)


OFFER = b"GET / HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
MESSAGES = [
    post(b"abcdef"),
    post(b"\r\nabcd"),
    post(b"abcd\r\n"),
    post(b""),
    post(b"abc", b"Connection: Upgrade\r\nUpgrade: h2c\r\n"),
    post(b"abc", b"Expect: 100-continue\r\n"),
    post(b"jjjTTTT", b"Inference-Header-Content-Length: 3\r\n"),
    post(b"abc", b"Connection: close\r\n"),
    b"POST /c HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nt: u\r\n\r\n",
    b"GET /v2 HTTP/1.1\r\na: b\r\nA: c\r\n\r\n",
    b"GET /old HTTP/1.0\r\n\r\n",
    b"HEAD / HTTP/1.1\r\n\r\n",
    OFFER,
    b"\r\n",
    b"\r\n\r\n",
]
WORDS = [
    b"\r\n",
    b"\n",
    b"\r",
    b"\0",
    b"Content-Length: 3\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"0\r\n\r\n",
    b" ",
    b"\t",
]


def stream(chance: random.Random) -> list[bytes]:
    """Messages of a connection: often the same one again, some of them damaged."""
    few = chance.choices(MESSAGES, k=chance.randrange(1, 4))
    messages = [chance.choice(few) for _ in range(chance.randrange(1, 7))]
    return [mutated(each, chance, WORDS) if chance.random() < 0.1 else each for each in messages]


def check_cuts(chance: random.Random) -> None:
    messages = stream(chance)
    data = b"".join(messages)
    whole = found_in([data])
    assert found_in(messages) == whole
    places = [chance.randrange(len(data) + 1) for _ in range(chance.randrange(8))]
    assert found_in(cut(data, places)) == whole
    assert found_in([data[at : at + 1] for at in range(len(data))]) == whole


def test_the_same_requests_however_they_are_cut() -> None:
    fuzz(check_cuts)


def test_a_line_end_behind_a_body_does_not_count_as_head() -> None:
    """The body began with a line end too, so that the head seemed to be two bytes longer, and so it was repeated."""
    request = post(b"\r\nabcd")
    pieces = [request + b"\r\n", request + b"PO"]
    assert found_in(pieces) == found_in([b"".join(pieces)]) == found_in([request, request])


@pytest.mark.parametrize("offers", [1, 3000])
def test_many_offers_to_upgrade_in_one_piece(offers: int) -> None:
    """Each offer was declined within the one before it, until the stack was full."""
    assert found_in([OFFER * offers]) == found_in([OFFER] * offers)
