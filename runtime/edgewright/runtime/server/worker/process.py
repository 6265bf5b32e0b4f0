"""One run of a worker process, as the server sees it."""

from __future__ import annotations

import logging
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from edgewright.targets.faults import Fault, UserFault

from ...engines.protocol import EngineMissing, LoadOptions, ModelRefused, WorkerLost
from ..loading import GoldenTestFailed
from .arena import TensorsTooLarge, WrongPlace, create_arena
from .messages import ChannelClosed, ChannelError, Message, Proved, Raised, Ran, Run, receive, send

_log = logging.getLogger(__name__)

_LOOK_MS = 100
"""How often one looks whether a worker that does not answer is stopped."""
_STOPPED_LOOKS = 3
"""So many looks in a row: a stop that somebody ends at once is no hang."""
_ENDING_S = 1.0
"""A process whose channel is closed ends within this time, or is ended."""
_FAULTS: dict[str, type[Fault]] = {
    kind.__name__: kind for kind in (EngineMissing, ModelRefused, GoldenTestFailed, UserFault)
}


class RunFailed(Exception):
    """The engine raised, in the worker, which lives on."""


class InputsRefused(UserFault):
    """The bundle's steps or the engine's border refuse these inputs, in the worker; the message says why."""


@dataclass(frozen=True, slots=True)
class Launch:
    """What a worker is started with."""

    directory: Path
    options: LoadOptions
    max_batch_rows: int


class WorkerProcess:
    """A started worker. `run` and `proved` are called by one thread at a time, everything else by any.

    It must be made by a thread that outlives it: the kernel counts a thread's end as the parent's death.
    """

    def __init__(self, launch: Launch) -> None:
        ours, theirs = socket.socketpair()
        self._arena = create_arena()
        command = [sys.executable, "-m", "edgewright.runtime.server.worker", str(launch.directory)]
        command += ["--channel-fd", str(theirs.fileno()), "--arena-fd", str(self._arena.fd)]
        command += ["--parent", str(os.getpid()), "--max-batch-rows", str(launch.max_batch_rows)]
        command += ["--emulated"] if launch.options.emulated else []
        command += ["--threads", str(launch.options.threads)] if launch.options.threads else []
        try:
            with theirs:
                self._process = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, pass_fds=(theirs.fileno(), self._arena.fd)
                )
        except BaseException:
            ours.close()
            self._arena.close()
            raise
        self._channel = ours
        self._poll = select.poll()
        self._poll.register(ours, select.POLLIN)
        self._verdict = ""
        self._lock = threading.Lock()
        self.pid = self._process.pid

    def proved(self, timeout_s: float) -> Proved:
        """Wait until the model is loaded and warm.

        Raises:
            Fault: it cannot be, or takes too long.
        """
        answer = self._answer(timeout_s)
        if isinstance(answer, Raised):
            raise _FAULTS.get(answer.kind, UserFault)(answer.reason)
        if not isinstance(answer, Proved):
            raise self._lost(f"it says {type(answer).__name__} where Proved was expected")
        return answer

    def run(self, inputs: Mapping[str, NDArray[Any]], timeout_s: float) -> dict[str, NDArray[Any]]:
        """Run the model there; returns outputs of our own.

        Raises:
            RunFailed: the engine raised.
            InputsRefused: the inputs are at fault.
            TensorsTooLarge: they do not fit the arena; nothing ran.
            WorkerLost: the process ended, or hung and was ended.
        """
        places, end = self._arena.write(inputs, 0)
        try:
            send(self._channel, Run(self._arena.size_bytes, end, places))
        except ChannelError as error:
            raise self._lost(None) from error
        answer = self._answer(timeout_s)
        if isinstance(answer, Raised):
            raise InputsRefused(answer.reason) if answer.refused else RunFailed(answer.reason)
        if not isinstance(answer, Ran):
            raise self._lost(f"it says {type(answer).__name__} where Ran was expected")
        try:
            self._arena.follow(answer.arena_bytes)
            return self._arena.read(answer.outputs, copy=True)
        except (TensorsTooLarge, WrongPlace) as error:
            raise self._lost(str(error)) from error

    def kill(self, verdict: str) -> None:
        """`kill -9`; the first verdict is what `wait` tells."""
        with self._lock:
            self._verdict = self._verdict or verdict
        self._process.kill()

    def wait(self) -> str:
        """Wait for the end and give everything back; returns in words how it ended. Called by its maker, once."""
        code = self._process.wait()
        with self._lock:
            return self._verdict or _exit_in_words(code)

    def release(self) -> None:
        """Give channel and arena back. The process has ended, and no `run` is under way."""
        self._channel.close()
        self._arena.close()

    def _answer(self, timeout_s: float) -> Message:
        end_s, stopped = time.monotonic() + timeout_s, 0
        while True:
            left_ms = (end_s - time.monotonic()) * 1000
            if left_ms <= 0:
                raise self._lost(f"it did not answer for {timeout_s:g} s")
            if self._poll.poll(min(left_ms, _LOOK_MS)):
                break
            stopped = stopped + 1 if is_stopped(self.pid) else 0
            if stopped >= _STOPPED_LOOKS:
                raise self._lost("it is stopped (SIGSTOP)")
        try:
            return receive(self._channel)
        except ChannelClosed as error:
            raise self._lost(None) from error
        except ChannelError as error:
            raise self._lost(str(error)) from error

    def _lost(self, verdict: str | None) -> WorkerLost:
        """End what is not to be trusted any more; there is no verdict where the process ends by itself."""
        if verdict is None:
            verdict = self._own_end()
        else:
            self.kill(verdict)
        return WorkerLost(f"the model's process has ended: {verdict}", executing=True)

    def _own_end(self) -> str:
        try:
            return self._verdict or _exit_in_words(self._process.wait(_ENDING_S))
        except subprocess.TimeoutExpired:
            self.kill("it closed its channel and did not end")
            return self._verdict


def is_stopped(pid: int) -> bool:
    """Whether a process is stopped by a signal; a debugger's stop ('t') is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return False
    return stat.rpartition(b") ")[2][:1] == b"T"


def _exit_in_words(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"
