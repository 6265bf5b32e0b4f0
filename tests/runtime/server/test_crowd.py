"""Crowds and bad manners on real sockets: the server answers what it can, and its memory stays bounded."""

from __future__ import annotations

import contextlib
import socket
import time
from pathlib import Path

import pytest

from edgewright.runtime.control import Done
from edgewright.runtime.server.child import ServerChild, listen_tcp
from tests.runtime.server.conftest import Running
from tests.runtime.small_bundle import digits_bundle

LIVE = b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n"


def resident_bytes(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")) * 1024


def until_end(connection: socket.socket) -> bytes:
    answer = b""
    with contextlib.suppress(ConnectionResetError):
        while chunk := connection.recv(65536):
            answer += chunk
    return answer


def test_a_thousand_pipelined_requests_are_answered_in_order(running: Running) -> None:
    with running.connect() as connection:
        connection.sendall(LIVE * 999 + LIVE.replace(b"Host", b"Connection: close\r\nHost"))
        assert until_end(connection).count(b"HTTP/1.1 200 OK") == 1000


def test_a_thousand_idle_connections_shut_nobody_out_for_long(running: Running) -> None:
    before = resident_bytes(running.child.process.pid)
    with contextlib.ExitStack() as crowd:
        for _ in range(1000):
            idle = crowd.enter_context(socket.socket())
            idle.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                idle.connect(("127.0.0.1", running.port))
        time.sleep(0.5)
        assert isinstance(running.child.ping(), Done)
        with socket.socket(socket.AF_UNIX) as beside:  # the crowd on TCP does not fill the other listener
            beside.connect(str(running.unix_path))
            beside.sendall(LIVE)
            assert beside.recv(65536).startswith(b"HTTP/1.1 200")
        assert resident_bytes(running.child.process.pid) - before < 32 * 2**20
    assert running.ask("GET", "/v2/health/live")[0] == 200


@pytest.mark.parametrize(
    "head",
    [
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        b"Content-Length: 5\r\nContent-Length: 6\r\n",
        b"Transfer-Encoding: chunked, identity\r\n",
        b"Transfer-Encoding : chunked\r\n",
        b"Content-Length: +5\r\n",
        b"Content-Length: 0x5\r\n",
    ],
)
def test_a_body_of_two_lengths_is_refused_and_nothing_behind_it_is_obeyed(running: Running, head: bytes) -> None:
    smuggled = b"GET /v2 HTTP/1.1\r\nHost: x\r\n\r\n"
    with running.connect() as connection:
        connection.sendall(b"POST /v2/models/digits/infer HTTP/1.1\r\nHost: x\r\n" + head + b"\r\n0\r\n\r\n" + smuggled)
        connection.shutdown(socket.SHUT_WR)
        answer = until_end(connection)
    assert answer.startswith((b"HTTP/1.1 400", b"HTTP/1.1 501"))
    assert answer.count(b"HTTP/1.1 ") == 1


def test_options_and_a_foreign_host_do_no_harm(running: Running) -> None:
    status, body, headers = running.ask("OPTIONS", "/v2/health/live")
    assert (status, body, headers["allow"]) == (200, b"", "GET, HEAD, OPTIONS")
    assert not {name for name in headers if name.startswith("access-control-")}, "no page of another site may ask"
    assert running.ask("GET", "/v2/health/live", headers={"Host": "evil.example"})[0] == 200


def test_large_bodies_of_many_clients_have_one_bound(running: Running) -> None:
    """Eight clients announce 64 MiB each; together they may hold 256 MiB."""
    head = b"POST /v2/models/digits/infer HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (64 * 2**20)
    before, piece = resident_bytes(running.child.process.pid), bytes(2**20)
    with contextlib.ExitStack() as clients:
        connections = [clients.enter_context(running.connect()) for _ in range(8)]
        for connection in connections:
            connection.sendall(head)
        for _ in range(63):
            for connection in connections:
                with contextlib.suppress(OSError):  # refused already
                    connection.sendall(piece)
        assert resident_bytes(running.child.process.pid) - before < 400 * 2**20
    until_s = time.monotonic() + 60
    while resident_bytes(running.child.process.pid) - before > 100 * 2**20 and time.monotonic() < until_s:
        time.sleep(0.1)
    assert resident_bytes(running.child.process.pid) - before < 100 * 2**20
    assert running.ask("GET", "/v2/health/ready")[0] == 200


@pytest.mark.slow
def test_memory_returns_after_twenty_swaps(tmp_path: Path) -> None:
    bundles = [digits_bundle(tmp_path / str(n), seed=n, hidden=50_000, version=str(n)) for n in (1, 2)]
    with listen_tcp() as tcp, ServerChild([tcp], tmp_path) as child:
        sizes = []
        for number in range(20):
            bundle = bundles[number % 2]
            reply = child.load(bundle.directory, "digits", bundle.manifest.version, bundle.digest)
            assert isinstance(reply, Done), reply
            time.sleep(0.3)
            sizes.append(resident_bytes(child.process.pid))
        assert max(sizes[-4:]) < max(sizes[2:6]) + 16 * 2**20, sizes
