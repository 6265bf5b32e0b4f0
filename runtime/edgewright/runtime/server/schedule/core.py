"""What the scheduler decides, without threads, loops or clocks: who is taken, who is next, who is told to go.

The shells (`inline`, `threaded`) call it with the time, run the batches that it forms, and tell it how long they took.
"""

from __future__ import annotations

from typing import Any

from ..pipeline import Job
from ..refusal import Refusal
from .execution import Deliver
from .explain import Decisions
from .latency_model import LatencyModel
from .policy import BatchPolicy, Reason
from .queue import JobQueue, Waiting
from .shedding import Shedding, backlog_ns

_FIT_EVERY = 64


class Batch:
    """Jobs that are run together."""

    __slots__ = ("dropped", "expected_ns", "jobs", "left_rows", "longest_wait_ns", "reason", "rows", "taken_ns")

    def __init__(self, jobs: list[Waiting], rows: int, reason: Reason, taken_ns: int) -> None:
        self.jobs = jobs
        self.rows = rows
        self.reason = reason
        self.taken_ns = taken_ns
        self.expected_ns = 0.0
        self.longest_wait_ns = 0
        self.left_rows = 0
        self.dropped = 0


class Core:
    """The decisions for one model in one shell. Used by one thread at a time."""

    def __init__(
        self,
        model: LatencyModel,
        policy: BatchPolicy,
        *,
        max_jobs: int,
        max_bytes: int,
        shed_after_ns: int,
        timeout_ns: int | None,
        free_batch: bool = True,
    ) -> None:
        self.model = model
        self.policy = policy
        self.queue = JobQueue(max_jobs, max_bytes)
        self.shedding = Shedding(shed_after_ns)
        self.decisions = Decisions()
        self.expired = self.cancelled = 0
        self._timeout_ns = timeout_ns
        self._free_batch = free_batch
        self._full_rows = 1
        """Rows of a batch while more wait than any batch takes."""
        self._batches = 0
        self._fit()

    def waiting(self, job: Job, deliver: Deliver, now_ns: int) -> Waiting:
        """Return a job as the queue holds it."""
        waiting = Waiting(job, deliver, now_ns, self._timeout_ns)
        if not self._free_batch:
            waiting.rows = 1
        return waiting

    def admit(self, waiting: Waiting, now_ns: int, dead: list[Waiting]) -> None:
        """Take a job into the queue. Who had to make room for it, being dead, goes to `dead`.

        Raises:
            Refusal: 503, with the time after which it may come again.
        """
        queue = self.queue
        waiting.size_bytes = waiting.job.size_bytes
        if queue.full(waiting.size_bytes):
            dead += queue.sweep(now_ns)
            if queue.full(waiting.size_bytes):
                wait_ns = backlog_ns(queue.rows, self._full_rows, self.model)
                raise self.shedding.refused("too many requests wait for this model", wait_ns)
        if self.shedding.overloaded and (refusal := self.turn_away(waiting.job.priority)) is not None:
            raise refusal
        queue.push(waiting)

    def requeue(self, waiting: Waiting) -> None:
        """Put a job into the queue that was taken already: it is not asked again whether there is room."""
        waiting.size_bytes = waiting.job.size_bytes
        self.queue.push(waiting)

    def turn_away(self, priority: int = 0) -> Refusal | None:
        """The refusal that one more job would meet for overload."""
        return self.shedding.refusal(self.queue.rows_before(priority), self._full_rows, self.model)

    def take(self, now_ns: int, dead: list[Waiting]) -> Batch | None:
        """Form the next batch; None where nothing waits that is worth running. Dead jobs go to `dead`."""
        queue, before = self.queue, len(dead)
        first = self._first(now_ns, dead)
        if first is None:
            self.shedding.idle()
            return None
        wanted, reason = self.policy.rows(queue.rows)
        batch = Batch([first], first.rows, reason, now_ns)
        batch.longest_wait_ns = now_ns - first.submitted_ns
        self.shedding.waited(queue.longest_wait_ns(now_ns), now_ns)
        queue.taken(first)
        if first.rows > self.policy.max_rows and self.policy.max_rows > 1:
            batch.reason = Reason.ALONE
        elif first.rows < wanted:
            self._fill(batch, wanted, dead)
        batch.dropped = len(dead) - before
        batch.left_rows = queue.rows
        batch.expected_ns = self.model.estimate_ns(batch.rows)
        return batch

    def ran_fresh(self, jobs: list[Waiting], reason: Reason, taken_ns: int, took_ns: int, left: int) -> None:
        """Learn from jobs that needed no queue, as they came in this turn and nothing else was there."""
        rows = jobs[0].rows if len(jobs) == 1 else len(jobs)
        first_ns, last_ns = taken_ns - jobs[0].submitted_ns, taken_ns - jobs[-1].submitted_ns
        self.shedding.idle()
        expected_ns = self._observe(rows, took_ns)
        self.decisions.keep((taken_ns, rows, len(jobs), reason, first_ns, last_ns, left, expected_ns, took_ns, 0))

    def ran(self, batch: Batch, took_ns: int) -> None:
        """Learn from a batch that was run."""
        self.decisions.keep(
            (
                batch.taken_ns,
                batch.rows,
                len(batch.jobs),
                batch.reason,
                batch.longest_wait_ns,
                batch.taken_ns - batch.jobs[-1].submitted_ns,
                batch.left_rows,
                batch.expected_ns,
                took_ns,
                batch.dropped,
            )
        )
        self._observe(batch.rows, took_ns)

    def explain(self, now_ns: int) -> dict[str, Any]:
        """Return the state and the last decisions."""
        fixed_ns, row_ns = self.model.line()
        return {
            "latency_model": {
                "fixed_ms": round(fixed_ns / 1e6, 4),
                "row_ms": round(row_ns / 1e6, 4),
                "measured_ms": {str(rows): round(self.model.estimate_ns(rows) / 1e6, 4) for rows in self.model.sizes},
            },
            "max_batch_rows": self.policy.max_rows,
            "queue": {"jobs": self.queue.jobs, "rows": self.queue.rows, "bytes": self.queue.size_bytes},
            "overloaded": self.shedding.overloaded,
            "shed": self.shedding.shed,
            "expired": self.expired,
            "cancelled": self.cancelled,
            "batches": self.decisions.as_json(now_ns),
        }

    def _observe(self, rows: int, took_ns: int) -> float:
        expected_ns = self.model.observe(rows, took_ns)
        self._batches += 1
        if self._batches % _FIT_EVERY == 0:
            self._fit()
        return expected_ns

    def _fit(self) -> None:
        self._full_rows, _ = self.policy.rows(1_000_000)
        self.shedding.fit(self.model.estimate_ns(self._full_rows))

    def _first(self, now_ns: int, dead: list[Waiting]) -> Waiting | None:
        """The job whose turn it is.

        One that would end too late is dropped where another could use its time. While more wait than a full batch
        takes, that is one that a full batch would be too late for: batches cut small for the sake of jobs that are
        almost late would make all that follow late.
        """
        queue, full_rows = self.queue, self._full_rows
        while (waiting := queue.next(now_ns, dead)) is not None:
            useless_ns = waiting.useless_ns
            if useless_ns is None or queue.jobs == 1:
                return waiting
            rows = full_rows if queue.rows >= 2 * full_rows else waiting.rows
            if now_ns + self.model.estimate_ns(rows) <= useless_ns:
                return waiting
            self.queue.remove(waiting)
            dead.append(waiting)
        return None

    def _fill(self, batch: Batch, wanted: int, dead: list[Waiting]) -> None:
        queue, taken_ns = self.queue, batch.taken_ns
        useless_ns = batch.jobs[0].useless_ns
        if useless_ns is not None and taken_ns + self.model.estimate_ns(batch.rows) > useless_ns:
            useless_ns = None  # it is late whatever is done
        while batch.rows < wanted:
            waiting = queue.next(taken_ns, dead)
            if waiting is None:
                batch.reason = Reason.ALL
                return
            rows = batch.rows + waiting.rows
            if rows > wanted:
                batch.reason = Reason.NEXT_TOO_LARGE
                return
            if waiting.useless_ns is not None:
                useless_ns = waiting.useless_ns if useless_ns is None else min(useless_ns, waiting.useless_ns)
            if useless_ns is not None and taken_ns + self.model.estimate_ns(rows) > useless_ns:
                batch.reason = Reason.DEADLINE
                return
            queue.taken(waiting)
            batch.jobs.append(waiting)
            batch.rows = rows
            batch.longest_wait_ns = max(batch.longest_wait_ns, taken_ns - waiting.submitted_ns)
