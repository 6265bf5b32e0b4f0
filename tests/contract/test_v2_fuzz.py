"""Bytes that no client would send, for half a minute, or for an hour with `--fuzz-seconds 3600`.

Whatever comes, the server answers with a whole response or closes, never with a 5xx that is its own fault, and its
errors are `{"error": …}`. The seed and the request are printed where that is not so.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import socket
import time
from collections.abc import Callable

import pytest

from tests.contract.exchange import LENGTH, ONE_IMAGE, TIMEOUT_S, ask, binary_image, image, infer

pytestmark = pytest.mark.own

HONEST = {501, 503, 504, 505}
"""5xx that say something about the request or the moment, and nothing about a bug."""


def request(method: str, target: str, body: bytes = b"", *fields: str) -> bytes:
    head = [f"{method} {target} HTTP/1.1", "Host: localhost", *fields]
    if body or method == "POST":
        head.append(f"Content-Length: {len(body)}")
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


def seeds() -> list[bytes]:
    plain = json.dumps({"id": "x", "inputs": [image()], "outputs": [{"name": "scores"}]}).encode()
    head = json.dumps({"inputs": [binary_image()], "parameters": {"binary_data_output": True}}).encode()
    target = "/v2/models/digits/infer"
    chunks = b"40\r\n" + plain[:64] + b"\r\n%x\r\n" % len(plain[64:]) + plain[64:] + b"\r\n0\r\n\r\n"
    return [
        request("POST", target, plain),
        request("POST", target, head + ONE_IMAGE.tobytes(), f"{LENGTH}: {len(head)}"),
        request("POST", target, ONE_IMAGE.tobytes(), f"{LENGTH}: 0"),
        f"POST {target} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".encode() + chunks,
        request("GET", "/v2/models/digits", b"", "Accept-Encoding: gzip"),
        request("GET", "/v2/models/digits/versions/1/stats"),
        request("POST", "/v2/repository/index", b'{"ready": true}'),
        request("POST", "/v2/repository/models/digits/load", b'{"parameters": {"config": "{}"}}'),
        request("GET", "/metrics"),
        request("HEAD", "/v2/health/ready"),
    ]


WORDS = [
    b"\r\n", b"\0", b"\xff", b"{", b"[" * 300, b'"', b"-1", b"0", b"18446744073709551616", b"1e999", b"NaN", b"null",
    b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b"Content-Encoding: gzip\r\n",
    b"Expect: 100-continue\r\n",
    b"Connection: close\r\n", b"Upgrade: h2c\r\n", b"%00", b"%2e%2e/", b"HTTP/1.0", b"HTTP/9.9", b"FP16", b"BYTES",
    b"binary_data_size", b"shared_memory_region", b"classification", b"sequence_id", b"timeout", b"priority",
]  # fmt: skip


def mutated(data: bytes, chance: random.Random) -> bytes:
    """A few bytes changed, put in, taken out or doubled."""
    found = bytearray(data)
    for _ in range(chance.choice([1, 1, 2, 4, 16])):
        at = chance.randrange(len(found) + 1)
        kind = chance.randrange(6)
        if kind == 0 and at < len(found):
            found[at] ^= 1 << chance.randrange(8)
        elif kind == 1:
            found[at:at] = chance.choice(WORDS)
        elif kind == 2:
            del found[at : at + chance.randrange(1, 40)]
        elif kind == 3:
            found[at:at] = found[at : at + chance.randrange(1, 200)]
        elif kind == 4:
            found[at : at + 4] = chance.randbytes(4)
        elif at < len(found):
            found[at] = chance.randrange(256)
    return bytes(found)


def truncated(data: bytes, chance: random.Random) -> bytes:
    return data[: chance.randrange(len(data))]


def pipelined(data: bytes, chance: random.Random) -> bytes:
    rest = [mutated(each, chance) if chance.random() < 0.3 else each for each in chance.choices(seeds(), k=6)]
    return data + b"".join(rest)


def header_bomb(data: bytes, chance: random.Random) -> bytes:
    line, _, rest = data.partition(b"\r\n")
    bomb = [b"x" * 100_000 + b": y", b"\r\n".join(b"x%d: y" % n for n in range(3000)), b"x: " + b"y" * 100_000]
    return b"\r\n".join((line, chance.choice(bomb), rest))


def chunk_bomb(data: bytes, chance: random.Random) -> bytes:
    del data
    head = b"POST /v2/models/digits/infer HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + b"1\r\n{\r\n" * chance.randrange(20_000) + chance.choice([b"0\r\n\r\n", b"ffffffff\r\n", b""])


Damage = Callable[[bytes, random.Random], bytes]
DAMAGES: list[Damage] = [mutated, mutated, mutated, truncated, pipelined, header_bomb, chunk_bomb]


def exchange(server: str, data: bytes, chance: random.Random) -> bytes:
    """Send in one piece or in several, hang up or wait a moment; return what came back."""
    host, _, port = server.rpartition(":")
    received = b""
    with socket.create_connection((host, int(port)), timeout=TIMEOUT_S) as connection, contextlib.suppress(OSError):
        cut = chance.randrange(len(data) + 1) if chance.random() < 0.3 else len(data)
        for piece in (data[:cut], data[cut:]):
            connection.sendall(piece)
        if chance.random() < 0.1:
            return b""  # gone without waiting
        connection.shutdown(socket.SHUT_WR)
        while piece := connection.recv(1 << 16):
            received += piece
    return received


def check(answer: bytes) -> None:
    """Every status in the answer is honest; an error that ends it is spelled as the protocol has it."""
    assert answer == b"" or answer.startswith(b"HTTP/1.1 "), answer[:200]
    heads = [piece for piece in answer.split(b"HTTP/1.1 ")[1:] if piece[:3].isdigit()]
    for piece in heads:
        status = int(piece[:3])
        assert status < 500 or status in HONEST, piece[:500]
        head, _, body = piece.partition(b"\r\n\r\n")
        if status >= 400 and body:
            length = int(re.findall(rb"content-length: ([0-9]+)", head)[0])
            assert json.loads(body[:length])["error"]


@pytest.fixture(scope="module")
def chance() -> random.Random:
    seed = 1 if os.environ.get("CI") else time.time_ns()
    print(f"seed {seed}")
    return random.Random(seed)


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_damaged_requests(v2_server: str, chance: random.Random, fuzz_seconds: float) -> None:
    end_s = time.monotonic() + fuzz_seconds
    sent = 0
    while time.monotonic() < end_s:
        data = chance.choice(DAMAGES)(chance.choice(seeds()), chance)
        try:
            check(exchange(v2_server, data, chance))
        except Exception:
            print(f"the request was {data[:20_000]!r}")
            raise
        sent += 1
        if sent % 100 == 0:
            assert infer(v2_server, {"inputs": [image()]}).status == 200
    print(f"{sent} requests")
    assert infer(v2_server, {"inputs": [image()]}).status == 200


def test_a_few_damaged_requests(v2_server: str, chance: random.Random) -> None:
    for _ in range(100):
        data = chance.choice(DAMAGES)(chance.choice(seeds()), chance)
        check(exchange(v2_server, data, chance))
    assert infer(v2_server, {"inputs": [image()]}).status == 200


def test_clients_that_dawdle_keep_nobody_waiting(v2_server: str, chance: random.Random) -> None:
    """Slowloris: a hundred requests that never end, and one that is answered at once."""
    host, _, port = v2_server.rpartition(":")
    with contextlib.ExitStack() as stack:
        for _ in range(100):
            slow = stack.enter_context(socket.create_connection((host, int(port)), timeout=TIMEOUT_S))
            slow.sendall(truncated(chance.choice(seeds()), chance) or b"P")
        begun_s = time.monotonic()
        assert ask(v2_server, "GET", "/v2/health/live").status == 200
        assert time.monotonic() - begun_s < 60, "an idle connection lasts 75 s"
