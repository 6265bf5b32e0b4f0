"""HTTP under the protocol: connections, chunks, compression, limits (RFC 9110 and 9112)."""

from __future__ import annotations

import gzip
import http.client
import json
import zlib
from collections.abc import Callable

import numpy as np
import pytest

from tests.contract.exchange import DIGITS, TIMEOUT_S, Answer, ask, assert_refused, converse, image, infer, scores

BODY = json.dumps({"inputs": [image()]}).encode()
JSON = {"Content-Type": "application/json"}
Compress = Callable[[bytes], bytes]


def test_many_requests_on_one_connection(v2_server: str) -> None:
    expected = scores(v2_server)
    connection = http.client.HTTPConnection(v2_server, timeout=TIMEOUT_S)
    connection.connect()
    first = connection.sock
    for _ in range(20):
        connection.request("POST", DIGITS, BODY, JSON)
        answer = Answer(connection.getresponse())
        np.testing.assert_allclose(np.ravel(answer.json["outputs"][0]["data"]), expected, rtol=1e-5)
        assert connection.sock is first, "the server closed a connection that may be kept"
    connection.close()


def test_a_refused_request_leaves_the_next_one_alone(v2_server: str) -> None:
    connection = http.client.HTTPConnection(v2_server, timeout=TIMEOUT_S)
    for body, status in [(b'{"inputs": []}', 4), (BODY, 2)] * 3:
        connection.request("POST", DIGITS, body, JSON)
        assert Answer(connection.getresponse()).status // 100 == status
    connection.close()


def test_connection_close_is_obeyed(v2_server: str) -> None:
    head = f"GET /v2/health/live HTTP/1.1\r\nHost: {v2_server}\r\nConnection: close\r\n\r\n"
    assert converse(v2_server, head.encode()).startswith(b"HTTP/1.1 200 ")


def test_pipelined_requests_are_answered_in_order(v2_server: str) -> None:
    def request(number: int) -> bytes:
        body = json.dumps({"id": f"number-{number}", "inputs": [image()]}).encode()
        head = f"POST {DIGITS} HTTP/1.1\r\nHost: {v2_server}\r\nContent-Type: application/json\r\n"
        return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body

    text = converse(v2_server, b"".join(map(request, range(12))))
    places = [text.find(f'"number-{number}"'.encode()) for number in range(12)]
    assert -1 not in places
    assert places == sorted(places)


def test_a_chunked_request(v2_server: str) -> None:
    pieces = (BODY[index : index + 100] for index in range(0, len(BODY), 100))
    assert ask(v2_server, "POST", DIGITS, pieces, JSON).status == 200


def test_a_body_that_comes_byte_by_byte(v2_server: str) -> None:
    pieces = (BODY[index : index + 1] for index in range(len(BODY)))
    assert ask(v2_server, "POST", DIGITS, pieces, JSON).status == 200


@pytest.mark.parametrize("size", ["x", "-1", "fffffffffffffffffff", "7fffffffffffffff"])
def test_broken_chunk_sizes(v2_server: str, size: str) -> None:
    head = f"POST {DIGITS} HTTP/1.1\r\nHost: {v2_server}\r\nTransfer-Encoding: chunked\r\n\r\n{size}\r\nhello\r\n"
    text = converse(v2_server, head.encode(), end=True)
    assert text == b"" or text.startswith(b"HTTP/1.1 4")
    assert ask(v2_server, "GET", "/v2/health/live").status == 200


@pytest.mark.parametrize(
    "fields",
    [
        "Content-Length: 5\r\nContent-Length: 6",
        "Content-Length: -1",
        "Content-Length: abc",
        "Content-Length: 99999999999999999999999",
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: nonsense",
    ],
)
def test_framing_that_could_smuggle_a_request(v2_server: str, fields: str) -> None:
    request = f"POST {DIGITS} HTTP/1.1\r\nHost: {v2_server}\r\n{fields}\r\n\r\n0\r\n\r\n"
    text = converse(v2_server, request.encode(), end=True)
    assert text == b"" or text.startswith((b"HTTP/1.1 4", b"HTTP/1.1 501")), text[:200]


def test_a_header_that_never_ends(v2_server: str) -> None:
    request = f"GET /v2 HTTP/1.1\r\nHost: {v2_server}\r\nX: {'x' * 5_000_000}\r\n\r\n"
    text = converse(v2_server, request.encode())
    assert text == b"" or text.startswith(b"HTTP/1.1 4"), text[:200]


def test_headers_without_number(v2_server: str) -> None:
    fields = "".join(f"X-{number}: {number}\r\n" for number in range(20_000))
    text = converse(v2_server, f"GET /v2 HTTP/1.1\r\nHost: {v2_server}\r\n{fields}\r\n".encode())
    assert text == b"" or text.startswith(b"HTTP/1.1 4"), text[:200]


def test_expect_100_continue(v2_server: str) -> None:
    head = f"POST {DIGITS} HTTP/1.1\r\nHost: {v2_server}\r\nContent-Type: application/json\r\n"
    head += f"Content-Length: {len(BODY)}\r\nExpect: 100-continue\r\n\r\n"
    assert b"HTTP/1.1 200 " in converse(v2_server, head.encode() + BODY)


@pytest.mark.parametrize(("coding", "compress"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
def test_a_compressed_request(v2_server: str, coding: str, compress: Compress) -> None:
    answer = ask(v2_server, "POST", DIGITS, compress(BODY), {**JSON, "Content-Encoding": coding})
    if answer.status == 415:
        pytest.skip(f"the server says that it does not take {coding}")
    assert answer.status == 200, answer.body[:300]
    np.testing.assert_allclose(np.ravel(answer.json["outputs"][0]["data"]), scores(v2_server), rtol=1e-5)


@pytest.mark.parametrize(("coding", "expand"), [("gzip", gzip.decompress), ("deflate", zlib.decompress)])
def test_a_compressed_answer(v2_server: str, coding: str, expand: Compress) -> None:
    rows = 300  # some servers leave small answers as they are
    request = {"inputs": [image(shape=[rows, 64], data=[0.5] * (64 * rows))]}
    answer = infer(v2_server, request, headers={"Accept-Encoding": coding})
    assert answer.status == 200
    if "content-encoding" not in answer.headers:
        pytest.skip(f"the server does not answer in {coding}")
    assert answer.headers["content-encoding"] == coding
    assert json.loads(expand(answer.body))["outputs"][0]["shape"] == [rows, 10]


@pytest.mark.parametrize("coding", ["gzip", "deflate", "nonsense"])
def test_a_compressed_request_that_is_none(v2_server: str, coding: str) -> None:
    assert_refused(ask(v2_server, "POST", DIGITS, b"no compressed bytes", {**JSON, "Content-Encoding": coding}))


def test_half_of_a_compressed_request(v2_server: str) -> None:
    body = gzip.compress(BODY)
    assert_refused(ask(v2_server, "POST", DIGITS, body[: len(body) // 2], {**JSON, "Content-Encoding": "gzip"}))
