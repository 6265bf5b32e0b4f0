"""Compressed bodies: what was sent comes out, bombs and nonsense are refused, answers are what the client accepts."""

from __future__ import annotations

import contextlib
import gzip
import time
import zlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewright.runtime.server.http.compression import accepted_coding, compressed, expanded, with_compression
from edgewright.runtime.server.http.messages import Request, Respond, Response
from edgewright.runtime.server.limits import Limits
from edgewright.runtime.server.refusal import Refusal

LIMITS = Limits(expanded_bytes=4_000_000, expansion=10)
CODINGS: dict[bytes, Callable[[bytes], bytes]] = {b"gzip": gzip.compress, b"deflate": zlib.compress}


def refusal(body: bytes, coding: bytes) -> Refusal:
    with pytest.raises(Refusal) as caught:
        expanded(memoryview(body), coding, LIMITS)
    return caught.value


@given(st.binary(max_size=2000), st.sampled_from(list(CODINGS)), st.integers(0, 15))
def test_what_was_compressed_comes_out(body: bytes, coding: bytes, padding: int) -> None:
    got = expanded(memoryview(CODINGS[coding](body)), coding, LIMITS, padding)
    assert bytes(got) == body
    assert len(memoryview(got.obj)) == padding + len(body)
    assert bytes(expanded(memoryview(compressed([body, b"tail"], coding)), coding, LIMITS)) == body + b"tail"


@given(st.data(), st.sampled_from(list(CODINGS)))
def test_damage_is_refused_or_seen_through(data: st.DataObject, coding: bytes) -> None:
    body = bytearray(CODINGS[coding](bytes(range(256)) * 4))
    at = data.draw(st.integers(0, len(body) - 1))
    body[at] ^= 1 << data.draw(st.integers(0, 7))
    for damaged in (bytes(body), bytes(body[:at]), bytes(body) + b"more"):
        with contextlib.suppress(Refusal):  # anything else fails the test
            expanded(memoryview(damaged), coding, LIMITS)


@given(st.binary(max_size=300), st.sampled_from(list(CODINGS)))
def test_nonsense_is_a_400(body: bytes, coding: bytes) -> None:
    if not body.startswith((b"\x1f\x8b", b"x")):
        assert refusal(body, coding).status == 400


@pytest.mark.parametrize("coding", CODINGS)
def test_a_body_is_one_whole_stream(coding: bytes) -> None:
    body = CODINGS[coding](b"hello" * 100)
    for wrong in (body + b"x", body + body, body[:-1], b""):
        assert refusal(wrong, coding).status == 400


@pytest.mark.parametrize("coding", CODINGS)
def test_a_bomb_is_refused_without_being_expanded(coding: bytes) -> None:
    assert refusal(CODINGS[coding](bytes(3_000_000)), coding).status == 413  # a thousandfold
    assert refusal(CODINGS[coding](b"".join(bytes([n % 251]) * 9 for n in range(500_000))), coding).status == 413


def test_a_large_body_is_not_copied_for_every_piece_that_comes_out() -> None:
    """Sixty megabytes that were stored, not compressed, kept the event loop for seconds."""
    body = memoryview(zlib.compress(bytes(60_000_000), 0))
    begun_s = time.process_time()
    with pytest.raises(Refusal, match="expands to more"):
        expanded(body, b"deflate", Limits(expansion=1))
    assert bytes(expanded(body, b"deflate", Limits(expanded_bytes=len(body)))[-3:]) == bytes(3)
    assert time.process_time() - begun_s < 2


@pytest.mark.parametrize("coding", CODINGS)
def test_a_small_body_may_expand_far(coding: bytes) -> None:
    assert len(expanded(memoryview(CODINGS[coding](bytes(900_000))), coding, LIMITS)) == 900_000


def test_other_codings_are_a_415_that_says_which_there_are() -> None:
    refused = refusal(b"x", b"br")
    assert (refused.status, dict(refused.headers)) == (415, {b"accept-encoding": b"gzip, deflate"})


@pytest.mark.parametrize(
    ("field", "chosen"),
    [
        (b"gzip", b"gzip"),
        (b"deflate", b"deflate"),
        (b"gzip, deflate, br", b"gzip"),
        (b"GZIP;q=0.5, deflate;q=0.8", b"deflate"),
        (b"gzip;q=0, deflate;q=0", None),
        (b"identity", None),
        (b"identity;q=1, gzip;q=0.5", None),
        (b"*", b"gzip"),
        (b"*;q=0.1, gzip;q=0", b"deflate"),
        (b"br", None),
        (b"", None),
        (b"gzip;q=nonsense", None),
        (b"gzip;q=7", None),
    ],
)
def test_the_client_chooses(field: bytes, chosen: bytes | None) -> None:
    assert accepted_coding(field) == chosen


@given(st.binary(max_size=60))
def test_any_field_is_an_answer(field: bytes) -> None:
    assert accepted_coding(field) in {None, b"gzip", b"deflate"}


def echo(request: Request, respond: Respond) -> None:
    respond(Response(200, [bytes(request.body)], headers=((b"x", b"y"),)))


def ask(body: bytes, **headers: bytes) -> Response:
    answers: list[Response] = []
    fields = {name.replace("_", "-").encode(): value for name, value in headers.items()}
    with_compression(echo, LIMITS)(
        Request(b"POST", b"/v2/models/m/infer", fields, memoryview(body), True, 1, 0), answers.append
    )
    (answer,) = answers
    return answer


def test_a_handler_sees_the_body_and_the_client_gets_its_coding() -> None:
    body = bytes(range(256)) * 20
    answer = ask(zlib.compress(body), content_encoding=b"Deflate", accept_encoding=b"gzip")
    assert gzip.decompress(bytes(answer.body[0])) == body
    assert answer.headers == ((b"x", b"y"), (b"content-encoding", b"gzip"), (b"vary", b"accept-encoding"))


def test_small_answers_and_clients_without_a_wish_are_left_alone() -> None:
    assert ask(b"short", accept_encoding=b"gzip").body == [b"short"]
    assert ask(b"long" * 1000).headers == ((b"x", b"y"),)
    assert ask(b"long" * 1000, content_encoding=b"identity").body == [b"long" * 1000]


@pytest.mark.parametrize(
    ("target", "status", "compressed_answer"),
    [
        (b"/v2/models/m/infer", 200, True),
        (b"/v2/models/m/versions/1/infer?x=/stats", 200, True),
        (b"/metrics", 200, True),
        (b"/v2/openapi.json", 200, True),
        (b"/v2/models/stats", 200, False),
        (b"/v2/models/m?/infer", 200, False),
        (b"/v2/repository/index", 200, False),
        (b"/v2/models/m/infer", 400, False),
    ],
)
def test_answers_that_a_client_may_not_expand_are_left_as_they_are(
    target: bytes, status: int, compressed_answer: bool
) -> None:
    """tritonclient.http.aio accepts gzip with every request, and expands answers of inferences only."""
    answers: list[Response] = []
    handler = with_compression(lambda _, respond: respond(Response(status, [b"x" * 5000])), LIMITS)
    fields = {b"accept-encoding": b"gzip, deflate"}
    handler(Request(b"GET", target, fields, memoryview(b""), True, 1, 0), answers.append)
    assert (b"content-encoding" in dict(answers[0].headers)) == compressed_answer
