"""The client against listeners that ask who it is: TLS, certificates of clients, tokens."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from edgewright.runtime.client import AsyncClient, Client, ClientError, ServerRefused, Tls, Unreachable
from edgewright.runtime.control import Done
from edgewright.runtime.server.child import ServerChild, listen_tcp
from edgewright.runtime.serving import ListenerSettings, TlsSettings
from tests.runtime.small_bundle import digits_bundle

CERTIFICATES = Path(__file__).parents[1] / "server/http/certificates"
PAIR = {"certificate": str(CERTIFICATES / "server.pem"), "key": str(CERTIFICATES / "server.key")}
AUTHORITY = str(CERTIFICATES / "authority.pem")
TRUSTING = Tls(server_ca=AUTHORITY)
KNOWN = Tls(server_ca=AUTHORITY, certificate=str(CERTIFICATES / "client.pem"), key=str(CERTIFICATES / "client.key"))
LARGE = {"image": np.random.default_rng(1).uniform(size=(4000, 64)).astype(np.float32)}


@dataclass(frozen=True)
class Ports:
    token: str
    mutual: str
    plain_token: str


@pytest.fixture(scope="module")
def ports(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ports]:
    base = tmp_path_factory.mktemp("secured")
    tokens = base / "tokens"
    tokens.write_text("open-sesame\n")
    tokens.chmod(0o600)
    digits = digits_bundle(base / "digits-1")
    with listen_tcp() as token, listen_tcp() as mutual, listen_tcp() as plain:
        listeners = (
            ListenerSettings(fd=token.fileno(), tls=TlsSettings(**PAIR), token_file=str(tokens)),
            ListenerSettings(fd=mutual.fileno(), tls=TlsSettings(**PAIR, client_ca=AUTHORITY)),
            ListenerSettings(fd=plain.fileno(), token_file=str(tokens)),
        )
        with ServerChild([token, mutual, plain], base, listeners=listeners) as child:
            assert isinstance(child.load(digits.directory, "digits", "1", digits.digest), Done)
            yield Ports(
                f"https://localhost:{token.getsockname()[1]}",
                f"https://localhost:{mutual.getsockname()[1]}",
                f"http://127.0.0.1:{plain.getsockname()[1]}",
            )
            assert isinstance(child.ping(), Done), "the server must outlive its tests"


def asked(url: str, **options: object) -> list[tuple[int, ...]]:
    """Ask twice with each client, the second time over the same connection; returns the shapes of the answers."""

    async def asynchronous() -> list[tuple[int, ...]]:
        async with AsyncClient(url, **options) as client:  # type: ignore[arg-type]
            return [(await client.infer("digits", LARGE))["scores"].shape for _ in range(2)]

    with Client(url, **options) as client:  # type: ignore[arg-type]
        found: list[tuple[int, ...]] = [client.infer("digits", LARGE)["scores"].shape for _ in range(2)]
    return found + asyncio.run(asynchronous())


def test_a_token_over_tls(ports: Ports) -> None:
    assert asked(ports.token, token="open-sesame", tls=TRUSTING) == [(4000, 10)] * 4


def test_a_certificate_of_ones_own(ports: Ports) -> None:
    assert asked(ports.mutual, tls=KNOWN) == [(4000, 10)] * 4


@pytest.mark.parametrize("token", [None, "sesame"])
def test_without_the_token_the_server_says_so(ports: Ports, token: str | None) -> None:
    for url, tls in ((ports.token, TRUSTING), (ports.plain_token, None)):
        with Client(url, token=token, tls=tls) as client:
            assert client.alive()
            with pytest.raises(ServerRefused, match="token") as caught:
                client.ready("digits") or client.metadata()
            assert caught.value.status == 401


def test_a_server_that_is_not_trusted_gets_no_token(ports: Ports) -> None:
    with Client(ports.token, token="open-sesame") as client, pytest.raises(Unreachable, match="certificate") as caught:
        client.metadata()
    assert not caught.value.sent


def test_without_a_certificate_there_is_no_answer(ports: Ports) -> None:
    with Client(ports.mutual, tls=TRUSTING) as client, pytest.raises(ClientError):
        client.metadata()


def test_a_token_breaks_no_head_apart(ports: Ports) -> None:
    with Client(ports.plain_token, token="x\r\nauthorization: Bearer open-sesame") as client, pytest.raises(ValueError):  # noqa: PT011
        client.metadata()
