"""A model served in virtual time: the scheduler's core between given arrivals and an engine that is a formula."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edgewright.runtime.server.pipeline import Job
from edgewright.runtime.server.refusal import Refusal
from edgewright.runtime.server.schedule.core import Batch, Core
from edgewright.runtime.server.schedule.latency_model import LatencyModel, bucket_sizes
from edgewright.runtime.server.schedule.policy import BatchPolicy
from edgewright.runtime.server.schedule.queue import Waiting

MS = 1_000_000
_ROW = np.zeros((1, 4), np.float32)

Cost = Callable[[int], float]
"""Milliseconds of a batch of so many rows."""


@dataclass(frozen=True, slots=True)
class Arrival:
    at_ms: float
    rows: int = 1
    priority: int = 0
    deadline_ms: float | None = None
    """After the arrival."""
    cancelled_ms: float | None = None


@dataclass(slots=True)
class Fate:
    """What became of an arrival."""

    arrival: Arrival
    begun_ms: float | None = None
    ended_ms: float | None = None
    batch_rows: int = 0
    dropped_ms: float | None = None
    refusal: Refusal | None = None
    refused_ms: float | None = None

    @property
    def good(self) -> bool:
        """Whether it was answered in time."""
        if self.ended_ms is None:
            return False
        limit_ms = self.arrival.deadline_ms
        return limit_ms is None or self.ended_ms <= self.arrival.at_ms + limit_ms

    @property
    def waited_ms(self) -> float:
        assert self.begun_ms is not None
        return self.begun_ms - self.arrival.at_ms

    @property
    def latency_ms(self) -> float:
        assert self.ended_ms is not None
        return self.ended_ms - self.arrival.at_ms


@dataclass(slots=True)
class Run:
    """What happened."""

    fates: list[Fate]
    batches: list[tuple[float, float, int]] = field(default_factory=list)
    """Begin and end in milliseconds, and rows."""
    core: Core | None = None

    def good_per_s(self, begin_ms: float, end_ms: float) -> float:
        """Rows answered in time in a part of the run."""
        rows = sum(
            fate.arrival.rows
            for fate in self.fates
            if fate.good and fate.ended_ms is not None and begin_ms <= fate.ended_ms < end_ms
        )
        return rows / (end_ms - begin_ms) * 1000


def linear(fixed_ms: float, row_ms: float) -> Cost:
    return lambda rows: fixed_ms + row_ms * rows


def core_for(cost: Cost, *, max_rows: int = 32, believed: Cost | None = None, **settings: Any) -> Core:
    """A core that believes what the warm-up measured of `believed`."""
    told = believed or cost
    model = LatencyModel([(rows, told(rows) / 1000) for rows in bucket_sizes(max_rows)])
    defaults = {"max_jobs": 1024, "max_bytes": 64 * MS, "shed_after_ns": 25 * MS, "timeout_ns": None}
    return Core(model, BatchPolicy(model, max_rows), **{**defaults, **settings})


def simulate(core: Core, cost: Cost, arrivals: Iterable[Arrival], *, noise: random.Random | None = None) -> Run:
    """Play arrivals: whoever comes is admitted or refused at once, and the engine takes a batch whenever it is free."""
    run = Run([], core=core)
    pending: list[tuple[float, int, Fate]] = []
    for number, arrival in enumerate(sorted(arrivals, key=lambda each: each.at_ms)):
        fate = Fate(arrival)
        run.fates.append(fate)
        heapq.heappush(pending, (arrival.at_ms, number, fate))
    waiting: dict[int, Fate] = {}
    leaving: list[tuple[float, int, Waiting]] = []
    free_ms, now_ms = 0.0, 0.0
    while pending or core.queue.jobs:
        if core.queue.jobs and (not pending or free_ms < pending[0][0]):
            now_ms = max(now_ms, free_ms)
            _cancel(leaving, now_ms)
            free_ms = _run_batch(core, cost, now_ms, waiting, run, noise)
            continue
        now_ms, _, fate = heapq.heappop(pending)
        _admit(core, now_ms, fate, waiting, leaving)
        _cancel(leaving, now_ms)
        if free_ms <= now_ms and core.queue.jobs and not (pending and pending[0][0] <= now_ms):
            free_ms = _run_batch(core, cost, now_ms, waiting, run, noise)
    return run


def _admit(
    core: Core, now_ms: float, fate: Fate, waiting: dict[int, Fate], leaving: list[tuple[float, int, Waiting]]
) -> None:
    arrival, now_ns = fate.arrival, int(now_ms * MS)
    deadline_ns = None if arrival.deadline_ms is None else now_ns + int(arrival.deadline_ms * MS)
    job = Job({"x": _ROW}, arrival.rows, now_ns, priority=arrival.priority, deadline_ns=deadline_ns)
    dead: list[Waiting] = []
    entry = core.waiting(job, lambda _: None, now_ns)
    try:
        core.admit(entry, now_ns, dead)
        waiting[id(entry)] = fate
        if arrival.cancelled_ms is not None:
            heapq.heappush(leaving, (now_ms + arrival.cancelled_ms, id(entry), entry))
    except Refusal as refusal:
        fate.refusal, fate.refused_ms = refusal, now_ms
    _drop(dead, now_ms, waiting)


def _run_batch(
    core: Core, cost: Cost, now_ms: float, waiting: dict[int, Fate], run: Run, noise: random.Random | None
) -> float:
    dead: list[Waiting] = []
    batch: Batch | None = core.take(int(now_ms * MS), dead)
    _drop(dead, now_ms, waiting)
    if batch is None:
        return now_ms
    took_ms = cost(batch.rows) * (noise.lognormvariate(0, 0.2) if noise else 1)
    for entry in batch.jobs:
        fate = waiting.pop(id(entry))
        fate.begun_ms, fate.ended_ms, fate.batch_rows = now_ms, now_ms + took_ms, batch.rows
    run.batches.append((now_ms, now_ms + took_ms, batch.rows))
    core.ran(batch, int(took_ms * MS))
    return now_ms + took_ms


def _cancel(leaving: list[tuple[float, int, Waiting]], now_ms: float) -> None:
    while leaving and leaving[0][0] <= now_ms:
        heapq.heappop(leaving)[2].job.cancel()


def _drop(dead: Sequence[Waiting], now_ms: float, waiting: dict[int, Fate]) -> None:
    for entry in dead:
        waiting.pop(id(entry)).dropped_ms = now_ms


def poisson(rate_per_s: float, seconds: float, seed: int = 0, **shape: Any) -> list[Arrival]:
    """Arrivals at random times."""
    source, at_ms, arrivals = random.Random(seed), 0.0, []
    while (at_ms := at_ms + source.expovariate(rate_per_s) * 1000) < seconds * 1000:
        arrivals.append(Arrival(at_ms, **shape))
    return arrivals
