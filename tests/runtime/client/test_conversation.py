"""What a client makes of servers that are slow, short, long, or wrong."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

import numpy as np
import pytest

from edgewright.runtime.client import AsyncClient, BadAnswer, Client, Sequence, ServerRefused, Unreachable
from tests.runtime.client.conftest import ScriptedServer

Scripted = Callable[[list[bytes]], ScriptedServer]
IMAGE = {"image": np.zeros((1, 64), np.float32)}
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"


def answer(body: bytes, head: bytes = b"HTTP/1.1 200 OK", fields: bytes = b"") -> bytes:
    return head + b"\r\ncontent-length: %d\r\n" % len(body) + fields + b"\r\n" + body


METADATA = json.dumps({"name": "s", "version": "1", "extensions": ["x"]}).encode()


@pytest.mark.parametrize(
    "spelling",
    [
        answer(METADATA),
        b"HTTP/1.1 100 Continue\r\n\r\n" + answer(METADATA),
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5;x=y\r\n%b\r\n%x\r\n%b\r\n0\r\nx: y\r\n\r\n"
        % (METADATA[:5], len(METADATA) - 5, METADATA[5:]),
        b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n" + METADATA,
    ],
    ids=["length", "after 100", "chunks", "until the end"],
)
def test_bodies_of_every_form(scripted: Scripted, spelling: bytes) -> None:
    server = scripted([spelling, spelling])

    async def asynchronous() -> str:
        async with AsyncClient(server.url) as client:
            return (await client.metadata()).name

    with Client(server.url) as client:
        assert client.metadata().name == "s"
    assert asyncio.run(asynchronous()) == "s"


@pytest.mark.parametrize(
    "wrong",
    [
        b"\x16\x03\x01\x02\x00\r\n\r\n",
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999999999999\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nx: " + b"y" * 200_000,
        answer(b"no json"),
        answer(b"[1]"),
        answer(b'{"model_name": "m", "outputs": [{"name": "o", "shape": [2], "datatype": "FP32"}]}'),
        answer(b'{"model_name": "m", "outputs": [{"name": "o", "shape": [2], "datatype": "FP32", "data": [1]}]}'),
        answer(b'{"model_name": "m", "outputs": [{"name": "o", "shape": [2], "datatype": "C64", "data": [1, 2]}]}'),
        answer(
            b'{"model_name": "m", "outputs": [{"name": "o", "shape": [2], "datatype": "FP32", '
            b'"parameters": {"binary_data_size": 8}}]}'
        ),
        answer(b"{}", fields=b"inference-header-content-length: 3\r\n"),
    ],
)
def test_what_is_not_the_protocol(scripted: Scripted, wrong: bytes) -> None:
    server = scripted([wrong, wrong])

    async def asynchronous() -> None:
        async with AsyncClient(server.url) as client:
            await client.infer("m", IMAGE)

    with Client(server.url) as client, pytest.raises(BadAnswer):
        client.infer("m", IMAGE)
    with pytest.raises(BadAnswer):
        asyncio.run(asynchronous())


@pytest.mark.parametrize(
    "cut",
    [
        b"HTTP/1.1 200 OK\r\nconnection: close\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\nconnection: close\r\n\r\nshort",
    ],
)
def test_an_answer_that_breaks_off(scripted: Scripted, cut: bytes) -> None:
    server = scripted([cut, cut])

    async def asynchronous() -> None:
        async with AsyncClient(server.url) as client:
            await client.infer("m", IMAGE)

    with Client(server.url) as client, pytest.raises(Unreachable) as caught:
        client.infer("m", IMAGE)
    assert caught.value.sent
    with pytest.raises(Unreachable):
        asyncio.run(asynchronous())
    assert server.connections == 2, "nothing was tried again: it may have been done"


def test_a_busy_server_is_asked_again_when_it_says_so(scripted: Scripted) -> None:
    busy = answer(b'{"error":"later"}', b"HTTP/1.1 503 Service Unavailable", b"retry-after: 0\r\n")
    server = scripted([busy, answer(METADATA)])
    with Client(server.url) as client:
        assert client.metadata().name == "s"
    assert len(server.requests) == 2


def test_a_busy_server_that_does_not_say_when_is_not_asked_again(scripted: Scripted) -> None:
    busy = answer(b'{"error":"later"}', b"HTTP/1.1 503 Service Unavailable")
    server = scripted([busy, answer(METADATA)])
    with Client(server.url) as client, pytest.raises(ServerRefused, match="later") as caught:
        client.metadata()
    assert (caught.value.status, caught.value.retry_after_s) == (503, None)


def test_patience_has_an_end(scripted: Scripted) -> None:
    busy = answer(b'{"error":"later"}', b"HTTP/1.1 503 Service Unavailable", b"retry-after: 0\r\n")
    server = scripted([busy] * 10)
    with Client(server.url) as client, pytest.raises(ServerRefused):
        client.metadata()
    assert len(server.requests) == 3


def test_a_kept_connection_that_the_server_closed_costs_nothing(scripted: Scripted) -> None:
    server = scripted([answer(METADATA), b"", answer(METADATA)])
    with Client(server.url) as client:
        assert client.metadata().name == "s"
        assert client.metadata().name == "s"
    assert server.connections == 2


def test_a_step_of_a_sequence_is_never_sent_twice(scripted: Scripted) -> None:
    server = scripted([answer(METADATA), b"", answer(METADATA)])
    with Client(server.url) as client:
        client.metadata()
        with pytest.raises(Unreachable):
            client.infer("m", IMAGE, sequence=Sequence("s", start=True))
    assert len(server.requests) == 2


def test_what_the_server_is_told_of_a_call(scripted: Scripted) -> None:
    server = scripted([answer(b'{"error":"enough"}', b"HTTP/1.1 400 Bad")])
    with Client(server.url, token="secret") as client, pytest.raises(ServerRefused, match="enough"):
        client.infer("a/b", IMAGE, version="2", priority=1, timeout_s=1.5, key="line-3", sequence=Sequence(7, end=True))
    head, _, body = server.requests[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /v2/models/a%2Fb/versions/2/infer HTTP/1.1\r\n")
    assert b"authorization: Bearer secret" in head
    length = int(head.partition(b"inference-header-content-length: ")[2].partition(b"\r\n")[0])
    assert json.loads(body[:length])["parameters"] == {
        "binary_data_output": True,
        "timeout": 1_500_000,
        "priority": 1,
        "key": "line-3",
        "sequence_id": 7,
        "sequence_start": False,
        "sequence_end": True,
    }
    assert body[length:] == bytes(256)


def test_the_repository(scripted: Scripted) -> None:
    entries = b'[{"name": "m", "version": "1", "state": "READY", "reason": ""}, {"name": "n"}]'
    server = scripted([answer(entries), answer(b""), answer(b"{}")])
    with Client(server.url) as client:
        assert [(entry.name, entry.state) for entry in client.index()] == [("m", "READY"), ("n", "")]
        client.load("m")
        client.unload("m")
    assert server.requests[1].startswith(b"POST /v2/repository/models/m/load ")


def test_a_token_with_a_line_break_is_not_sent(scripted: Scripted) -> None:
    server = scripted([OK])
    with Client(server.url, token="a\r\nx: y") as client, pytest.raises(ValueError, match="line break"):
        client.alive()
    assert server.requests == []


@pytest.mark.parametrize("url", ["", "host:80", "ftp://h", "unix://relative", "http://h/path", "http://u@h", "http://"])
def test_what_is_no_address(url: str) -> None:
    with pytest.raises(ValueError, match="expected http://HOST:PORT"):
        Client(url)
