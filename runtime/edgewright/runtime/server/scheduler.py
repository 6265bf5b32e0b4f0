"""When and where an inference runs: the seam for batching, priorities and deadlines.

A scheduler takes jobs on the event loop and delivers each outcome on the event loop, once. `DirectScheduler` has no
policy: it runs a job at once where that costs less than handing it to another thread, else in one worker thread, first
in first out.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from numpy.typing import NDArray

from .pipeline import Job, Tensors
from .refusal import not_now

HOP_S = 0.0002
"""Cost of a round trip to another thread and back: 125 to 195 µs were measured on a slow x86 core."""


@dataclass(slots=True)
class Execution:
    """What one run of the model gave."""

    outputs: dict[str, NDArray[Any]] | None
    error: Exception | None
    queue_ns: int = 0
    compute_ns: int = 0


Execute = Callable[[Tensors], Execution]
Deliver = Callable[[Execution], None]


class Scheduler(Protocol):
    """Decides when a job runs. All methods are called on the event loop."""

    def submit(self, job: Job, deliver: Deliver) -> None:
        """Run the model on the job's inputs and call `deliver` on the event loop, now or later.

        Raises:
            Refusal: the job is refused (503), nothing runs.
        """

    @property
    def inline(self) -> bool:
        """True where a single sample runs on the event loop."""

    @property
    def pending(self) -> int:
        """Jobs that were taken and not delivered yet."""

    def close(self) -> None:
        """No job follows."""


class DirectScheduler:
    """Runs small jobs on the event loop and the others in one thread."""

    def __init__(self, execute: Execute, *, row_s: float, max_pending: int = 1024) -> None:
        self._execute = execute
        self._inline_rows = int(HOP_S / row_s) if row_s > 0 else 0
        self._max_pending = max_pending
        self._pending = 0
        self._jobs: queue.SimpleQueue[tuple[Tensors, Deliver, int] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def inline(self) -> bool:
        """True where a single sample runs on the event loop."""
        return self._inline_rows >= 1

    @property
    def pending(self) -> int:
        return self._pending

    def submit(self, job: Job, deliver: Deliver) -> None:
        if job.rows <= self._inline_rows:
            deliver(_timed(self._execute, job.inputs, time.perf_counter_ns()))
            return
        if self._pending >= self._max_pending:
            raise not_now("too many requests wait for this model")
        self._pending += 1
        self._start_thread()
        self._jobs.put((job.inputs, deliver, time.perf_counter_ns()))

    def close(self) -> None:
        if self._thread is not None:
            self._jobs.put(None)
            self._thread.join()
            self._thread = None

    def _start_thread(self) -> None:
        if self._thread is None:
            self._loop = asyncio.get_running_loop()
            self._thread = threading.Thread(target=self._work, name="inference", daemon=True)
            self._thread.start()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            inputs, deliver, submitted_ns = job
            execution = _timed(self._execute, inputs, submitted_ns)
            if self._loop is not None:
                self._loop.call_soon_threadsafe(self._deliver, deliver, execution)
            del job, inputs, execution  # a waiting worker must not keep the last tensors alive

    def _deliver(self, deliver: Deliver, execution: Execution) -> None:
        self._pending -= 1
        deliver(execution)


def _timed(execute: Execute, inputs: Tensors, submitted_ns: int) -> Execution:
    begun_ns = time.perf_counter_ns()
    execution = execute(inputs)
    execution.queue_ns = begun_ns - submitted_ns
    execution.compute_ns = time.perf_counter_ns() - begun_ns
    return execution
