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
from .execution import Deliver, Ended, Executed, Execution
from .policy import Reason
from .queue import Waiting, is_dead
from .runner import Runner
from .scheduled import answer, dismiss

_FRESH_JOBS = 256
"""So many jobs need no queue, if that could hold them and they are done before anybody would be shed."""
_TURN_NS = 1_000_000
"""After so long the sockets have their turn."""


class InlineScheduler:
    """A `Scheduler` on the event loop."""

    inline = True

    def __init__(self, core: Core, runner: Runner, executed: Executed, ended: Ended) -> None:
        self._core = core
        self._runner = runner
        self._executed = executed
        self._ended = ended
        self._fresh: list[Waiting] = []
        """Jobs of this turn in the order of their arrival, as long as nothing speaks for another order."""
        self._room = 0.0
        """How many may be in it: what takes longer than nobody is shed for belongs into the queue."""
        self._expected = 0
        """Jobs of the last turn, where it did them all. Clients that were answered together come again together: where
        fewer are there, the sockets are read once more, so that who is a moment late need not wait for a whole turn."""
        self._planned = False
        queue, row_bytes = core.queue, runner.row_bytes
        self._most_fresh = min(_FRESH_JOBS, queue.max_jobs, queue.max_bytes // row_bytes if row_bytes else 1)

    def submit(self, job: Job, deliver: Deliver) -> None:
        core, now_ns = self._core, time.perf_counter_ns()
        waiting = core.waiting(job, deliver, now_ns)
        fresh = self._fresh
        if not fresh:
            self._room = min(self._most_fresh, core.shedding.target_ns // core.model.single_ns)
        if core.queue.jobs or len(fresh) >= self._room or (fresh and not _ordinary(waiting, fresh[0])):
            self._queue(waiting, now_ns)
        else:
            fresh.append(waiting)
        if not self._planned:
            self._plan_turn()

    def turn_away(self, rows: int) -> Refusal | None:  # noqa: ARG002 - part of the interface
        return self._core.turn_away() if self._core.shedding.overloaded else None

    @property
    def pending(self) -> int:
        return self._core.queue.jobs + len(self._fresh)

    def explain(self) -> dict[str, Any]:
        return self._core.explain(time.perf_counter_ns())

    def close(self) -> None:
        """Nothing to give back."""

    def _plan_turn(self) -> None:
        self._planned = True
        asyncio.get_running_loop().call_soon(self._turn)

    def _queue(self, waiting: Waiting, now_ns: int) -> None:
        """Take a job into the queue, behind those of this turn; they were taken before, so only it can be refused."""
        taken, self._fresh = self._fresh, []
        for each in taken:
            self._core.requeue(each)
        dead: list[Waiting] = []
        try:
            self._core.admit(waiting, now_ns, dead)
        finally:
            dismiss(dead, self._core, now_ns)

    def _turn(self) -> None:
        if 0 < len(self._fresh) < self._expected:
            self._expected = 0
            asyncio.get_running_loop().call_soon(self._turn)
            return
        self._planned = False
        try:
            if self._fresh:
                self._run_fresh()
            else:
                self._run_some(time.perf_counter_ns())
        finally:  # whatever happens to one batch, the others have their turn
            if (self._core.queue.jobs or self._fresh) and not self._planned:
                self._plan_turn()

    def _run_fresh(self) -> None:
        """Run the jobs of a turn, as far as its time allows; what is left stays in front.

        They are answered behind the last batch: what was written would not leave before the end of the turn, and code
        that runs for one job after the other stays in the caches that the engine empties.
        """
        core, now_ns = self._core, time.perf_counter_ns()
        jobs, self._fresh = self._fresh, []
        left, end_ns = len(jobs), now_ns + _TURN_NS
        done: list[Waiting] = []
        executions: list[Execution] = []
        ran: list[tuple[list[Waiting], Reason, int, int, int]] = []
        rows, reason = 0, Reason.ALL
        try:
            while left and now_ns < end_ns:
                if not 0 < rows <= left:  # so many are best as long as there are so many
                    rows, reason = core.policy.rows(left) if jobs[-left].rows == 1 else (1, Reason.ALONE)
                first = len(jobs) - left
                batch = self._living(jobs[first : first + rows], now_ns)
                left -= rows
                if batch:
                    executions += self._runner.run_batch(batch, self._executed)
                    done += batch
                    begun_ns, now_ns = now_ns, time.perf_counter_ns()
                    ran.append((batch, reason, begun_ns, now_ns - begun_ns, left))
        finally:
            self._expected = 0 if left else len(done)
            self._fresh = jobs[len(jobs) - left :] + self._fresh
            answer(done, executions, self._ended)
        for each in ran:  # nobody waits for what is learnt
            core.ran_fresh(*each)

    def _living(self, batch: list[Waiting], now_ns: int) -> list[Waiting]:
        """Those that somebody waits for; the others are told."""
        for waiting in batch:
            if waiting.job.cancelled or waiting.deadline_ns is not None:
                break
        else:
            return batch
        dead = [waiting for waiting in batch if is_dead(waiting, now_ns)]
        dismiss(dead, self._core, now_ns)
        return [waiting for waiting in batch if waiting not in dead]

    def _run_some(self, now_ns: int) -> None:
        dead: list[Waiting] = []
        batch = self._core.take(now_ns, dead)
        if batch is not None:
            executions = self._runner.run_batch(batch.jobs, self._executed)
            took_ns = time.perf_counter_ns() - now_ns
            answer(batch.jobs, executions, self._ended)
            self._core.ran(batch, took_ns)
        dismiss(dead, self._core, now_ns)


def _ordinary(waiting: Waiting, first: Waiting) -> bool:
    """Whether a job may simply go behind another: both have one row, no deadline, and the same band."""
    return (
        waiting.rows == 1
        and first.rows == 1
        and waiting.band == first.band
        and waiting.deadline_ns is None
        and first.deadline_ns is None
    )
