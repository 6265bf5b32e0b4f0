"""Runs a program of the fleet's `hooks` directory: no shell, JSON on standard input, a time limit, bounded output.

Only files of that directory can be named, so the admin token does not let its owner run whatever stands on the machine:
for that one must write into the data directory.
"""

from __future__ import annotations

import contextlib
import os
import signal
import stat
import subprocess
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from .outcome import HookFailed, printable

TAIL_BYTES = 2000
MOST_PRINTED_BYTES = 64 << 20
"""What a program prints is kept until it ends: endless, it would fill the disk that the fleet stands on."""
POLL_S = 0.1
KEPT = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "VIRTUAL_ENV", "PYTHONPATH")
"""Environment that programs get; the fleet's own tokens are not in it."""


class Programs:
    """The programs of one directory. `stop` ends those that run."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._stopping = threading.Event()

    def stop(self) -> None:
        """End whatever runs, soon; no new program is started."""
        self._stopping.set()

    def run(self, argv: Sequence[str], body: bytes, *, timeout_s: float, folder: Path | None = None) -> str:
        """Run a program to its end and return the end of what it printed.

        Raises:
            HookFailed: it is not there, ended with another code than 0, or took too long.
        """
        program = self._find(argv[0])
        with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as printed:
            given.write(body)
            given.seek(0)
            try:
                process = subprocess.Popen(
                    [str(program), *argv[1:]],
                    stdin=given,
                    stdout=printed,
                    stderr=subprocess.STDOUT,
                    cwd=folder or self._directory,
                    env={name: os.environ[name] for name in KEPT if name in os.environ},
                    start_new_session=True,
                )
            except OSError as error:
                raise HookFailed(f"{argv[0]}: {error.strerror or error}") from error
            ended = self._wait(process, printed.fileno(), timeout_s)
            tail = _tail(printed.fileno())
        if ended is not None:
            raise HookFailed(f"{argv[0]}: {ended}; it printed: {tail}")
        if process.returncode != 0:
            raise HookFailed(f"{argv[0]} ended with {process.returncode}; it printed: {tail}")
        return tail

    def _find(self, name: str) -> Path:
        path = self._directory / name
        try:
            found = path.stat()
        except OSError as error:
            raise HookFailed(f"{path}: {error.strerror or error}; put the program there") from error
        if not stat.S_ISREG(found.st_mode) or not os.access(path, os.X_OK):
            raise HookFailed(f"{path} is not an executable file (chmod +x)")
        return path.absolute()

    def _wait(self, process: subprocess.Popen[bytes], printed: int, timeout_s: float) -> str | None:
        """Wait for the end; return why it was ended by force, or None."""
        deadline = time.monotonic() + timeout_s
        reason = None
        while reason is None and not _has_ended(process):
            if self._stopping.wait(POLL_S):
                reason = "the fleet server is stopping"
            elif time.monotonic() >= deadline:
                reason = f"still running after {timeout_s:g} s"
            elif os.fstat(printed).st_size > MOST_PRINTED_BYTES:
                reason = f"it printed more than {MOST_PRINTED_BYTES >> 20} MiB; have it write to a file of its own"
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)  # also what it has left behind
        process.wait()
        return reason


def _has_ended(process: subprocess.Popen[bytes]) -> bool:
    """Look without collecting: until then nobody else gets its number, and its group can be ended by it."""
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _tail(descriptor: int) -> str:
    size = os.fstat(descriptor).st_size
    return printable(os.pread(descriptor, TAIL_BYTES, max(0, size - TAIL_BYTES)).decode(errors="replace").strip())
