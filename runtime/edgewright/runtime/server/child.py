"""The parent's half of the server's contract, for benches, tests and scripts: start it, speak to it, end it.

It blocks, and it has one child. The agent supervises its server on its own event loop instead.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ..control import (
    BreakerMoved,
    Done,
    Drain,
    Load,
    Ping,
    Ready,
    Reply,
    Request,
    SetRoutes,
    Unload,
    decode_reply,
    encode,
)
from ..serving import ListenerSettings, ModelSettings, ServerSettings, encode_settings

_BACKLOG = 128


def listen_tcp(host: str = "127.0.0.1", port: int = 0) -> socket.socket:
    """Return a listening TCP socket; port 0 takes a free one."""
    return socket.create_server((host, port), backlog=_BACKLOG)


def listen_unix(path: Path) -> socket.socket:
    """Return a listening Unix socket."""
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(path))
    listening.listen(_BACKLOG)
    return listening


def listen_tensors(path: Path) -> socket.socket:
    """Return a listening socket for a listener of kind `tensors`."""
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listening.bind(str(path))
    listening.listen(_BACKLOG)
    return listening


class ServerChild:
    """A running server process. The listening sockets stay the caller's: a next child can take over the same ones."""

    def __init__(
        self,
        listeners: Sequence[socket.socket],
        counters_dir: Path,
        /,
        *,
        timeout_s: float = 30.0,
        **settings: Any,
    ) -> None:
        """Start a server. `settings` are fields of `ServerSettings`; a socket becomes a data listener without one."""
        ours, theirs = socket.socketpair()
        handed = [listener.fileno() for listener in listeners]
        settings.setdefault("listeners", tuple(ListenerSettings(fd=number) for number in handed))
        settings.setdefault("boot", "boot")
        wanted = encode_settings(ServerSettings(counters_dir=str(counters_dir), **settings))
        command = [sys.executable, "-m", "edgewright.runtime.server", "--control-fd", str(theirs.fileno()), wanted]
        self.process = subprocess.Popen(command, pass_fds=[theirs.fileno(), *handed], stdin=subprocess.DEVNULL)
        theirs.close()
        ours.settimeout(timeout_s)
        self._control = ours
        self._lines = ours.makefile("rb")
        self._next_id = 0
        self.breaker_moves: list[BreakerMoved] = []
        """What the server has said unasked; it is read when a reply is waited for."""
        ready = self._receive()
        if not isinstance(ready, Ready):
            raise RuntimeError(f"expected Ready from the server, got {ready}")
        self.incarnation = ready.incarnation
        self.grpc_address = ready.grpc_address

    def load(
        self, directory: Path, model: str, version: str, bundle: str, *, beside: bool = False, **settings: Any
    ) -> Reply:
        """Ask for a bundle to be served; returns `Done` or `Failed`. `settings` are fields of `ModelSettings`."""
        return self.ask(
            Load(
                id=self._new_id(),
                model=model,
                version=version,
                bundle=bundle,
                directory=str(directory.absolute()),
                settings=ModelSettings(**settings),
                beside=beside,
            )
        )

    def unload(self, model: str, version: str | None = None) -> Reply:
        """Ask for a model, or one version of it, to be taken out of service."""
        return self.ask(Unload(id=self._new_id(), model=model, version=version))

    def set_routes(self, toml: str) -> Reply:
        """Ask for all routes to be replaced by those of a text."""
        return self.ask(SetRoutes(id=self._new_id(), toml=toml))

    def ping(self) -> Reply:
        return self.ask(Ping(id=self._new_id()))

    def drain(self) -> int:
        """Ask the server to end; returns its exit code."""
        reply = self.ask(Drain(id=self._new_id()))
        if not isinstance(reply, Done):
            raise RuntimeError(f"expected Done from the server, got {reply}")
        return self.process.wait(timeout=30)

    def ask(self, request: Request) -> Reply:
        """Send one request and wait for its reply."""
        self.send(request)
        return self._receive()

    def send(self, request: Request) -> None:
        """Send one request and wait for nothing."""
        self.send_line(encode(request))

    def send_line(self, line: bytes) -> None:
        self._control.sendall(line)

    def hang_up(self) -> None:
        """Close the control channel, as the death of an agent does."""
        self._lines.close()
        self._control.close()

    def kill(self) -> None:
        """`kill -9`."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(timeout=30)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        del kind, error, trace
        if self.process.poll() is None:
            os.kill(self.process.pid, signal.SIGKILL)
            self.process.wait(timeout=30)
        self.hang_up()

    def _new_id(self) -> int:
        self._next_id += 1
        return self._next_id

    def _receive(self) -> Reply:
        while True:
            line = self._lines.readline()
            if not line:
                raise RuntimeError(f"the server ended with exit code {self.process.wait(timeout=30)}")
            reply = decode_reply(line)
            if not isinstance(reply, BreakerMoved):
                return reply
            self.breaker_moves.append(reply)
