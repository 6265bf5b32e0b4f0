"""What a comparison with the controls says, of one board or of all boards together: a status with its numbers."""

from __future__ import annotations

import math

from ..observations import Evidence, Metric
from ..policy.sections import Action
from ..rows import Number, Rollout
from ..sequential import combine, predictive
from ..sequential.intervals import interval
from .comparisons import BINS, COMPARISONS
from .status import GateName, GateOutcome, GateStatus
from .weights import enabled_metrics, weights_of

HISTOGRAMS: frozenset[Metric] = frozenset({"inputs", "outputs"})


def limit_of(rollout: Rollout, metric: Metric) -> float:
    """Return the limit of a metric in the unit of its test."""
    given = [one.max_loss for one in rollout.policy.control_gate.metrics if one.metric == metric]
    return COMPARISONS[metric].limit(given[0] if given else None)


def averaged(rollout: Rollout) -> list[Metric]:
    """Return the metrics whose e-values are averaged to `all`."""
    return [metric for metric in enabled_metrics(rollout.policy) if metric not in HISTOGRAMS]


def metric_gate(
    rollout: Rollout, target: str | None, metric: Metric, evidence: Evidence, *, waiting: bool
) -> GateStatus:
    """Return what one metric's evidence says.

    Args:
        rollout: the rollout.
        target: the board; None: all boards (over_boards.py).
        metric: the metric.
        evidence: of its test, of at least one block.
        waiting: more is observed, which may still change the answer.
    """
    comparison = COMPARISONS[metric]
    limit = limit_of(rollout, metric)
    weight = _weight(rollout, target)
    numbers = _numbers(rollout, target, metric, evidence)
    proven = _is_proof(rollout, evidence, weight or _warning_weight(rollout))
    size = f"{comparison.unit}, limit {limit / comparison.scale:g}"
    detail = f"{_amount(metric, numbers)} {size}; {evidence.steps} blocks, E {_exp(evidence.peak):.3g}"
    outcome: GateOutcome = "wait" if waiting else "pass"
    action: Action | None = None
    reason = f"{detail}, stops at {numbers['e_threshold']:.4g}"
    if proven and metric == "inputs":
        outcome = "inconclusive"
        action = "PAUSE" if rollout.policy.control_gate.on_inconclusive == "PAUSE" else None
        reason = f"the new release and its controls see different inputs, so nothing can be compared: {detail}"
    elif proven and metric == "outputs" and float(str(numbers["estimate"])) < limit:
        reason = f"answers otherwise than the controls, but less than the limit: {detail}"
    elif proven:
        outcome, action = "fail", rollout.policy.control_gate.action
        reason = f"{metric} worse than the controls: {detail}"
    return _status(metric, target, outcome, action, f"{metric}: {reason}", numbers, evidence, weight)


def all_gate(rollout: Rollout, target: str | None, evidence: Evidence, *, waiting: bool) -> GateStatus:
    """Return what the mean of the e-values of all metrics says; arguments as of `metric_gate`."""
    gate = rollout.policy.control_gate
    weight = _weight(rollout, target) * len(averaged(rollout))
    now = combine.log_e_now(evidence)
    numbers: dict[str, Number] = {
        "blocks": evidence.steps,
        "e_value": _exp(evidence.peak),
        "e_value_now": _exp(now),
        "e_threshold": _threshold(rollout, weight),
    }
    outcome: GateOutcome = "wait" if waiting else "pass"
    action: Action | None = None
    detail = f"{evidence.steps} blocks of treated devices and controls, E {_exp(evidence.peak):.3g}"
    reason = f"{detail}, stops at {numbers['e_threshold']:.4g}"
    if _is_proof(rollout, evidence, weight):
        outcome, action, reason = "fail", gate.action, f"worse than the controls over all metrics: {detail}"
    elif not waiting and now > 0:
        outcome, action = "inconclusive", "PAUSE" if gate.on_inconclusive == "PAUSE" else None
        reason = f"leans towards worse than the controls, not proven: {detail}"
    return _status("all", target, outcome, action, reason, numbers, evidence, weight)


def _weight(rollout: Rollout, target: str | None) -> float:
    weights = weights_of(rollout)
    return weights.pooled_metric if target is None else weights.metric


def _is_proof(rollout: Rollout, evidence: Evidence, weight: float) -> bool:
    return weight > 0 and evidence.peak >= math.log(_threshold(rollout, weight))


def _threshold(rollout: Rollout, weight: float) -> float:
    return 1 / (rollout.policy.alpha * weight) if weight else math.inf


def _warning_weight(rollout: Rollout) -> float:
    """Return what a metric that stops nothing is judged by: the share that the boards have of alpha."""
    return 1 / max(1, len(rollout.bundles))


def _numbers(rollout: Rollout, target: str | None, metric: Metric, evidence: Evidence) -> dict[str, Number]:
    weight = _weight(rollout, target) if metric != "inputs" else _warning_weight(rollout)
    numbers: dict[str, Number] = {
        "blocks": evidence.steps,
        "e_value": _exp(evidence.peak),
        "e_value_now": _exp(combine.log_e_now(evidence)),
        "e_threshold": _threshold(rollout, weight),
        "limit": limit_of(rollout, metric) / COMPARISONS[metric].scale,
    }
    if metric in HISTOGRAMS:
        sizes = (BINS,) * (len(evidence.learnt) // 3 // BINS)
        numbers["estimate"] = predictive.pooled_psi(evidence, sizes) if sizes else 0.0
        return numbers
    scale = COMPARISONS[metric].scale if COMPARISONS[metric].unit == "points" else 1.0
    around = interval(evidence.steps, evidence.total, evidence.total_squared, rollout.policy.alpha)
    numbers["estimate"] = evidence.total / evidence.steps / scale
    if around is not None:
        numbers |= {"low": around.low / scale, "high": around.high / scale}
    return numbers


def _amount(metric: Metric, numbers: dict[str, Number]) -> str:
    """Say the estimate in words: what it is the mean of depends on the test."""
    estimate = float(str(numbers["estimate"]))
    match metric:
        case "crashes" | "silence":
            return f"{estimate:+.3g} devices a block above chance,"
        case "latency" | "energy":
            return f"{100 * estimate:.3g} % of the blocks above the limit (chance: 50 %),"
        case _:
            return f"{estimate:.3g}"


def _status(
    gate: GateName,
    target: str | None,
    outcome: GateOutcome,
    action: Action | None,
    reason: str,
    numbers: dict[str, Number],
    evidence: Evidence,
    weight: float,
) -> GateStatus:
    return GateStatus(
        gate=gate,
        target=target,
        outcome=outcome,
        action=action,
        reason=f"{'all boards' if target is None else target}: {reason}",
        numbers=numbers,
        log_e=evidence.peak,
        weight=weight,
    )


def _exp(log_value: float) -> float:
    """Return e^x for people: past 1e300 it no longer matters how large."""
    return math.exp(min(log_value, 690.0))
