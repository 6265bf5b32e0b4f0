"""Never worse: the rules by which a candidate ships."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewright.compiler.choose import Candidate, choose
from edgewright.compiler.metrics import Budget, Comparison, Estimate

BUDGET = Budget(0.01, "points")


def scored(drop: float, high: float | None = None, snr_db: float = 40.0) -> Comparison:
    return Comparison(
        metric="top1",
        unit="points",
        candidate=Estimate(0.9 - drop, 0.8, 0.95),
        float_value=0.9,
        drop=Estimate(drop, drop - 0.005, drop + 0.005 if high is None else high),
        samples=500,
        snr_db=snr_db,
        argmax_agreement=0.99,
    )


def candidate(
    name: str = "int8", ratio: float = 0.5, tune: float | Comparison = 0.0, test: float = 0.0, **changes: object
) -> Candidate:
    made = Candidate(
        name=name,
        latency_ms=ratio,
        time_ratio=Estimate(ratio, ratio - 0.02, ratio + 0.02),
        measured=True,
        tune=tune if isinstance(tune, Comparison) else scored(tune),
        test=scored(test),
        faithful=True,
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def test_faster_and_within_the_budget_ships() -> None:
    decision = choose("float32", [candidate()], BUDGET, float_can_run=True)
    assert (decision.chosen, decision.outcome, decision.flags) == ("int8", "shipped", ())
    assert "2.00x" in decision.reason


def test_not_faster_for_certain_means_float() -> None:
    decision = choose("float32", [candidate(ratio=0.99)], BUDGET, float_can_run=True)
    assert (decision.chosen, decision.outcome) == ("float32", "shipped")
    assert "faster" in decision.reason


def test_an_estimate_whose_error_reaches_one_means_float_and_says_so() -> None:
    unsure = candidate(time_ratio=Estimate(0.88, 0.63, 1.23), measured=False)
    decision = choose("float32", [unsure], BUDGET, float_can_run=True)
    assert (decision.chosen, decision.outcome) == ("float32", "shipped")
    assert "for certain: int8 is 1.14x as fast as float (estimated, 0.81x to 1.59x)" in decision.reason
    assert decision.verdicts == {"int8": "not faster than float for certain"}


def test_where_there_is_no_candidate_the_reason_is_given() -> None:
    assert "quantized already" in choose("float32", [], BUDGET, float_can_run=True, why_none="quantized already").reason


@pytest.mark.parametrize(("tune", "test"), [(0.02, 0.0), (0.0, 0.02)])
def test_over_the_budget_on_either_part_means_float_and_says_so(tune: float, test: float) -> None:
    decision = choose("float32", [candidate(tune=tune, test=test)], BUDGET, float_can_run=True)
    assert (decision.chosen, decision.outcome) == ("float32", "budget-missed")
    assert "2.00 %" in decision.reason


def test_an_engine_that_computes_something_else_is_out() -> None:
    decision = choose("float32", [candidate(faithful=False)], BUDGET, float_can_run=True)
    assert decision.chosen == "float32"
    assert "saturation" in decision.verdicts["int8"]


def test_a_budget_that_the_data_cannot_establish_is_flagged() -> None:
    decision = choose("float32", [candidate(test=0.008)], BUDGET, float_can_run=True)
    assert decision.chosen == "int8"
    assert decision.flags == ("budget-not-established",)
    assert "cannot establish" in decision.reason


def test_among_equally_fast_ones_the_faithful_one_ships() -> None:
    close = candidate("close", ratio=0.51, tune=0.0)
    better = replace(close, name="better", latency_ms=0.515, tune=scored(0.0, snr_db=45.0))
    assert choose("float32", [close, better], BUDGET, float_can_run=True).chosen == "better"


def test_after_one_that_test_does_not_confirm_only_a_quieter_one_is_looked_at() -> None:
    first = candidate("first", ratio=0.4, test=0.02)
    louder = candidate("louder", ratio=0.5, tune=scored(0.0, snr_db=30.0))
    quieter = candidate("quieter", ratio=0.6, tune=scored(0.0, snr_db=50.0))
    assert choose("float32", [first, louder, quieter], BUDGET, float_can_run=True).chosen == "quieter"
    decision = choose("float32", [first, louder], BUDGET, float_can_run=True)
    assert (decision.chosen, decision.outcome) == ("float32", "budget-missed")
    assert "first loses 2.00 % on the test samples" in decision.reason
    without_float = choose("float32", [first, quieter], BUDGET, float_can_run=False)
    assert (without_float.outcome, without_float.reason) == (
        "shipped",
        "quieter loses 0.00 % of 1 %; float cannot run here",
    )


def test_without_float_the_best_int8_ships_flagged() -> None:
    decision = choose(
        "float32",
        [candidate("a", tune=0.05, test=0.05), candidate("b", tune=0.03, test=0.04)],
        BUDGET,
        float_can_run=False,
    )
    assert (decision.chosen, decision.outcome) == ("b", "budget-missed")
    assert {"budget-missed", "float-cannot-run"} <= set(decision.flags)


def test_without_float_luck_on_test_is_no_reason_to_call_the_budget_kept() -> None:
    decision = choose("float32", [candidate(tune=0.05)], BUDGET, float_can_run=False)
    assert (decision.chosen, decision.outcome) == ("int8", "budget-missed")
    assert "loses 5.00 % on the tune samples" in decision.reason


@given(
    st.lists(st.tuples(st.floats(0.1, 2), st.floats(-0.05, 0.05), st.floats(-0.05, 0.05), st.booleans()), max_size=5)
)
def test_nothing_slower_or_less_accurate_than_allowed_ever_ships(rows: list[tuple[float, float, float, bool]]) -> None:
    made = {
        f"c{index}": candidate(f"c{index}", ratio, tune, test, faithful=faithful)
        for index, (ratio, tune, test, faithful) in enumerate(rows)
    }
    decision = choose("float32", list(made.values()), BUDGET, float_can_run=True)
    if decision.chosen != "float32":
        shipped = made[decision.chosen]
        assert shipped.faithful
        assert shipped.time_ratio.high < 1
        assert shipped.tune.drop.value <= BUDGET.limit
        assert shipped.test.drop.value <= BUDGET.limit
        assert decision.outcome == "shipped"
