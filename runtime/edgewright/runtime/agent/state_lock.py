"""Locks that die with their holder: one agent on a state directory, no server of a dead agent beside a new one."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from edgewright.targets.faults import EnvironmentFault

_SERVER_LOCK = "server.lock"
_MAX_LOCK_BYTES = 64


class StateInUse(EnvironmentFault):
    """Another daemon runs on this state directory."""


def lock_state(state: Path) -> BinaryIO:
    """Return the open lock file of a state directory; the lock ends with the process.

    Raises:
        StateInUse: another daemon holds it.
    """
    file = (state / "agent.lock").open("ab+", buffering=0)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.seek(0)
        holder = file.read(32).decode("ascii", "replace").strip()
        file.close()
        raise StateInUse(
            f"a device daemon (process {holder or 'unknown'}) runs on {state} already; "
            "stop it first, or give this one another --state-dir"
        ) from error
    file.truncate(0)
    file.write(f"{os.getpid()}\n".encode())
    return file


@contextlib.contextmanager
def hold_server_lock(run_directory: Path) -> Iterator[BinaryIO]:
    """Lock `server.lock` and yield it, to be inherited by a server: it stays locked for as long as that one lives.

    A server and the one that takes over from it share the lock. The file holds a process id a line.
    """
    with (run_directory / _SERVER_LOCK).open("ab+", buffering=0) as file:
        if _free(file):
            file.truncate(0)
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        yield file


def end_orphan_server(run_directory: Path, *, patience_s: float) -> bool:
    """Wait for the server of an agent that was killed, and kill it where it takes too long; True where there was one.

    As long as it lives it may still answer and count: its counter files must not be taken for finished.
    """
    path = run_directory / _SERVER_LOCK
    if not path.exists():
        return False
    with path.open("rb", buffering=0) as file:
        if _free(file):
            return False
        until_s = time.monotonic() + patience_s
        while time.monotonic() < until_s:
            time.sleep(0.02)
            if _free(file):
                return True
        for pid in file.read(_MAX_LOCK_BYTES).decode("ascii", "replace").split():
            if pid.isdigit():
                with contextlib.suppress(ProcessLookupError):  # it ended by itself just now
                    os.kill(int(pid), signal.SIGKILL)
        fcntl.flock(file, fcntl.LOCK_EX)
        return True


def _free(file: BinaryIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
