"""Gates on devices: three outcomes (go on, pause, roll back), each with the numbers behind it.

The failure gate is an e-process against an absolute limit (statistics.py). Two rules stand around it:

- **Floor.** It never stops on fewer than `minFailures` (3) failures: one broken device is not a broken release.
- **Small waves.** A wave of fewer devices than the floor could never reach it, so there it is enough that *all* devices
  of the wave failed: 1 of 1 in a first wave of one device stops the rollout.

At the end of a wave with failures that prove nothing, the e-value says which way they lean: above 1 they are likelier
under a bad release than at the limit, and the gate is inconclusive; else it passes.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Literal

import msgspec

from .drift import FeatureDrift
from .observations import Metric
from .outcomes import FAILURES, PENDING, Outcome, outcome
from .policy_sections import AbortCriterion, Action
from .rows import Assignment, Number, Rollout
from .statistics import log_e_process, log_e_value

GateName = Literal["abort_config", "failure", "drift", "all", "storm"] | Metric
"""A metric is its test against the controls; `all`: those tests of one board together."""
GateOutcome = Literal["pass", "wait", "inconclusive", "fail"]
"""`wait`: not enough yet; `inconclusive`: the wave is over and it is still not enough."""


class GateStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What one gate says."""

    gate: GateName
    target: str | None
    """None where the gate looks at all targets together."""
    outcome: GateOutcome
    action: Action | None
    """What a `fail` or an `inconclusive` leads to; None is going on."""
    reason: str
    numbers: dict[str, Number] = {}
    features: tuple[FeatureDrift, ...] = ()
    data_drift: bool = False
    """The inputs changed on all devices: tell people, the release is not to blame."""
    drifted_sites: tuple[str, ...] = ()
    """The inputs changed on both arms of these sites, and not on the others."""
    log_e: float = 0.0
    """Highest ln E so far, of a gate that is an e-process."""
    weight: float = 0.0
    """Its share of alpha: it is proof when `weight * E >= 1 / alpha`."""


def abort_gates(rollout: Rollout, now_s: float, assignments: Sequence[Assignment]) -> tuple[GateStatus, ...]:
    """Return one status for each fixed threshold of `abortConfig`."""
    counts = Counter(outcome(assignment, rollout.policy, now_s) for assignment in assignments)
    return tuple(_abort_gate(criterion, counts) for criterion in rollout.policy.abort_config.criteria_list)


def _abort_gate(criterion: AbortCriterion, counts: Counter[Outcome]) -> GateStatus:
    kinds = FAILURES if criterion.failure_type == "ALL" else {criterion.failure_type.lower()}
    executed = sum(count for kind, count in counts.items() if kind not in PENDING)
    failures = sum(count for kind, count in counts.items() if kind in kinds)
    share = 100 * failures / executed if executed else 0.0
    reached = executed >= criterion.min_number_of_executed_things and share > criterion.threshold_percentage
    reason = (
        f"{criterion.failure_type}: {failures} of {executed} executed devices ({share:.1f} %); "
        f"threshold {criterion.threshold_percentage:g} % from {criterion.min_number_of_executed_things} devices on"
    )
    return GateStatus(
        gate="abort_config",
        target=None,
        outcome="fail" if reached else "pass",
        action=criterion.action if reached else None,
        reason=reason,
        numbers={
            "failure_type": criterion.failure_type,
            "failures": failures,
            "executed": executed,
            "percentage": share,
            "threshold_percentage": criterion.threshold_percentage,
            "min_number_of_executed_things": criterion.min_number_of_executed_things,
        },
    )


def failure_gate(rollout: Rollout, now_s: float, assignments: Sequence[Assignment], *, wave_ended: bool) -> GateStatus:
    """Return what the failed installs of the whole rollout so far say."""
    gate = rollout.policy.failure_gate
    ordered = sorted(assignments, key=lambda assignment: assignment.position)
    outcomes = [outcome(assignment, rollout.policy, now_s) for assignment in ordered]
    failed = [one in FAILURES for one in outcomes]
    in_wave = [one for one, order in zip(outcomes, ordered, strict=True) if order.wave == rollout.wave]
    limit = gate.max_failure_percentage / 100
    evidence = _exp(log_e_process(failed, limit))
    lean = _exp(log_e_value(sum(failed), len(failed), limit)) if failed else 0.0
    threshold = 1 / rollout.policy.alpha
    proven = evidence >= threshold and sum(failed) >= gate.min_failures
    wiped_out = 0 < len(in_wave) < gate.min_failures and wave_ended and all(one in FAILURES for one in in_wave)
    counts = f"{sum(failed)} of {len(failed)} devices failed"
    numbers: dict[str, Number] = {
        "failures": sum(failed),
        "dispatched": len(failed),
        "pending": sum(one in PENDING for one in outcomes),
        "wave_failures": sum(one in FAILURES for one in in_wave),
        "wave_devices": len(in_wave),
        "e_value": evidence,
        "e_value_now": lean,
        "e_threshold": threshold,
        "limit_percentage": gate.max_failure_percentage,
        "min_failures": gate.min_failures,
    }
    if proven:
        reason = (
            f"{counts}: proof against at most {gate.max_failure_percentage:g} % (E {evidence:.3g} >= {threshold:g})"
        )
        return _status("fail", gate.action, reason, numbers)
    if wiped_out:
        return _status("fail", gate.action, f"all {len(in_wave)} devices of the wave failed", numbers)
    if not wave_ended:
        return _status("wait", None, f"{counts}, {numbers['pending']} not finished (E {evidence:.3g})", numbers)
    if any(failed) and lean >= 1:
        reason = f"{counts}: likelier above {gate.max_failure_percentage:g} % than at it (E {lean:.3g}), not proven"
        return _status("inconclusive", "PAUSE" if gate.on_inconclusive == "PAUSE" else None, reason, numbers)
    return _status("pass", None, f"{counts} (E {evidence:.3g}, stops at {threshold:g})", numbers)


def _status(result: GateOutcome, action: Action | None, reason: str, numbers: dict[str, Number]) -> GateStatus:
    return GateStatus(gate="failure", target=None, outcome=result, action=action, reason=reason, numbers=numbers)


def _exp(log_value: float) -> float:
    """Return e^x for people: past 1e300 it no longer matters how large."""
    return math.exp(min(log_value, 690.0))
