"""Child processes that are always cleaned up, and the ports and brokers that they need."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

STOP_TIMEOUT_S = 15.0


class StoryError(Exception):
    """The demo did not go as it must; the message says which step, and where to look."""


FIRST_PORT, LAST_PORT = 20_000, 31_999
"""Below what Linux and macOS give to outgoing connections and to whoever asks for any port: nobody gets one by chance
between our look and the start of the process that it is for, or while that process is restarted."""


def free_port() -> int:
    """Return a TCP port that was free on loopback a moment ago."""
    for _ in range(100):
        port = FIRST_PORT + secrets.randbelow(LAST_PORT - FIRST_PORT + 1)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do
            probe.bind(("127.0.0.1", port))
            return port
    raise StoryError(f"no free port between {FIRST_PORT} and {LAST_PORT}")


def edgewright(*arguments: str) -> list[str]:
    """Return the command line of our own command, run by this interpreter."""
    return [sys.executable, "-m", "edgewright.runtime.cli", *arguments]


@dataclass
class Child:
    """One process that we started, in a session of its own, so that Ctrl-C reaches only us and we stop it in order."""

    name: str
    command: Sequence[str]
    log: Path
    process: subprocess.Popen[bytes]

    @property
    def pid(self) -> int:
        return self.process.pid

    def running(self) -> bool:
        return self.process.poll() is None

    def kill(self) -> None:
        """Kill -9, this process only: its own children must cope."""
        self.process.kill()
        self.process.wait()

    def terminate(self, timeout_s: float = STOP_TIMEOUT_S) -> None:
        """SIGTERM, then wait; whatever is left of the session after the timeout is killed."""
        if self.running():
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(timeout_s)
        self._sweep()
        self.process.wait()

    def _sweep(self) -> None:
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            return

    def log_tail(self, lines: int = 15) -> str:
        """Return the end of what the process printed."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


@dataclass
class Stage:
    """Every process of one run. Leaving it, for whatever reason, leaves none behind."""

    folder: Path
    children: list[Child] = field(default_factory=list)

    def start(self, name: str, command: Sequence[str], *, environment: dict[str, str] | None = None) -> Child:
        """Start a process; its output goes to `<folder>/logs/<name>.log`."""
        logs = self.folder / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        log = logs / f"{name}.log"
        with log.open("ab") as output:
            process = subprocess.Popen(
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **(environment or {})},
            )
        child = Child(name, command, log, process)
        self.children.append(child)
        return child

    def stop(self, child: Child) -> None:
        child.terminate()
        self.children.remove(child)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop in reverse order, all at once first, so that a slow one does not hold up the others."""
        previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            for child in reversed(self.children):
                if child.running():
                    child.process.terminate()
            for child in reversed(self.children):
                child.terminate()
        finally:
            signal.signal(signal.SIGINT, previous)


def wait_until(condition: Callable[[], bool], *, timeout_s: float, what: str, interval_s: float = 0.1) -> float:
    """Wait for a condition; return how long it took in seconds.

    Raises:
        StoryError: it did not come true in time.
    """
    start = time.monotonic()
    while not condition():
        if time.monotonic() - start > timeout_s:
            raise StoryError(f"waited {timeout_s:.0f} s for {what}")
        time.sleep(interval_s)
    return time.monotonic() - start


def run_json(command: Sequence[str], *, accept: tuple[int, ...] = (0,), timeout_s: float = 600.0) -> tuple[int, str]:
    """Run a command to its end; return its exit code and standard output.

    Raises:
        StoryError: the exit code is not one of those accepted; the message holds what it printed.
    """
    done = subprocess.run(list(command), capture_output=True, text=True, timeout=timeout_s, check=False)
    if done.returncode not in accept:
        raise StoryError(f"`{' '.join(command[2:])}` ended with {done.returncode}:\n{done.stderr}{done.stdout}")
    return done.returncode, done.stdout


def accepts_connections(port: int) -> bool:
    """Tell whether somebody listens on a loopback port."""
    with socket.socket() as probe:
        probe.settimeout(0.2)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def descendants(pid: int) -> list[int]:
    """Return the process and all that it started and that still run.

    Read from the children's side: a thread that ends while one looks hands its children to another one of its process,
    so `/proc/PID/task/*/children` has them twice or not at all.
    """
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        children.setdefault(parent, []).append(int(entry.name))
    found = [pid]
    for each in found:
        found += children.get(each, [])
    return found


def command_line(pid: int) -> str:
    """Return how a process was started, empty if it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


@dataclass
class Broker:
    """An MQTT broker on loopback, Mosquitto if installed, else amqtt; stopped, it remembers nothing."""

    stage: Stage
    port: int
    child: Child | None = None

    @staticmethod
    def mosquitto() -> str | None:
        """Return the path of Mosquitto's broker; Debian puts it where a user's PATH often does not look."""
        return shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")

    @property
    def kind(self) -> str:
        return "Mosquitto" if self.mosquitto() else "amqtt"

    def start(self) -> None:
        """Start the broker and wait until it accepts connections."""
        self.child = self.stage.start("broker", self._command())
        wait_until(lambda: accepts_connections(self.port), timeout_s=120, what=f"{self.kind} on port {self.port}")

    def stop(self, *, kill: bool = False) -> None:
        if self.child is None:
            return
        if kill:
            self.child.kill()
        self.stage.stop(self.child)
        self.child = None

    def _command(self) -> list[str]:
        mosquitto = self.mosquitto()
        if mosquitto:
            config = self.stage.folder / "mosquitto.conf"
            config.write_text(f"listener {self.port} 127.0.0.1\nallow_anonymous true\npersistence false\n")
            return [mosquitto, "-c", str(config)]
        return [sys.executable, "-m", "examples.demo.amqtt_broker", str(self.port)]
