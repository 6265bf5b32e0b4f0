"""A model under load in virtual time: what the scheduler promises, and what users of other servers complain of.

The complaints are from the issue trackers of Triton and BentoML; the numbers name them.
"""

from __future__ import annotations

import random
import statistics
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewright.runtime.server.schedule.policy import Reason
from tests.runtime.server.schedule.simulation import (
    MS,
    Arrival,
    Cost,
    core_for,
    linear,
    poisson,
    simulate,
)

BATCHING, SERIAL, FLAT = linear(2, 0.25), linear(0, 2), linear(20, 0.1)

arrivals = st.lists(
    st.builds(
        Arrival,
        at_ms=st.floats(0, 300),
        rows=st.integers(1, 40),
        priority=st.integers(0, 5),
        deadline_ms=st.one_of(st.none(), st.floats(0.5, 200)),
        cancelled_ms=st.one_of(st.none(), st.floats(0, 50)),
    ),
    max_size=60,
)


def capacity_per_s(cost: Cost, max_rows: int = 32) -> float:
    """Rows each second in the best batches."""
    return max(rows / cost(rows) for rows in (1, 2, 4, 8, 16, max_rows) if rows <= max_rows) * 1000


@settings(deadline=None)
@given(arrivals, st.sampled_from([BATCHING, SERIAL, FLAT]), st.integers(1, 32))
def test_every_job_has_one_fate_and_no_batch_is_too_large(offered: list[Arrival], cost: Cost, max_rows: int) -> None:
    """BentoML #3710, #3859: batches exceed the largest size."""
    run = simulate(core_for(cost, max_rows=max_rows), cost, offered)
    for fate in run.fates:
        assert [fate.ended_ms, fate.dropped_ms, fate.refused_ms].count(None) == 2
        if fate.batch_rows > max_rows:
            assert fate.batch_rows == fate.arrival.rows, "such a job runs alone"
        limit_ms = fate.arrival.deadline_ms
        if fate.begun_ms is not None and limit_ms is not None:
            assert fate.waited_ms < limit_ms, "what has expired does not run"


@settings(deadline=None)
@given(arrivals, st.sampled_from([BATCHING, SERIAL, FLAT]))
def test_the_engine_is_never_idle_while_a_job_waits(offered: list[Arrival], cost: Cost) -> None:
    run = simulate(core_for(cost), cost, offered)
    busy = [(begin, end) for begin, end, _ in run.batches]
    assert all(later[0] >= earlier[1] for earlier, later in pairwise(busy))
    for fate in run.fates:
        if fate.begun_ms is None:
            continue
        covered_ms = sum(
            min(end, fate.begun_ms) - max(begin, fate.arrival.at_ms)
            for begin, end in busy
            if begin < fate.begun_ms and end > fate.arrival.at_ms
        )
        assert covered_ms == pytest.approx(fate.waited_ms, abs=1e-6), "whoever waits waits for the engine only"


def test_at_low_load_latency_is_execution_time() -> None:
    """MLServer waits `max_batch_time` even when it is idle; LitServe #481."""
    run = simulate(core_for(BATCHING), BATCHING, [Arrival(10.0 * turn) for turn in range(200)])
    assert {round(fate.latency_ms, 6) for fate in run.fates} == {BATCHING(1)}


@pytest.mark.parametrize(
    ("cost", "load"),
    [*((cost, load) for cost in (BATCHING, SERIAL, FLAT) for load in (1.5, 3, 10)), (linear(0.05, 0.06), 3)],
)
def test_overload_keeps_nine_tenths_of_the_capacity_and_sheds_at_once(cost: Cost, load: float) -> None:
    capacity = capacity_per_s(cost)
    seconds = min(1.5, 10_000 / (load * capacity))
    offered = poisson(load * capacity, seconds)
    run = simulate(core_for(cost), cost, offered, noise=random.Random(1))
    noisy = 0.98  # the mean of the noise is 1.02
    assert run.good_per_s(seconds * 250, seconds * 1000) >= 0.9 * capacity * noisy
    shed = [fate for fate in run.fates if fate.refused_ms is not None]
    assert len(shed) > 0.2 * len(offered) * (1 - 1 / load)
    for fate in shed:
        assert fate.refused_ms == fate.arrival.at_ms, "not after a wait"
        assert fate.refusal is not None
        assert fate.refusal.status == 503
        assert fate.refusal.headers[0][0] == b"retry-after"


@pytest.mark.parametrize("cost", [BATCHING, SERIAL])
def test_whoever_is_taken_in_overload_does_not_wait_long(cost: Cost) -> None:
    """Triton #7492, #8251: time in the queue dwarfs the time of computing."""
    run = simulate(core_for(cost), cost, poisson(3 * capacity_per_s(cost), 2))
    steady = [fate.waited_ms for fate in run.fates if fate.begun_ms is not None and fate.arrival.at_ms > 1000]
    assert statistics.median(steady) < 2 * 25
    assert max(steady) < 4 * 25


@pytest.mark.parametrize("cost", [BATCHING, SERIAL, linear(100, 0.5)])
def test_below_capacity_nothing_is_shed(cost: Cost) -> None:
    """BentoML #3200: "Service Busy" without need."""
    rate = 0.6 * capacity_per_s(cost)
    run = simulate(core_for(cost), cost, poisson(rate, 4, seed=3), noise=random.Random(2))
    assert all(fate.ended_ms is not None for fate in run.fates)


def test_a_burst_is_no_overload() -> None:
    burst = [Arrival(1000.0 + number / 1000) for number in range(300)]
    run = simulate(core_for(BATCHING), BATCHING, [*poisson(100, 1), *burst, *[Arrival(2000 + n) for n in range(100)]])
    assert all(fate.ended_ms is not None for fate in run.fates)


@pytest.mark.parametrize("deadline_ms", [10, 20, 50, 200])
def test_throughput_does_not_decay_where_jobs_have_timeouts(deadline_ms: float) -> None:
    """Triton #8870: with a default timeout, throughput decays under load."""
    capacity = capacity_per_s(BATCHING)
    offered = poisson(3 * capacity, 2, deadline_ms=deadline_ms)
    run = simulate(core_for(BATCHING), BATCHING, offered, noise=random.Random(5))
    first, last = run.good_per_s(500, 1000), run.good_per_s(1500, 2000)
    # The best batch takes 10 ms. Who must be done in 10 cannot be in it.
    least = 0.85 if deadline_ms >= 50 else 0.6 if deadline_ms >= 20 else 0.2
    assert last >= least * capacity
    assert last >= 0.8 * first


def test_even_arrivals_are_answered_evenly() -> None:
    """Triton #7318: uneven throughput from one moment to the next, and a bad p99."""
    rate = 0.8 * capacity_per_s(BATCHING)
    run = simulate(core_for(BATCHING), BATCHING, poisson(rate, 3, seed=9))
    each_100_ms = [run.good_per_s(begin, begin + 100) for begin in range(500, 2900, 100)]
    assert min(each_100_ms) > 0.7 * rate
    latencies = sorted(fate.latency_ms for fate in run.fates)
    assert latencies[int(0.99 * len(latencies))] < 3 * BATCHING(32)


def test_batches_are_not_smaller_than_what_waits() -> None:
    """Triton #7776: batches are small and unpredictable."""
    run = simulate(core_for(BATCHING), BATCHING, [Arrival(0), *(Arrival(0.1) for _ in range(31))])
    assert [rows for _, _, rows in run.batches] == [1, 31]


def test_shedding_ends_with_the_overload() -> None:
    capacity = capacity_per_s(SERIAL)
    calm = [Arrival(2000 + 10 * turn) for turn in range(100)]
    run = simulate(core_for(SERIAL), SERIAL, [*poisson(3 * capacity, 2), *calm])
    assert run.core is not None
    assert any(fate.refusal for fate in run.fates)
    assert not run.core.shedding.overloaded
    assert all(fate.ended_ms is not None for fate in run.fates[-90:])


@pytest.mark.parametrize("believed", [0.3, 3])
def test_a_wrong_first_guess_costs_no_throughput(believed: float) -> None:
    def guess(rows: int) -> float:
        return BATCHING(rows) * believed

    capacity = capacity_per_s(BATCHING)
    run = simulate(core_for(BATCHING, believed=guess), BATCHING, poisson(3 * capacity, 1.2))
    assert run.good_per_s(600, 1200) >= 0.9 * capacity


@pytest.mark.parametrize("load", [0.9, 3])
def test_no_priority_starves(load: float) -> None:
    capacity = capacity_per_s(BATCHING)
    urgent = poisson(load * capacity, 2, seed=1, priority=1)
    others = [Arrival(200.0 + 50 * number, priority=priority) for number in range(20) for priority in (2, 3, 4)]
    run = simulate(core_for(BATCHING, shed_after_ns=10_000 * MS, max_jobs=1_000_000), BATCHING, [*urgent, *others])
    waits = [fate.waited_ms for fate in run.fates if fate.arrival.priority > 1]
    assert len(waits) == 60
    assert max(waits) < 600


def test_an_urgent_job_is_not_shed_for_the_backlog_of_others() -> None:
    capacity = capacity_per_s(SERIAL)
    urgent = [Arrival(1000.0 + 20 * number, priority=1) for number in range(50)]
    run = simulate(core_for(SERIAL), SERIAL, [*poisson(3 * capacity, 2, priority=3), *urgent])
    fates = [fate for fate in run.fates if fate.arrival.priority == 1]
    assert not [fate for fate in fates if fate.refusal]
    assert max(fate.waited_ms for fate in fates) < 5 * SERIAL(1)


def test_the_earliest_deadline_goes_first_and_the_hopeless_make_room() -> None:
    offered = [Arrival(0), Arrival(0.1, deadline_ms=30), Arrival(0.2, deadline_ms=8), Arrival(0.3, deadline_ms=1.8)]
    fates = simulate(core_for(SERIAL), SERIAL, offered).fates
    order = sorted((fate for fate in fates if fate.begun_ms is not None), key=lambda fate: fate.begun_ms or 0)
    assert [fates.index(fate) for fate in order] == [0, 2, 1]
    assert fates[3].dropped_ms == 2


def test_a_hopeless_job_runs_where_nobody_else_could_use_the_time() -> None:
    run = simulate(core_for(SERIAL), SERIAL, [Arrival(0, deadline_ms=0.5)])
    assert run.fates[0].ended_ms == 2


def test_a_batch_grows_only_as_far_as_its_deadlines_allow() -> None:
    offered = [Arrival(0, deadline_ms=4.1), *(Arrival(0, deadline_ms=100) for _ in range(31))]
    run = simulate(core_for(BATCHING), BATCHING, offered)
    assert run.fates[0].good
    assert run.batches[0][2] == 8
    assert run.core is not None
    assert run.core.explain(0)["batches"][-1]["why"] == str(Reason.DEADLINE)


def test_the_default_timeout_is_for_the_beginning() -> None:
    """A model that takes longer than its timeout still serves: who has begun is answered."""
    slow = linear(0, 100)
    run = simulate(core_for(slow, timeout_ns=50 * MS), slow, [Arrival(float(at)) for at in range(0, 1000, 20)])
    assert len([fate for fate in run.fates if fate.ended_ms]) == 11
    assert all(fate.waited_ms <= 50 for fate in run.fates if fate.begun_ms is not None)


def test_a_job_larger_than_a_batch_runs_alone() -> None:
    run = simulate(core_for(BATCHING), BATCHING, [Arrival(0), Arrival(0.1, rows=100), Arrival(0.2), Arrival(0.3)])
    assert [rows for _, _, rows in run.batches] == [1, 100, 2]


def test_full_queues_refuse_with_the_time_until_they_are_done() -> None:
    run = simulate(core_for(SERIAL, max_jobs=1000), SERIAL, [Arrival(n / 1000) for n in range(1100)])
    refused = [fate for fate in run.fates if fate.refusal is not None]
    assert len(refused) == 99
    assert refused[0].refusal is not None
    assert refused[0].refusal.headers == ((b"retry-after", b"2"),)
    assert "2000 ms" in refused[0].refusal.message


def test_explain_says_why() -> None:
    run = simulate(core_for(BATCHING), BATCHING, [Arrival(0), *(Arrival(0.5 + n / 100) for n in range(40))])
    assert run.core is not None
    told = run.core.explain(100 * MS)
    assert [batch["rows"] for batch in told["batches"]] == [8, 32, 1]
    assert [batch["why"] for batch in told["batches"]] == [
        str(Reason.ALL),
        str(Reason.LARGEST),
        str(Reason.ALL),
    ]
    assert told["batches"][1]["rows_left_waiting"] == 8
    assert told["batches"][1]["first_waited_ms"] == pytest.approx(1.75)
    assert told["latency_model"]["fixed_ms"] == pytest.approx(2, rel=0.05)
    assert told["queue"] == {"jobs": 0, "rows": 0, "bytes": 0}


def test_only_the_last_decisions_are_kept() -> None:
    run = simulate(core_for(SERIAL), SERIAL, [Arrival(10.0 * turn) for turn in range(200)])
    assert run.core is not None
    assert len(run.core.explain(0)["batches"]) == 64
