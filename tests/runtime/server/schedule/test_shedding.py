"""When overload begins and ends, and whom it refuses."""

from __future__ import annotations

from edgewright.runtime.server.schedule.latency_model import LatencyModel
from edgewright.runtime.server.schedule.shedding import INTERVAL_NS, Shedding, backlog_ns
from tests.runtime.server.schedule.simulation import MS

MODEL = LatencyModel([(1, 0.010), (4, 0.016)])


def overloaded() -> Shedding:
    shedding = Shedding(20 * MS)
    shedding.waited(21 * MS, 0)
    shedding.waited(30 * MS, INTERVAL_NS)
    return shedding


def test_long_waits_for_an_interval_are_overload_and_one_short_wait_is_none() -> None:
    shedding = Shedding(20 * MS)
    shedding.waited(21 * MS, 0)
    shedding.waited(30 * MS, INTERVAL_NS - 1)
    assert not shedding.overloaded
    shedding.waited(20 * MS, INTERVAL_NS)
    shedding.waited(30 * MS, INTERVAL_NS + 1)
    assert not shedding.overloaded
    assert overloaded().overloaded


def test_overload_ends_well_below_the_target_or_when_nothing_waits() -> None:
    shedding = overloaded()
    shedding.waited(15 * MS, 2 * INTERVAL_NS)
    assert shedding.overloaded
    shedding.waited(10 * MS, 2 * INTERVAL_NS)
    assert not shedding.overloaded
    shedding = overloaded()
    shedding.idle()
    assert not shedding.overloaded


def test_one_batch_may_always_wait_and_then_the_wait_decides() -> None:
    shedding = overloaded()
    assert shedding.refusal(3, 4, LatencyModel([(1, 1.0), (4, 2.0)])) is None, "the engine would stand idle"
    assert shedding.refusal(4, 4, MODEL) is None, "16 ms"
    refusal = shedding.refusal(8, 4, MODEL)
    assert refusal is not None
    assert refusal.status == 503
    assert "32 ms" in refusal.message
    assert shedding.shed == 1


def test_who_comes_while_a_batch_runs_is_no_overload() -> None:
    shedding = Shedding(20 * MS)
    shedding.fit(100 * MS)
    assert shedding.target_ns == 100 * MS
    shedding.waited(90 * MS, 0)
    shedding.waited(90 * MS, 10 * INTERVAL_NS)
    assert not shedding.overloaded


def test_a_backlog_is_whole_batches_and_a_rest() -> None:
    assert round(backlog_ns(9, 4, MODEL) / MS) == 16 + 16 + 10
    assert backlog_ns(0, 4, MODEL) == 0
