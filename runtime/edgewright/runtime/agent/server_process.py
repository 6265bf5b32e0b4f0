"""One run of the server as the agent's child: started with inherited sockets, spoken to over a socket pair."""

from __future__ import annotations

import itertools
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal, Protocol

import msgspec

from .. import serving
from ..control import MAX_LINE_BYTES, Reply, Request, decode_reply, encode
from .listeners import HeldListener
from .loop import Scheduler
from .state_lock import hold_server_lock

_log = logging.getLogger(__name__)

_SEND_TIMEOUT_S = 5.0
_BLACK_BOX = "black-box-"


class ServerRun(Protocol):
    """A server that runs, or ran."""

    pid: int
    black_box: Path | None
    """Where it notes what it executes."""

    def send(self, request: Request) -> bool:
        """Send a request; False where the server does not take it."""

    def signal(self, number: int) -> None:
        """Send a signal, if it still runs."""


class Spawn(Protocol):
    """Starts a server; `on_reply` and `on_gone` (with the reason) are called on the loop."""

    def __call__(self, on_reply: Callable[[Reply], None], on_gone: Callable[[str], None], *, paused: bool) -> ServerRun:
        """Start it; a `paused` one accepts nothing until it is told to."""


@dataclass(frozen=True, kw_only=True)
class ServerSettings:
    """What a server is started with."""

    listeners: tuple[HeldListener, ...]
    run_directory: Path
    log_path: Path
    boot: str
    window_s: int
    emulate: bool
    grpc: serving.GrpcSettings | None = None
    power: serving.PowerSettings
    access_log: bool = False
    log_format: Literal["text", "json"] = "text"


class ServerSpawner:
    """Starts real server processes."""

    def __init__(self, loop: Scheduler, settings: ServerSettings) -> None:
        self._loop = loop
        self._settings = settings
        self._numbers = itertools.count(1)
        for leftover in settings.run_directory.glob(f"{_BLACK_BOX}*"):
            leftover.unlink(missing_ok=True)

    def __call__(
        self, on_reply: Callable[[Reply], None], on_gone: Callable[[str], None], *, paused: bool = False
    ) -> ServerRun:
        settings = self._settings
        box = settings.run_directory / f"{_BLACK_BOX}{next(self._numbers)}"
        ours, theirs = socket.socketpair()
        with theirs, open_log(settings.log_path) as log, hold_server_lock(settings.run_directory) as lock:
            listen_fds = [listener.socket.fileno() for listener in settings.listeners]
            process = subprocess.Popen(
                server_command(settings, theirs.fileno(), box, paused=paused),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(theirs.fileno(), lock.fileno(), *listen_fds),
            )
            lock.write(f"{process.pid}\n".encode())
        ours.settimeout(_SEND_TIMEOUT_S)
        run = _Run(process, ours, box)
        threading.Thread(
            target=run.listen, args=(self._loop, on_reply, on_gone), name="server-control", daemon=True
        ).start()
        return run


def server_command(settings: ServerSettings, control_fd: int, black_box: Path, *, paused: bool) -> list[str]:
    """Return the command line of a server."""
    wanted = serving.ServerSettings(
        listeners=tuple(listener.settings() for listener in settings.listeners),
        counters_dir=str(settings.run_directory),
        boot=settings.boot,
        window_s=settings.window_s,
        emulated=settings.emulate,
        grpc=settings.grpc,
        power=settings.power,
        access_log=settings.access_log,
        log_format=settings.log_format,
        black_box=str(black_box),
        paused=paused,
    )
    module = "edgewright.runtime.server"
    return [sys.executable, "-m", module, "--control-fd", str(control_fd), serving.encode_settings(wanted)]


def open_log(path: Path, max_bytes: int = 1024 * 1024) -> BinaryIO:
    """Return a log file opened for appending; a long one becomes `<name>.1` first."""
    if path.exists() and path.stat().st_size > max_bytes:
        path.replace(path.with_name(path.name + ".1"))
    return path.open("ab", buffering=0)


class _Run:
    def __init__(self, process: subprocess.Popen[bytes], control: socket.socket, black_box: Path | None = None) -> None:
        self.pid = process.pid
        self.black_box = black_box
        self._process = process
        self._control = control

    def send(self, request: Request) -> bool:
        try:
            self._control.sendall(encode(request))
        except OSError as error:
            _log.warning("the server does not take a request: %s", error)
            return False
        return True

    def signal(self, number: int) -> None:
        if self._process.poll() is None:
            self._process.send_signal(number)

    def listen(self, loop: Scheduler, on_reply: Callable[[Reply], None], on_gone: Callable[[str], None]) -> None:
        """Post what the server says until it is gone; runs on a thread of its own."""
        problem = self._read_replies(loop, on_reply)
        if problem:
            self.signal(signal.SIGKILL)
        try:
            self._process.wait(timeout=_SEND_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            problem = problem or "it closed its control channel and did not end"
            self._process.kill()
        code = self._process.wait()
        self._control.close()
        reason = problem or describe_exit(code)
        loop.post(lambda: on_gone(reason))

    def _read_replies(self, loop: Scheduler, on_reply: Callable[[Reply], None]) -> str:
        reader = self._control.dup()
        reader.setblocking(True)
        with reader, reader.makefile("rb") as lines:
            while line := _next_line(lines):
                try:
                    reply = decode_reply(line)
                except (msgspec.DecodeError, UnicodeDecodeError) as error:
                    return f"it sent a line on its control channel that is no reply: {error}"
                loop.post(lambda reply=reply: on_reply(reply))  # type: ignore[misc] # mypy loses the default's type
        return ""


def _next_line(lines: BinaryIO) -> bytes:
    try:
        return lines.readline(MAX_LINE_BYTES + 1)
    except ConnectionResetError:  # the end, too: it ended before it had read all that it was sent
        return b""


def describe_exit(code: int) -> str:
    """Return in words how a process ended."""
    if code >= 0:
        return f"exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"killed by {name}"


def boot_id() -> str:
    """Return the kernel's boot id; another one at each boot."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return f"unknown-{os.getpid()}"
