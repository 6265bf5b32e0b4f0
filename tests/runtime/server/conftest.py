"""A running server with two models, shared by the tests of one module."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from edgewright.runtime.control import Done
from edgewright.runtime.server.child import ServerChild, listen_tcp, listen_unix
from tests.runtime.small_bundle import SmallBundle, digits_bundle, echo_bundle


@dataclass(frozen=True)
class Running:
    """A server that serves `digits` and `echo`."""

    child: ServerChild
    port: int
    unix_path: Path
    counters_dir: Path
    digits: SmallBundle
    echo: SmallBundle

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=60)

    def ask(
        self, method: str, target: str, body: bytes | str | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int, Any, dict[str, str]]:
        """Return status, body (parsed if it is JSON) and headers with lower-case names."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, target, body, headers or {})
            response = connection.getresponse()
            content = response.read()
            found = {name.lower(): value for name, value in response.getheaders()}
            return response.status, json.loads(content) if "json" in found["content-type"] else content, found
        finally:
            connection.close()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A real server process, on TCP and on a Unix socket."""
    base = tmp_path_factory.mktemp("server")
    digits, echo = digits_bundle(base / "digits-1"), echo_bundle(base / "echo-1")
    with listen_tcp() as tcp, listen_unix(base / "s") as unix, ServerChild([tcp, unix], base) as child:
        assert isinstance(child.load(digits.directory, "digits", "1", digits.digest), Done)
        assert isinstance(child.load(echo.directory, "echo", "1", echo.digest), Done)
        yield Running(child, tcp.getsockname()[1], base / "s", base, digits, echo)
        assert isinstance(child.ping(), Done), "the server must outlive its tests"
