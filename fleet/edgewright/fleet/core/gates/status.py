"""Gates on devices: three outcomes (go on, pause, stop), each with the numbers behind it.

What a gate says, and the fixed thresholds of `abortConfig`. The gates that need no tuning are in failures.py (installs
against an absolute limit), control.py (against the controls drawn beside) and attribution.py (pooled traffic);
verdict.py says who is stopped.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Literal

import msgspec

from ..drift.report import FeatureDrift
from ..observations import Metric
from ..outcomes import EXECUTED, FAILURES, Outcome
from ..policy.sections import AbortCriterion, Action
from ..rows import Number, Rollout

GateName = Literal["abort_config", "failure", "drift", "all", "storm", "floor"] | Metric
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


def abort_gates(rollout: Rollout, outcomes: Iterable[Outcome]) -> tuple[GateStatus, ...]:
    """Return one status for each fixed threshold of `abortConfig`."""
    counts = Counter(outcomes)
    return tuple(_abort_gate(criterion, counts) for criterion in rollout.policy.abort_config.criteria_list)


def _abort_gate(criterion: AbortCriterion, counts: Counter[Outcome]) -> GateStatus:
    kinds = FAILURES if criterion.failure_type == "ALL" else {criterion.failure_type.lower()}
    executed = sum(count for kind, count in counts.items() if kind in EXECUTED)
    failures = sum(count for kind, count in counts.items() if kind in kinds)
    share = 100 * failures / executed if executed else 0.0
    reached = executed >= criterion.min_number_of_executed_things and share >= criterion.threshold_percentage
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
