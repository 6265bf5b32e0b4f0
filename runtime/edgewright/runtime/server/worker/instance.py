"""A model in a process of its own, as an engine's instance: it runs there, and the process is started again if it ends.

One thread of the server supervises each worker: it starts the process, waits for its end, and starts the next one after
a pause that doubles (0.1 to 30 s; a worker that ran for a minute begins anew).
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from numpy.typing import NDArray

from ...engines.protocol import WorkerLost
from .backoff import Backoff
from .messages import Proved
from .process import Launch, WorkerProcess

_log = logging.getLogger(__name__)

_START_TIMEOUT_S = 600.0
"""Loading a large model from a slow card takes minutes; `Load` has the agent's own, shorter deadline."""

Watch = Callable[[bool, str], None]
"""Called on the supervisor's thread: (True, "") when the worker is back, (False, reason) when it is lost."""


class WorkerInstance:
    """An `engines.protocol.Instance`. `run` blocks; calls at one time run one after the other."""

    blocking = True

    def __init__(self, launch: Launch, execution_timeout_s: float) -> None:
        """Start a worker and wait until its model is warm.

        Raises:
            Fault: it cannot be loaded there.
        """
        self._launch = launch
        self._execution_timeout_s = execution_timeout_s
        self._running = threading.Lock()
        self._changing = threading.Lock()
        self._process: WorkerProcess | None = None
        self._started: WorkerProcess | None = None
        self._closing = threading.Event()
        self._first = threading.Event()
        self._first_fault: Exception | None = None
        self._why_away = "it has not started"
        self._watch: Watch | None = None
        self.proved = Proved(0.0, ())
        self.restarts = 0
        self._thread = threading.Thread(target=self._supervise, name="worker-supervisor", daemon=True)
        self._thread.start()
        self._first.wait()
        if self._first_fault is not None:
            raise self._first_fault

    @property
    def pid(self) -> int | None:
        """Process id of the worker; None while there is none."""
        process = self._process
        return None if process is None else process.pid

    def watch(self, watch: Watch | None) -> None:
        """Have somebody told of losses and returns from now on."""
        self._watch = watch

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Run the model in the worker.

        Raises:
            RunFailed: the engine raised there.
            InputsRefused: the inputs are at fault.
            TensorsTooLarge: they do not fit the memory that both share.
            WorkerLost: the process ended or hung in this run (`executing`), or is not there now.
        """
        with self._running:
            process = self._process
            if process is None:
                raise WorkerLost(f"the model's process is not there: {self._why_away}", executing=False)
            try:
                return process.run(inputs, self._execution_timeout_s)
            except WorkerLost:
                self._process = None
                raise

    def close(self) -> None:
        """End the worker; returns at once."""
        self._watch = None
        with self._changing:
            self._closing.set()
            if self._started is not None:
                self._started.kill("closed")

    def _supervise(self) -> None:
        backoff = Backoff()
        while not self._closing.is_set():
            begun_s = time.monotonic()
            reason = self._live()
            if self._first_fault is not None or self._closing.is_set():
                break
            pause_s = backoff.ended(time.monotonic() - begun_s)
            _log.error("the worker of %s: %s; next start in %.1f s", self._launch.directory, reason, pause_s)
            self._closing.wait(pause_s)
            self.restarts += 1
        self._first.set()

    def _live(self) -> str:
        """One life of a worker; returns how it ended."""
        with self._changing:
            if self._closing.is_set():
                return "closed"
            try:
                process = self._started = WorkerProcess(self._launch)
            except Exception as error:  # noqa: BLE001 - whatever it is, somebody waits for the first start
                return self._not_started(error)
        try:
            self.proved = process.proved(_START_TIMEOUT_S)
        except Exception as error:  # noqa: BLE001 - as above
            process.kill("its model could not be loaded")
            reason = self._not_started(error)
        else:
            self._process = process
            self._first.set()
            self._tell(True, "")
            reason = ""
        ended = process.wait()
        self._why_away = reason or ended
        self._process = None
        if not reason:
            self._tell(False, ended)
        with self._running, self._changing:  # nobody reads the arena any more
            process.release()
            self._started = None
        return reason or ended

    def _not_started(self, error: Exception) -> str:
        if not self._first.is_set():
            self._first_fault = error
        return str(error)

    def _tell(self, back: bool, reason: str) -> None:
        watch = self._watch
        if watch is not None and not self._closing.is_set():
            watch(back, reason)
