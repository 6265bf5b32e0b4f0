"""Runs compilers side by side; when anything ends the work early, all of them and their children are gone."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_POLL_S = 0.002
MAX_OUTPUT_BYTES = 64 << 10
LEAST_FREE_BYTES = 1 << 20
"""On the disk of a build; a compiler that fails with less has failed for that."""
DISK_FULL = "the disk is full: the compiler could not write what it made; free some and try again"


class CompilerEnded(Exception):
    """A command failed, or was stopped at the time limit (status None)."""

    def __init__(self, command: Sequence[str], status: int | None, output: str) -> None:
        super().__init__(f"{' '.join(command)} ended with {status}: {output[:200]}")
        self.status = status
        self.output = output


@dataclass(frozen=True)
class _Run:
    command: Sequence[str]
    process: subprocess.Popen[bytes]
    log: Path
    deadline_s: float


def filled_the_disk(error: CompilerEnded, folder: Path) -> bool:
    """Whether a command that worked in a folder failed for want of room, which says nothing about its input."""
    # Linkers and assemblers do not always say why they could not write.
    return "No space left on device" in error.output or shutil.disk_usage(folder).free < LEAST_FREE_BYTES


def run_all(commands: Sequence[Sequence[str]], folder: Path, environment: Mapping[str, str], limit_s: float) -> None:
    """Runs commands in a folder, as many at a time as there are cores.

    Raises:
        CompilerEnded: one failed, or took longer than the limit; what had been started is gone.
        FileNotFoundError: there is no such program.
    """
    waiting = list(enumerate(commands))[::-1]
    running: list[_Run] = []
    cores = len(os.sched_getaffinity(0))
    try:
        while waiting or running:
            while waiting and len(running) < cores:
                index, command = waiting.pop()
                log = Path(environment["TMPDIR"]) / f"said-{index}"
                with _uninterrupted():  # a process that has begun is known, and so will be stopped
                    running.append(_start(command, folder, environment, log, time.monotonic() + limit_s))
            running = [run for run in running if not _ended(run)]
            if running:
                time.sleep(_POLL_S)
    finally:
        for run in running:
            _stop(run.process)


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """Ctrl-C waits until the end.

    Handlers are exchanged. To block the signals is not enough: they go to any thread of the process that does not
    block them, such as those of numpy's BLAS, and Python then runs the handler in the main thread all the same.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # handlers run in the main thread only
        return
    came: list[int] = []
    before: dict[int, Any] = {}
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            before[number] = signal.signal(number, lambda number, _: came.append(number))
        yield
    finally:
        for known, handler in before.items():
            signal.signal(known, handler if handler is not None else signal.SIG_DFL)
        for each in came:
            signal.raise_signal(each)


def _start(command: Sequence[str], folder: Path, environment: Mapping[str, str], log: Path, deadline_s: float) -> _Run:
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            start_new_session=True,  # so that a compiler's own children can be stopped with it
        )  # fmt: skip
    return _Run(command, process, log, deadline_s)


def _ended(run: _Run) -> bool:
    status = run.process.poll()
    if status is None and time.monotonic() > run.deadline_s:
        raise CompilerEnded(run.command, None, "")
    if status:
        with run.log.open("rb") as log:
            raise CompilerEnded(run.command, status, log.read(MAX_OUTPUT_BYTES).decode(errors="replace"))
    return status is not None


def _stop(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
