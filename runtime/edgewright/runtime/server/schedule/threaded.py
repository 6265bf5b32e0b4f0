"""Models that take longer than a hop run in a thread of their own, which forms each batch when it is free for it.

So the engine never waits for the event loop while jobs wait, and the loop is woken once for each batch.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from typing import Any

from ..pipeline import Job
from ..refusal import Refusal, not_now
from .core import Batch, Core
from .execution import BatchTimes, Deliver, Ended, Executed, Execution
from .queue import Waiting
from .runner import Runner
from .scheduled import answer, dismiss


class ThreadedScheduler:
    """A `Scheduler` with one thread, which is started by the first job."""

    inline = False

    def __init__(self, core: Core, runner: Runner, executed: Executed, ended: Ended) -> None:
        self._core = core
        self._runner = runner
        self._executed = executed
        self._ended = ended
        self._lock = threading.Lock()
        """Held for microseconds by whoever uses the core."""
        self._wake: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._asleep = True
        """The thread waits to be woken; changed under the lock."""
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_ns = 0
        self._pending = 0

    @property
    def pending(self) -> int:
        return self._pending

    def submit(self, job: Job, deliver: Deliver) -> None:
        if self._thread is None:
            self._start()
        now_ns = time.perf_counter_ns()
        waiting = self._core.waiting(job, deliver, now_ns)
        dead: list[Waiting] = []
        try:
            with self._lock:
                self._core.admit(waiting, now_ns, dead)
                wake, self._asleep = self._asleep, False
        finally:
            self._dismiss(dead)
        self._pending += 1
        if wake:
            self._wake.put(True)
        if waiting.deadline_ns is not None:  # whoever woke the thread, too: others may be taken before it
            self._watch(waiting.deadline_ns, now_ns)

    def turn_away(self, rows: int) -> Refusal | None:  # noqa: ARG002 - part of the interface
        if not self._core.shedding.overloaded:
            return None
        with self._lock:
            return self._core.turn_away()

    def explain(self) -> dict[str, Any]:
        with self._lock:
            return self._core.explain(time.perf_counter_ns())

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._thread is not None:
            self._wake.put(False)
            self._thread.join()
            self._thread = None

    def _start(self) -> None:
        self._loop = asyncio.get_running_loop()
        thread = threading.Thread(target=self._work, name="inference", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            raise not_now(f"the system gives this model no thread: {error}") from error
        self._thread = thread

    def _work(self) -> None:
        while self._wake.get():
            while self._run_next():
                pass

    def _run_next(self) -> bool:
        """Run a batch; False where nothing waits."""
        dead: list[Waiting] = []
        with self._lock:
            batch = self._core.take(time.perf_counter_ns(), dead)
            self._asleep = batch is None
        if dead:
            self._soon(self._dismiss, dead)
        if batch is None:
            return False
        times: list[BatchTimes] = []
        executions = self._runner.run_batch(batch.jobs, times.append)
        took_ns = time.perf_counter_ns() - batch.taken_ns
        self._soon(self._deliver, batch, executions, times)
        with self._lock:
            self._core.ran(batch, took_ns)
        return True

    def _soon(self, *call: Any) -> None:
        assert self._loop is not None  # noqa: S101 - the thread was started on it
        try:
            self._loop.call_soon_threadsafe(*call)
        except RuntimeError:  # the loop is closed: nobody is left to be told
            return

    def _deliver(self, batch: Batch, executions: list[Execution], times: list[BatchTimes]) -> None:
        self._pending -= len(batch.jobs)
        for each in times:
            self._executed(each)
        answer(batch.jobs, executions, self._ended)

    def _dismiss(self, dead: list[Waiting]) -> None:
        self._pending -= len(dead)
        dismiss(dead, self._core, time.perf_counter_ns())

    def _watch(self, deadline_ns: int, now_ns: int) -> None:
        """See to it that a job is answered when its deadline is over, however long the engine is busy."""
        if self._timer is not None:
            if self._timer_ns <= deadline_ns:
                return
            self._timer.cancel()
        self._timer_ns = deadline_ns
        delay_s = max(0, deadline_ns - now_ns) / 1e9
        self._timer = asyncio.get_running_loop().call_later(delay_s, self._expire)

    def _expire(self) -> None:
        self._timer = None
        now_ns = time.perf_counter_ns()
        with self._lock:
            dead = self._core.queue.expire(now_ns)
            next_ns = self._core.queue.next_deadline_ns
        self._dismiss(dead)
        if next_ns is not None:
            self._watch(next_ns, now_ns)
