"""Drift verdicts: no false alarms under continuous looking, real drift found, few samples stay undecided."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from edgewright.fleet.core.drift.report import compare, drift_report, estimate_accuracy, verdict_of
from edgewright.fleet.core.policy.sections import DriftGate
from edgewright.fleet.core.sums.windows import Totals

from ..conftest import CONFIDENCE_TABLE, Traffic

GATE = DriftGate()
SHIFTED = (0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.13, 0.16, 0.19, 0.21)
UNSURE = (0.15, 0.2, 0.25, 0.2, 0.1, 0.1)


def add(one: Totals, other: Totals) -> Totals:
    histograms = tuple(
        tuple(a + b for a, b in zip(left, right, strict=True))
        for left, right in zip(one.histograms, other.histograms, strict=True)
    )
    return Totals(rows=one.rows + other.rows, histograms=histograms)


def test_watching_a_healthy_fleet_for_long_raises_no_alarm_more_often_than_alpha(
    traffic: Callable[[int], Traffic],
) -> None:
    runs, alarms = 120, 0
    for seed in range(runs):
        draw = traffic(seed)
        reference = draw.calibrated(600)
        live = draw.totals(50)
        for _ in range(30):
            live = add(live, draw.totals(50))
            if drift_report(reference, live, GATE).verdict == "drifted":
                alarms += 1
                break
    assert alarms / runs <= GATE.alpha + 0.01


@pytest.mark.parametrize(
    ("role", "changes"),
    [("input", {"inputs": SHIFTED}), ("output", {"confidence": UNSURE}), ("output", {"classes": (0.1, 0.2, 0.3, 0.4)})],
)
def test_a_real_shift_is_found_in_the_right_place(
    traffic: Callable[[int], Traffic], role: str, changes: dict[str, Any]
) -> None:
    draw = traffic(3)
    report = drift_report(draw.calibrated(), draw.totals(400, **changes), GATE)
    assert report.verdict == "drifted"
    assert (report.input_verdict == "drifted") == (role == "input")
    assert (report.output_verdict == "drifted") == (role == "output")
    assert "Drifted on 400 samples" in report.message


def test_few_samples_neither_alarm_nor_pass(traffic: Callable[[int], Traffic]) -> None:
    draw = traffic(4)
    reference = draw.calibrated()
    for samples in (0, 20, 199):
        report = drift_report(reference, draw.totals(samples, confidence=UNSURE), GATE)
        assert report.verdict == "inconclusive"
    assert drift_report(reference, draw.totals(3000), GATE).verdict == "stable"


def test_samples_that_cannot_see_the_limit_do_not_pass(traffic: Callable[[int], Traffic]) -> None:
    draw = traffic(5)
    tight = DriftGate(max_psi=0.005, max_ks=0.9, min_samples=100)
    report = drift_report(draw.calibrated(), draw.totals(300), tight)
    assert report.verdict == "inconclusive"
    assert all(one.psi_critical is None or one.psi_critical > tight.max_psi for one in report.features)


def test_a_large_sample_ignores_a_shift_below_the_limit(traffic: Callable[[int], Traffic]) -> None:
    draw = traffic(6)
    slightly = (0.11, 0.11, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.09, 0.09)
    report = drift_report(draw.calibrated(20_000), draw.totals(20_000, inputs=slightly), GATE)
    (feature,) = [one for one in report.features if one.role == "input"]
    assert feature.p_value < 1e-6  # significant beyond doubt, and too small to matter
    assert feature.verdict == "stable"


def test_estimated_accuracy_is_the_mean_of_the_table_over_the_confidences(traffic: Callable[[int], Traffic]) -> None:
    reference = traffic(7).calibrated()
    counts = ((1,) + (0,) * 9, (1, 0, 0, 0), (0, 0, 0, 0, 1, 3))
    estimate = estimate_accuracy(reference, counts)
    assert estimate is not None
    assert estimate.value == pytest.approx((CONFIDENCE_TABLE[4] + 3 * CONFIDENCE_TABLE[5]) / 4)
    assert estimate_accuracy(traffic(7).calibrated(table=False), counts) is None


def test_counts_that_do_not_fit_the_reference_are_not_compared(traffic: Callable[[int], Traffic]) -> None:
    reference = traffic(8).calibrated()
    fitting = [one.counts for one in reference.histograms]
    for odd in ((), ((1,),), ((1,) * 10, (1,) * 4, (1,) * 5)):
        assert compare(reference.histograms, odd, fitting, GATE) == ()
        assert drift_report(reference, Totals(rows=5, histograms=odd), GATE).verdict == "inconclusive"
    assert verdict_of(()) == "inconclusive"
