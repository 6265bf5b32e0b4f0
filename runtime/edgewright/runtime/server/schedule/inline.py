"""Models that cost less than a hop to another thread run on the event loop.

All jobs that arrive in one turn of the loop are a batch: the first asks for one callback, which comes after the sockets
that were ready have been read. What is left waits for the next turn, so that sockets are read in between.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

from ..pipeline import Job
from ..refusal import Refusal
from .core import Core
from .execution import Deliver, Executed
from .queue import Waiting, is_dead
from .runner import Runner
from .scheduled import answer, dismiss


class InlineScheduler:
    """A `Scheduler` on the event loop."""

    inline = True

    def __init__(self, core: Core, runner: Runner, executed: Executed) -> None:
        self._core = core
        self._runner = runner
        self._executed = executed
        self._lone: Waiting | None = None
        """The first job of a turn, as long as it is the only one: it needs no queue."""
        self._planned = False

    def submit(self, job: Job, deliver: Deliver) -> None:
        core, now_ns = self._core, time.perf_counter_ns()
        waiting = core.waiting(job, deliver, now_ns)
        if self._lone is None and not core.queue.jobs:
            self._lone = waiting
        else:
            self._queue(waiting, now_ns)
        if not self._planned:
            self._planned = True
            asyncio.get_running_loop().call_soon(self._turn)

    def turn_away(self, rows: int) -> Refusal | None:  # noqa: ARG002 - part of the interface
        return self._core.turn_away() if self._core.shedding.overloaded else None

    @property
    def pending(self) -> int:
        return self._core.queue.jobs + (self._lone is not None)

    def explain(self) -> dict[str, Any]:
        return self._core.explain(time.perf_counter_ns())

    def close(self) -> None:
        """Nothing to give back."""

    def _queue(self, waiting: Waiting, now_ns: int) -> None:
        dead: list[Waiting] = []
        lone, self._lone = self._lone, None
        if lone is not None:
            self._core.admit(lone, now_ns, dead)
        try:
            self._core.admit(waiting, now_ns, dead)
        finally:
            dismiss(dead, self._core, now_ns)

    def _turn(self) -> None:
        self._planned = False
        now_ns = time.perf_counter_ns()
        lone = self._lone
        if lone is not None:
            self._lone = None
            if is_dead(lone, now_ns):
                dismiss((lone,), self._core, now_ns)
            else:
                self._run_lone(lone, now_ns)
            return
        self._run_some(now_ns)

    def _run_lone(self, lone: Waiting, now_ns: int) -> None:
        executions = self._runner.run_batch((lone,), self._executed)
        self._core.ran_alone(lone, now_ns, executions[0].compute_ns)
        answer((lone,), executions)

    def _run_some(self, now_ns: int) -> None:
        dead: list[Waiting] = []
        batch = self._core.take(now_ns, dead)
        if batch is not None:
            executions = self._runner.run_batch(batch.jobs, self._executed)
            self._core.ran(batch, time.perf_counter_ns() - now_ns)
            answer(batch.jobs, executions)
        dismiss(dead, self._core, now_ns)
        if self._core.queue.jobs and not self._planned:
            self._planned = True
            asyncio.get_running_loop().call_soon(self._turn)
