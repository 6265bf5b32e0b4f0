"""A running server with all its kinds of listeners, and a server that says what a test tells it to."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from edgewright.runtime.control import Done
from edgewright.runtime.server.child import ServerChild, listen_tcp, listen_tensors, listen_unix
from edgewright.runtime.serving import ListenerSettings
from tests.runtime.small_bundle import SmallBundle, digits_bundle, echo_bundle


@dataclass(frozen=True)
class Served:
    """A server that serves `digits` and `echo`."""

    child: ServerChild
    tcp: str
    unix: str
    admin: str
    tensors: str
    digits: SmallBundle


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    base = tmp_path_factory.mktemp("client")
    digits, echo = digits_bundle(base / "digits-1"), echo_bundle(base / "echo-1")
    with (
        listen_tcp() as tcp,
        listen_unix(base / "s") as unix,
        listen_unix(base / "a") as admin,
        listen_tensors(base / "t") as tensors,
    ):
        listeners = (
            ListenerSettings(fd=tcp.fileno()),
            ListenerSettings(fd=unix.fileno()),
            ListenerSettings(fd=admin.fileno(), kind="admin"),
            ListenerSettings(fd=tensors.fileno(), kind="tensors"),
        )
        with ServerChild([tcp, unix, admin, tensors], base, listeners=listeners) as child:
            assert isinstance(child.load(digits.directory, "digits", "1", digits.digest), Done)
            assert isinstance(child.load(echo.directory, "echo", "1", echo.digest), Done)
            yield Served(
                child,
                f"http://127.0.0.1:{tcp.getsockname()[1]}",
                f"unix://{base / 's'}",
                f"unix://{base / 'a'}",
                f"tensors://{base / 't'}",
                digits,
            )
            assert isinstance(child.ping(), Done), "the server must outlive its tests"


class ScriptedServer:
    """Reads one request of each connection after the other, and answers it with the next of the given bytes.

    An empty answer closes the connection without a word. `requests` has what came.
    """

    def __init__(self, path: Path, answers: list[bytes]) -> None:
        self._listening = listen_unix(path)
        self._answers = answers
        self.url = f"unix://{path}"
        self.requests: list[bytes] = []
        self.connections = 0
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while self._answers:
            try:
                accepted, _ = self._listening.accept()
            except OSError:
                return
            self.connections += 1
            with accepted, contextlib.suppress(OSError):
                self._converse(accepted)

    def _converse(self, connection: socket.socket) -> None:
        while self._answers and (request := connection.recv(1 << 20)):
            self.requests.append(request)
            answer = self._answers.pop(0)
            if not answer:
                return
            connection.sendall(answer)
            if b"connection: close" in answer:
                return

    def close(self) -> None:
        """End the thread first: its next `accept` would take this socket's number, which may be that of another."""
        with contextlib.suppress(OSError):  # elsewhere than on Linux
            self._listening.shutdown(socket.SHUT_RDWR)
        self._thread.join(10)
        self._listening.close()


@pytest.fixture
def scripted(tmp_path: Path) -> Iterator[Callable[[list[bytes]], ScriptedServer]]:
    servers: list[ScriptedServer] = []

    def start(answers: list[bytes]) -> ScriptedServer:
        servers.append(ScriptedServer(tmp_path / f"s{len(servers)}", answers))
        return servers[-1]

    yield start
    for server in servers:
        server.close()
