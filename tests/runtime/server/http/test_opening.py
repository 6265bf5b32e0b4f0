"""Listeners of a real server: TLS, clients' certificates, tokens; and what refuses to start."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from edgewright.runtime.server.child import ServerChild, listen_tcp, listen_unix
from edgewright.runtime.server.http.exposure import Exposed, check_exposure, check_host
from edgewright.runtime.serving import ListenerSettings, ServerSettings, TlsSettings, encode_settings

CERTIFICATES = Path(__file__).parent / "certificates"
SERVER = {"certificate": str(CERTIFICATES / "server.pem"), "key": str(CERTIFICATES / "server.key")}
MUTUAL = {**SERVER, "client_ca": str(CERTIFICATES / "authority.pem")}


@dataclass(frozen=True)
class Ports:
    plain: int
    secret: int
    tls: int
    mutual: int


@pytest.fixture(scope="module")
def ports(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ports]:
    """A server on four ports: as it is, with a token, with TLS, with clients' certificates."""
    base = tmp_path_factory.mktemp("opening")
    tokens = base / "tokens"
    tokens.write_text("open-sesame\n")
    tokens.chmod(0o600)
    extra: list[dict[str, Any]] = [
        {},
        {"token_file": str(tokens)},
        {"tls": TlsSettings(**SERVER)},
        {"tls": TlsSettings(**MUTUAL)},
    ]
    sockets = [listen_tcp() for _ in extra]
    listeners = tuple(ListenerSettings(fd=s.fileno(), **more) for s, more in zip(sockets, extra, strict=True))
    with ServerChild(sockets, base, listeners=listeners):
        yield Ports(*(each.getsockname()[1] for each in sockets))
    for each in sockets:
        each.close()


def client_context(*, certificate: bool = False) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=CERTIFICATES / "authority.pem")
    if certificate:
        context.load_cert_chain(CERTIFICATES / "client.pem", CERTIFICATES / "client.key")
    return context


def ask(connection: http.client.HTTPConnection, target: str, **headers: str) -> tuple[int, Any]:
    with closing(connection):
        connection.request("GET", target, headers=headers)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())


def test_a_token_opens_its_listener_and_nothing_else_does(ports: Ports) -> None:
    def asked(target: str, **headers: str) -> tuple[int, Any]:
        return ask(http.client.HTTPConnection("127.0.0.1", ports.secret, timeout=20), target, **headers)

    assert asked("/v2", Authorization="Bearer open-sesame")[0] == 200
    assert asked("/v2/health/live")[0] == 200
    for headers in ({}, {"Authorization": "Bearer sesame"}):
        status, answer = asked("/v2", **headers)
        assert status == 401
        assert "token" in answer["error"]
    assert ask(http.client.HTTPConnection("127.0.0.1", ports.plain, timeout=20), "/v2")[0] == 200


def test_tls_is_the_same_protocol(ports: Ports) -> None:
    connection = http.client.HTTPSConnection("localhost", ports.tls, timeout=20, context=client_context())
    assert ask(connection, "/v2")[1]["name"] == "edgewright"


def test_an_old_tls_and_plain_text_are_hung_up_on(ports: Ports) -> None:
    with socket.create_connection(("127.0.0.1", ports.tls), timeout=20) as connection:
        connection.sendall(b"GET /v2 HTTP/1.1\r\n\r\n")
        assert not connection.recv(100).startswith(b"HTTP/1.1")
    status, _ = ask(http.client.HTTPSConnection("localhost", ports.tls, timeout=20, context=client_context()), "/v2")
    assert status == 200


def test_clients_need_a_certificate_where_an_authority_is_named(ports: Ports) -> None:
    with_one = http.client.HTTPSConnection(
        "localhost", ports.mutual, timeout=20, context=client_context(certificate=True)
    )
    assert ask(with_one, "/v2")[0] == 200
    without = http.client.HTTPSConnection("localhost", ports.mutual, timeout=20, context=client_context())
    with pytest.raises(OSError):  # noqa: PT011 - a TLS alert or a reset, whichever the client reads first
        ask(without, "/v2")


def refused_start(listening: socket.socket, base: Path, **more: Any) -> str:
    """Start a server that must not start; returns what it says."""
    ours, theirs = socket.socketpair()
    listener = ListenerSettings(fd=listening.fileno(), **more)
    wanted = encode_settings(ServerSettings(listeners=(listener,), counters_dir=str(base), boot="boot"))
    command = [sys.executable, "-m", "edgewright.runtime.server", "--control-fd", str(theirs.fileno()), wanted]
    with ours, theirs:
        ended = subprocess.run(
            command,
            pass_fds=[theirs.fileno(), listening.fileno()],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    return ended.stderr


def test_a_server_that_cannot_protect_its_listener_does_not_start(tmp_path: Path) -> None:
    with listen_tcp() as tcp:
        assert "tokens" in refused_start(tcp, tmp_path, token_file="/nowhere/tokens")
        assert "TLS" in refused_start(tcp, tmp_path, tls=TlsSettings(certificate="/nowhere/c", key="/nowhere/k"))


@contextmanager
def bound(host: str, family: socket.AddressFamily = socket.AF_INET) -> Iterator[socket.socket]:
    with socket.socket(family) as listening:
        try:
            listening.bind((host, 0))
        except OSError as error:
            pytest.skip(f"this machine has no {host}: {error}")
        yield listening


@pytest.mark.parametrize("host", ["127.example.org", "127.0.0.1.example.org", "128.0.0.1", "", "::", "::ffff:1.2.3.4"])
def test_a_name_that_looks_like_loopback_is_not(host: str) -> None:
    with pytest.raises(Exposed):
        check_host(host, None, None)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.10"])
def test_loopback_is_this_machine(host: str) -> None:
    with bound(host) as listening:
        check_exposure(listening, ListenerSettings(fd=3))


def test_a_unix_socket_and_ipv6_loopback_are_this_machine(tmp_path: Path) -> None:
    with listen_unix(tmp_path / "s") as listening:
        check_exposure(listening, ListenerSettings(fd=3))
    with bound("::1", socket.AF_INET6) as listening:
        check_exposure(listening, ListenerSettings(fd=3))


@pytest.mark.parametrize(("host", "family"), [("0.0.0.0", socket.AF_INET), ("::", socket.AF_INET6)])
def test_strangers_must_prove_who_they_are(host: str, family: socket.AddressFamily) -> None:
    with bound(host, family) as listening:
        for encrypted_only in (None, TlsSettings(**SERVER)):
            with pytest.raises(Exposed):
                check_exposure(listening, ListenerSettings(fd=3, tls=encrypted_only))
        check_exposure(listening, ListenerSettings(fd=3, token_file="/t"))
        check_exposure(listening, ListenerSettings(fd=3, tls=TlsSettings(**MUTUAL)))


def test_a_server_that_strangers_could_ask_does_not_start(tmp_path: Path) -> None:
    with bound("0.0.0.0") as listening:
        listening.listen()
        assert "token_file" in refused_start(listening, tmp_path)
