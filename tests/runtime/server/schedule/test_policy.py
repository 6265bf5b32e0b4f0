"""Batch sizes: as large as is worth it, never larger than asked for, never waited for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewright.runtime.server.schedule.latency_model import LatencyModel, bucket_sizes
from edgewright.runtime.server.schedule.policy import BatchPolicy, Reason
from tests.runtime.server.schedule.simulation import MS, Cost, linear


def policy_of(cost: Cost, max_rows: int = 32, *, budget_ms: float | None = None, overhead_ms: float = 0) -> BatchPolicy:
    model = LatencyModel([(rows, cost(rows) / 1000) for rows in bucket_sizes(max_rows)])
    budget_ns = None if budget_ms is None else budget_ms * MS
    return BatchPolicy(model, max_rows, overhead_ns=overhead_ms * MS, budget_ns=budget_ns)


@given(st.floats(0, 10), st.floats(0.01, 10), st.integers(1, 100), st.integers(1, 64))
def test_never_more_than_there_is_nor_than_a_batch_may_have(a: float, b: float, available: int, most: int) -> None:
    rows, _ = policy_of(linear(a, b), most).rows(available)
    assert 1 <= rows <= min(available, most)


@pytest.mark.parametrize(
    ("cost", "available", "expected"),
    [
        (linear(1, 0.1), 20, (20, Reason.ALL)),
        (linear(1, 0.1), 100, (32, Reason.LARGEST)),
        (linear(0, 1), 20, (1, Reason.WORTH)),
        (linear(0, 1), 1, (1, Reason.ALL)),
        (lambda rows: 2.5 * (rows // 8) + rows % 8, 20, (8, Reason.WORTH)),
    ],
)
def test_batches_are_as_large_as_is_worth_it(cost: Cost, available: int, expected: tuple[int, Reason]) -> None:
    assert policy_of(cost).rows(available) == expected


def test_what_a_batch_costs_beside_the_engine_counts() -> None:
    assert policy_of(linear(0, 0.3)).rows(8)[0] == 1
    assert policy_of(linear(0, 0.3), overhead_ms=0.05).rows(8)[0] > 1


def test_on_the_event_loop_a_batch_has_a_budget() -> None:
    rows, reason = policy_of(linear(0.5, 0.25), budget_ms=2).rows(32)
    assert (rows, reason) == (4, Reason.BUDGET)
    assert policy_of(linear(5, 1), budget_ms=2).rows(32)[0] == 1, "one job always runs"


def test_sizes_that_were_not_warmed_up_are_not_used() -> None:
    model = LatencyModel([(1, 0.01), (2, 0.011), (4, 0.012)])
    assert BatchPolicy(model, 32).rows(100) == (4, Reason.LARGEST)


def test_a_model_that_takes_one_job_at_a_time() -> None:
    assert policy_of(linear(1, 0.1), 1).rows(50) == (1, Reason.UNBATCHABLE)
