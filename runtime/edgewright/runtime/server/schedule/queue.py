"""Jobs that wait, and which of them is next.

A job is in one of four bands (`priority` 1 to 4; 0 is 2). The most urgent band that has jobs goes first, and in it the
job whose deadline is nearest; jobs without one go in the order of their arrival. Nothing starves: a job without a near
deadline has one a second after its arrival, and a band that others keep waiting gets one turn in four.

Who is dead, cancelled or past its deadline, is never handed out: it goes to a list of its own, so that it is answered.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from heapq import heapify, heappop, heappush

from ..pipeline import Job
from .execution import Deliver

BANDS = 4
DEFAULT_PRIORITY = 2
AGEING_NS = 50_000_000
"""After so long a band that more urgent ones keep waiting gets a turn now and then."""
AGED_EVERY = 4
PATIENCE_NS = 1_000_000_000
"""What a job without a deadline is ordered by."""


def band_of(priority: int) -> int:
    """The band of a priority: 0 is the model's default, and beyond the last there is nothing less urgent."""
    return DEFAULT_PRIORITY - 1 if priority < 1 else min(priority, BANDS) - 1


class Waiting:
    """A job in the scheduler, `time.perf_counter_ns` times."""

    __slots__ = (
        "band",
        "deadline_ns",
        "deliver",
        "job",
        "number",
        "rows",
        "size_bytes",
        "submitted_ns",
        "useless_ns",
        "waits",
    )

    def __init__(self, job: Job, deliver: Deliver, submitted_ns: int, timeout_ns: int | None) -> None:
        self.job = job
        self.deliver = deliver
        self.submitted_ns = submitted_ns
        self.rows = job.rows or 1
        self.band = band_of(job.priority) if job.priority else DEFAULT_PRIORITY - 1
        self.useless_ns = job.deadline_ns
        """An answer that comes later helps nobody."""
        self.deadline_ns = job.deadline_ns
        """If it has not begun by then it never will."""
        if timeout_ns is not None:
            begin_ns = job.received_ns + timeout_ns
            self.deadline_ns = begin_ns if job.deadline_ns is None else min(begin_ns, job.deadline_ns)
        self.size_bytes = 0
        self.number = 0
        self.waits = False


class _Band:
    """One band: its jobs by deadline, and by arrival. What has left is thrown away when it comes to the front."""

    __slots__ = ("arrivals", "by_due", "jobs", "rows")

    def __init__(self) -> None:
        self.by_due: list[tuple[int, int, Waiting]] = []
        self.arrivals: deque[Waiting] = deque()
        self.jobs = self.rows = 0

    def push(self, waiting: Waiting) -> None:
        due_ns = waiting.submitted_ns + PATIENCE_NS
        if waiting.deadline_ns is not None and waiting.deadline_ns < due_ns:
            due_ns = waiting.deadline_ns
        heappush(self.by_due, (due_ns, waiting.number, waiting))
        self.arrivals.append(waiting)
        self.jobs += 1
        self.rows += waiting.rows

    def first(self) -> Waiting:
        by_due = self.by_due
        while not by_due[0][2].waits:
            heappop(by_due)
        return by_due[0][2]

    def oldest(self) -> Waiting:
        arrivals = self.arrivals
        while not arrivals[0].waits:
            arrivals.popleft()
        return arrivals[0]

    def left(self, rows: int) -> None:
        """One of its jobs has left. What stays behind of such is bounded by what waits."""
        self.jobs -= 1
        self.rows -= rows
        if not self.jobs:
            self.by_due.clear()
            self.arrivals.clear()
            return
        if len(self.arrivals) > 2 * self.jobs + 64:
            self.arrivals = deque(waiting for waiting in self.arrivals if waiting.waits)
        if len(self.by_due) > 2 * self.jobs + 64:
            self.by_due = [item for item in self.by_due if item[2].waits]
            heapify(self.by_due)


class JobQueue:
    """Jobs that wait for one model. Every change is O(log n).

    Attributes:
        jobs: that wait, dead ones that nobody came across yet among them.
        rows: of those jobs.
        size_bytes: of their inputs.
    """

    def __init__(self, max_jobs: int, max_bytes: int) -> None:
        self.jobs = self.rows = self.size_bytes = 0
        self.max_jobs = max_jobs
        self.max_bytes = max_bytes
        self._bands = [_Band() for _ in range(BANDS)]
        self._deadlines: list[tuple[int, int, Waiting]] = []
        self._number = 0
        self._urgent_turns = 0
        self._swept_ns = 0

    def full(self, size_bytes: int) -> bool:
        """Whether one more would be too many, or its inputs too large. Alone, inputs of any size are taken."""
        return self.jobs >= self.max_jobs or (self.jobs > 0 and self.size_bytes + size_bytes > self.max_bytes)

    def push(self, waiting: Waiting) -> None:
        """Take a job. Whoever calls has asked whether there is room."""
        self._number += 1
        waiting.number = self._number
        waiting.waits = True
        self.jobs += 1
        self.rows += waiting.rows
        self.size_bytes += waiting.size_bytes
        self._bands[waiting.band].push(waiting)
        if waiting.deadline_ns is not None:
            heappush(self._deadlines, (waiting.deadline_ns, waiting.number, waiting))

    def next(self, now_ns: int, dead: list[Waiting]) -> Waiting | None:
        """Return the job whose turn it is, which stays in the queue; dead ones go to `dead`."""
        while self.jobs:
            waiting = self._choose(now_ns)
            if not is_dead(waiting, now_ns):
                return waiting
            self.remove(waiting)
            dead.append(waiting)
        return None

    def remove(self, waiting: Waiting) -> None:
        """Take a job out, to run it or to refuse it."""
        waiting.waits = False
        self.jobs -= 1
        self.rows -= waiting.rows
        self.size_bytes -= waiting.size_bytes
        self._bands[waiting.band].left(waiting.rows)
        if not self.jobs or len(self._deadlines) > 2 * self.jobs + 64:
            self._deadlines = [item for item in self._deadlines if item[2].waits]
            heapify(self._deadlines)

    def taken(self, waiting: Waiting) -> None:
        """Take a job out as one whose turn it was."""
        self.remove(waiting)
        aged = any(band.jobs for band in self._bands[: waiting.band])
        passed = any(band.jobs for band in self._bands[waiting.band + 1 :])
        self._urgent_turns = self._urgent_turns + 1 if passed and not aged else 0

    def expire(self, now_ns: int) -> list[Waiting]:
        """Take out all whose deadline is over."""
        expired = []
        while self._deadlines and (self._deadlines[0][0] <= now_ns or not self._deadlines[0][2].waits):
            waiting = heappop(self._deadlines)[2]
            if waiting.waits:
                self.remove(waiting)
                expired.append(waiting)
        return expired

    def sweep(self, now_ns: int, every_ns: int = 10_000_000) -> list[Waiting]:
        """Take out all that are dead, at most once in a while: for a queue that is full of clients who have left."""
        if now_ns - self._swept_ns < every_ns:
            return []
        self._swept_ns = now_ns
        return self.remove_if(lambda waiting: is_dead(waiting, now_ns))

    def remove_if(self, condition: Callable[[Waiting], bool]) -> list[Waiting]:
        """Take out all that a condition holds for; O(n)."""
        found = [each for band in self._bands for each in band.arrivals if each.waits and condition(each)]
        for waiting in found:
            self.remove(waiting)
        return found

    def rows_before(self, priority: int) -> int:
        """Return the rows that a new job of a priority would wait for."""
        return sum(band.rows for band in self._bands[: band_of(priority) + 1])

    def longest_wait_ns(self, now_ns: int) -> int:
        """Return how long the oldest job waits; 0 where none does."""
        return max((now_ns - band.oldest().submitted_ns for band in self._bands if band.jobs), default=0)

    @property
    def next_deadline_ns(self) -> int | None:
        """When `expire` will find something; it may be early."""
        return self._deadlines[0][0] if self._deadlines else None

    def _choose(self, now_ns: int) -> Waiting:
        bands = [band for band in self._bands if band.jobs]
        if self._urgent_turns >= AGED_EVERY - 1 and len(bands) > 1:
            oldest = min((band.oldest() for band in bands[1:]), key=lambda waiting: waiting.submitted_ns)
            if now_ns - oldest.submitted_ns > AGEING_NS:
                return oldest
        return bands[0].first()


def is_dead(waiting: Waiting, now_ns: int) -> bool:
    """Whether nobody waits for a job's answer any more."""
    deadline_ns = waiting.deadline_ns
    return waiting.job.cancelled or (deadline_ns is not None and deadline_ns <= now_ns)
