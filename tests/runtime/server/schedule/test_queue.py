"""The queue's order, its bounds, and that nobody starves or runs in vain in it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from edgewright.runtime.server.pipeline import Job
from edgewright.runtime.server.schedule.queue import (
    AGED_EVERY,
    AGEING_NS,
    BANDS,
    PATIENCE_NS,
    JobQueue,
    Waiting,
    band_of,
)
from tests.runtime.server.schedule.simulation import MS


def waiting(at_ms: float = 0, priority: int = 0, deadline_ms: float | None = None, rows: int = 1) -> Waiting:
    now_ns = int(at_ms * MS)
    deadline_ns = None if deadline_ms is None else int(deadline_ms * MS)
    job = Job({"x": np.zeros((rows, 2), np.float32)}, rows, now_ns, priority=priority, deadline_ns=deadline_ns)
    entry = Waiting(job, lambda _: None, now_ns, None)
    entry.size_bytes = job.size_bytes
    return entry


def drain(queue: JobQueue, now_ms: float = 0) -> list[Waiting]:
    taken: list[Waiting] = []
    while (entry := queue.next(int(now_ms * MS), [])) is not None:
        queue.taken(entry)
        taken.append(entry)
    return taken


def filled(*entries: Waiting) -> JobQueue:
    queue = JobQueue(10_000, 1 << 30)
    for entry in entries:
        queue.push(entry)
    return queue


@given(st.lists(st.one_of(st.none(), st.integers(1, 900)), max_size=40))
def test_in_a_band_the_earliest_deadline_is_first_and_equals_come_in_order(deadlines: list[int | None]) -> None:
    entries = [waiting(0, deadline_ms=deadline) for deadline in deadlines]
    taken = drain(filled(*entries))
    assert taken == sorted(entries, key=lambda each: (each.deadline_ns or PATIENCE_NS, each.number))


def test_bands_go_by_urgency() -> None:
    entries = [waiting(0, priority) for priority in (3, 1, 0, 4, 1, 2, 99)]
    assert [entry.band + 1 for entry in drain(filled(*entries))] == [1, 1, 2, 2, 3, 4, 4]
    assert band_of(0) == band_of(2)


def test_a_band_that_others_keep_waiting_gets_one_turn_in_four() -> None:
    queue = filled(*(waiting(0, 3) for _ in range(10)), *(waiting(0, 1) for _ in range(100)))
    late_ms = 2 * AGEING_NS / MS
    bands = [entry.band + 1 for entry in drain(queue, late_ms)][:40]
    assert bands.count(3) == 40 // AGED_EVERY
    queue = filled(*(waiting(0, 3) for _ in range(10)), *(waiting(0, 1) for _ in range(100)))
    bands = [entry.band + 1 for entry in drain(queue, 0)]
    assert bands == [1] * 100 + [3] * 10, "before that it waits"


def test_of_bands_that_wait_the_oldest_job_gets_the_turn() -> None:
    old, older = waiting(1, 3), waiting(0, 4)
    queue = filled(old, *(waiting(1, 3) for _ in range(50)), older, *(waiting(2, 1) for _ in range(500)))
    order = drain(queue, 2 * AGEING_NS / MS)
    assert order.index(older) == AGED_EVERY - 1
    assert order.index(old) == 2 * AGED_EVERY - 1


def test_a_job_without_deadline_is_overtaken_for_a_second_at_most() -> None:
    patient = waiting(0)
    soon = [waiting(at_ms, deadline_ms=at_ms + 100) for at_ms in range(0, 2000, 10)]
    order = drain(filled(patient, *soon))
    ahead = order[: order.index(patient)]
    assert max(entry.submitted_ns for entry in ahead) <= PATIENCE_NS


def test_who_is_dead_is_not_handed_out() -> None:
    gone, late, alive = waiting(0), waiting(0, deadline_ms=5), waiting(0)
    queue = filled(gone, late, alive)
    gone.job.cancel()
    dead: list[Waiting] = []
    assert queue.next(10 * MS, dead) is alive
    assert set(dead) == {gone, late}
    assert queue.jobs == 1


def test_expiry_finds_those_whose_time_is_over_wherever_they_stand() -> None:
    entries = [waiting(0, priority, deadline) for priority in (1, 3) for deadline in (10, 20, 30)]
    queue = filled(*entries, waiting(0))
    assert queue.next_deadline_ns == 10 * MS
    assert {entry.deadline_ns for entry in queue.expire(20 * MS)} == {10 * MS, 20 * MS}
    assert queue.jobs == 3
    assert queue.next_deadline_ns == 30 * MS


def test_bounds_count_jobs_and_bytes() -> None:
    queue = JobQueue(2, 100)
    assert not queue.full(1000), "alone, inputs of any size are taken"
    queue.push(waiting(rows=1))
    assert not queue.full(92)
    assert queue.full(93)
    queue.push(waiting(rows=1))
    assert queue.full(0)
    (first, _) = drain(queue)
    assert first.size_bytes == 8
    assert queue.size_bytes == queue.rows == queue.jobs == 0


def test_a_queue_full_of_clients_who_left_is_swept() -> None:
    entries = [waiting() for _ in range(4)]
    queue = filled(*entries)
    for entry in entries[:3]:
        entry.job.cancel()
    assert set(queue.sweep(20 * MS)) == set(entries[:3])
    entries[3].job.cancel()
    assert queue.sweep(21 * MS) == [], "not again at once: it looks at every job"
    assert queue.sweep(40 * MS) == [entries[3]]


@pytest.mark.parametrize("deadline_ms", [None, 2_000_000])
def test_what_has_left_keeps_no_memory(deadline_ms: float | None) -> None:
    """One old job that is not next, and thousands that come and go before it."""
    queue = filled(waiting(0, 4))
    for at_ms in range(20_000):
        queue.push(waiting(0, 1, deadline_ms))
        entry = queue.next(0, [])
        assert entry is not None
        queue.taken(entry)
        if at_ms % 2_000 == 0:
            kept = sum(len(band.arrivals) + len(band.by_due) for band in queue._bands) + len(queue._deadlines)
            assert kept < 500


class Order(RuleBasedStateMachine):
    """Any sequence of calls keeps the sums right and loses no job."""

    def __init__(self) -> None:
        super().__init__()
        self.queue = JobQueue(10_000, 1 << 40)
        self.inside: set[Waiting] = set()
        self.now_ms = 0

    @rule(
        priority=st.integers(0, BANDS + 1),
        deadline=st.one_of(st.none(), st.integers(0, 200)),
        rows=st.integers(1, 5),
        cancelled=st.booleans(),
    )
    def push(self, priority: int, deadline: int | None, rows: int, cancelled: bool) -> None:
        entry = waiting(self.now_ms, priority, None if deadline is None else self.now_ms + deadline, rows)
        if cancelled:
            entry.job.cancel()
        self.queue.push(entry)
        self.inside.add(entry)

    @rule()
    def take(self) -> None:
        dead: list[Waiting] = []
        entry = self.queue.next(self.now_ms * MS, dead)
        self.inside -= set(dead)
        if entry is not None:
            assert entry in self.inside
            assert not entry.job.cancelled
            assert entry.deadline_ns is None or entry.deadline_ns > self.now_ms * MS
            self.queue.taken(entry)
            self.inside.remove(entry)

    @rule(step=st.integers(1, 100))
    def wait(self, step: int) -> None:
        self.now_ms += step

    @rule()
    def expire(self) -> None:
        for entry in self.queue.expire(self.now_ms * MS):
            self.inside.remove(entry)
        assert all(each.deadline_ns is None or each.deadline_ns > self.now_ms * MS for each in self.inside)

    @rule()
    def sweep(self) -> None:
        self.inside -= set(self.queue.sweep(self.now_ms * MS, 0))

    @invariant()
    def sums(self) -> None:
        assert self.queue.jobs == len(self.inside)
        assert self.queue.rows == sum(entry.rows for entry in self.inside)
        assert self.queue.size_bytes == sum(entry.size_bytes for entry in self.inside)
        oldest = min((entry.submitted_ns for entry in self.inside), default=self.now_ms * MS)
        assert self.queue.longest_wait_ns(self.now_ms * MS) == self.now_ms * MS - oldest
        before = sum(entry.rows for entry in self.inside if entry.band <= band_of(0))
        assert self.queue.rows_before(0) == before


TestOrder = Order.TestCase
