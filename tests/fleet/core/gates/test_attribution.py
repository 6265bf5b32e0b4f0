"""Bad build, drifted data, or nothing at all: the table of gates/attribution.py."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from edgewright.bundle.reference import Reference
from edgewright.fleet.core.gates.attribution import drift_gate
from edgewright.fleet.core.gates.evidence import ControlKind, TargetEvidence
from edgewright.fleet.core.policy.sections import DriftGate
from edgewright.fleet.core.sums.windows import Totals

from ..conftest import Traffic

GATE = DriftGate()
SHIFTED = (0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.13, 0.16, 0.19, 0.21)
UNSURE = (0.15, 0.2, 0.25, 0.2, 0.1, 0.1)
OTHER_CLASSES = (0.15, 0.2, 0.3, 0.35)


def seen(
    reference: Reference, treated: Totals, control: Totals | None, kind: ControlKind = "concurrent"
) -> TargetEvidence:
    return TargetEvidence(
        target="board",
        treated=treated,
        treated_reference=reference,
        control=control or Totals(),
        control_kind=kind if control else "none",
        control_reference=reference if control else None,
    )


def test_a_healthy_release_passes(traffic: Callable[[int], Traffic]) -> None:
    draw = traffic(1)
    status = drift_gate("board", seen(draw.calibrated(), draw.totals(800), draw.totals(1600)), GATE, wave_over=False)
    assert (status.outcome, status.action, status.data_drift) == ("pass", None, False)
    assert "outputs like the old release at the same time" in status.reason


def test_a_bad_build_fails(traffic: Callable[[int], Traffic]) -> None:
    draw = traffic(2)
    evidence = seen(draw.calibrated(), draw.totals(400, confidence=UNSURE), draw.totals(800))
    status = drift_gate("board", evidence, GATE, wave_over=False)
    assert (status.outcome, status.action) == ("fail", "ROLLBACK")
    assert "bad build" in status.reason
    assert float(str(status.numbers["psi output y confidence"])) > GATE.max_psi


def test_a_build_that_answers_other_classes_with_the_same_confidence_fails(traffic: Callable[[int], Traffic]) -> None:
    draw = traffic(3)
    evidence = seen(draw.calibrated(), draw.totals(400, classes=OTHER_CLASSES), draw.totals(800))
    assert drift_gate("board", evidence, GATE, wave_over=False).outcome == "fail"


def test_drifted_data_raise_an_alert_and_no_rollback(traffic: Callable[[int], Traffic]) -> None:
    draw = traffic(4)
    evidence = seen(
        draw.calibrated(),
        draw.totals(800, inputs=SHIFTED, confidence=UNSURE),
        draw.totals(800, inputs=SHIFTED, confidence=UNSURE),
    )
    status = drift_gate("board", evidence, GATE, wave_over=False)
    assert status.data_drift
    assert status.outcome == "pass"


def test_a_bad_build_is_seen_through_drifted_data(traffic: Callable[[int], Traffic]) -> None:
    draw = traffic(5)
    evidence = seen(
        draw.calibrated(), draw.totals(800, inputs=SHIFTED, confidence=UNSURE), draw.totals(800, inputs=SHIFTED)
    )
    status = drift_gate("board", evidence, GATE, wave_over=False)
    assert status.outcome == "fail"
    assert status.data_drift


@pytest.mark.parametrize(("over", "expected", "action"), [(False, "wait", None), (True, "inconclusive", "PAUSE")])
def test_groups_that_see_different_inputs_prove_nothing(
    traffic: Callable[[int], Traffic], over: bool, expected: str, action: str | None
) -> None:
    draw = traffic(6)
    evidence = seen(draw.calibrated(), draw.totals(800, inputs=SHIFTED, confidence=UNSURE), draw.totals(800))
    status = drift_gate("board", evidence, GATE, wave_over=over)
    assert (status.outcome, status.action) == (expected, action)
    assert "different inputs" in status.reason


def test_a_better_model_may_answer_differently(traffic: Callable[[int], Traffic]) -> None:
    """Its own reference says that it is surer of itself, and it is."""
    draw = traffic(7)
    surer = (0.0, 0.01, 0.01, 0.03, 0.05, 0.9)
    old = draw.calibrated()
    confidence = old.histograms[2]
    new = Reference(
        histograms=(*old.histograms[:2], msgspec.structs.replace(confidence, counts=draw.draw(surer, 2000))),
        confidence_table=old.confidence_table,
    )
    evidence = TargetEvidence(
        target="board",
        treated=draw.totals(1000, confidence=surer),
        treated_reference=new,
        control=draw.totals(1000),
        control_kind="concurrent",
        control_reference=old,
    )
    status = drift_gate("board", evidence, GATE, wave_over=False)
    assert status.outcome == "pass", status.reason
    assert "own reference predicts" in status.reason


@pytest.mark.parametrize(("over", "expected", "action"), [(False, "wait", None), (True, "inconclusive", "PAUSE")])
def test_a_better_model_waits_until_its_own_reference_can_tell(
    traffic: Callable[[int], Traffic], over: bool, expected: str, action: str | None
) -> None:
    """240 samples suffice to see that it answers otherwise, and not to see that it answers as it should."""
    draw = traffic(7)
    surer = (0.0, 0.01, 0.04, 0.1, 0.35, 0.5)
    old = draw.calibrated()
    confidence = old.histograms[2]
    new = Reference(
        histograms=(*old.histograms[:2], msgspec.structs.replace(confidence, counts=draw.draw(surer, 100))),
        confidence_table=old.confidence_table,
    )
    evidence = TargetEvidence(
        target="board",
        treated=draw.totals(240, confidence=surer),
        treated_reference=new,
        control=draw.totals(1000),
        control_kind="concurrent",
        control_reference=old,
    )
    status = drift_gate("board", evidence, GATE, wave_over=over)
    assert (status.outcome, status.action) == (expected, action), status.reason
    assert "own reference predicts" in status.reason


def test_a_loss_of_estimated_accuracy_below_the_psi_limit_fails(traffic: Callable[[int], Traffic]) -> None:
    draw = traffic(8)
    duller = (0.05, 0.07, 0.1, 0.13, 0.2, 0.45)
    blind = DriftGate(max_psi=5, max_ks=1)
    evidence = seen(draw.calibrated(), draw.totals(3000, confidence=duller), draw.totals(3000))
    status = drift_gate("board", evidence, blind, wave_over=False)
    assert status.outcome == "fail"
    assert "estimated accuracy" in status.reason


def test_failed_requests_count_against_the_release(traffic: Callable[[int], Traffic]) -> None:
    draw = traffic(9)
    bad = drift_gate(
        "board", seen(draw.calibrated(), draw.totals(300, failures=30), draw.totals(300)), GATE, wave_over=False
    )
    alike = drift_gate(
        "board",
        seen(draw.calibrated(), draw.totals(900, failures=90), draw.totals(900, failures=85)),
        GATE,
        wave_over=False,
    )
    assert bad.outcome == "fail"
    assert "30 of 300 requests failed" in bad.reason
    assert alike.outcome == "pass"


def test_a_first_release_is_compared_with_its_reference_only(traffic: Callable[[int], Traffic]) -> None:
    draw = traffic(10)
    reference = draw.calibrated()
    good = drift_gate("board", seen(reference, draw.totals(800), None), GATE, wave_over=False)
    odd = drift_gate("board", seen(reference, draw.totals(800, confidence=UNSURE), None), GATE, wave_over=True)
    assert good.outcome == "pass"
    assert (odd.outcome, odd.action) == ("inconclusive", "PAUSE")
    assert "nothing to compare with" in odd.reason


@pytest.mark.parametrize("samples", [0, 50])
def test_too_little_traffic_waits_for_the_horizon_and_then_does_what_the_policy_says(
    traffic: Callable[[int], Traffic], samples: int
) -> None:
    draw = traffic(11)
    evidence = seen(draw.calibrated(), draw.totals(samples, confidence=UNSURE), draw.totals(800))
    going_on = DriftGate(on_inconclusive="CONTINUE")
    assert drift_gate("board", evidence, GATE, wave_over=False).outcome == "wait"
    assert drift_gate("board", evidence, GATE, wave_over=True).action == "PAUSE"
    assert drift_gate("board", evidence, going_on, wave_over=True).action is None
    assert drift_gate("board", None, GATE, wave_over=False).outcome == "wait"


def test_false_alarms_stay_rare(traffic: Callable[[int], Traffic]) -> None:
    """One treated device beside two controls, looked at after every batch: the smallest first wave there is."""
    runs, alarms = 100, 0
    for seed in range(runs):
        draw = traffic(1000 + seed)
        reference = draw.calibrated(500)
        alarms += any(
            drift_gate("board", seen(reference, draw.totals(n), draw.totals(2 * n)), GATE, wave_over=False).outcome
            == "fail"
            for n in range(100, 1000, 100)
        )
    assert alarms / runs <= GATE.alpha + 0.01
