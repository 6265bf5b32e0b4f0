"""The new release against the controls drawn beside it, block by block, board by board.

    due = due_blocks(rollout, assignments, memory, now_s)       # the shell reads what these devices did: Block
    memory, learnt = learn(rollout, memory, blocks)             # both are stored in one transaction
    gates = control_gates(rollout, memory, wave_over, drawn)

A block enters once, in its order, when the observation time of all its devices is over; so each test is an e-process
over blocks, and one may look after every block (sequential/). Data that drift for all devices of a board drift for both
arms of its blocks and cancel out: that is difference-in-differences with the coin as its assumption.

Beside its metrics each board has the gate `all`: the weighted mean of their e-values as they stand, which is an e-value
in the order of the blocks. It stops wherever one metric alone would, and where several lean together. Histograms are
not in it: that answers changed is no loss, so `outputs` asks for a change of practical size as well, and `inputs` only
warns that the arms see different data.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from ..observations import Block, BlockOutcome, Evidence, GateMemory, Metric
from ..outcomes import was_unheard
from ..policy.sections import Action
from ..rows import Assignment, Number, Rollout
from ..sequential import combine, predictive
from ..sequential.intervals import interval
from .comparisons import BINS, COMPARISONS
from .status import GateName, GateOutcome, GateStatus
from .weights import enabled_metrics, weights_of

MOST_BLOCKS = 1000
"""That are due in one tick: after a long outage the rest follows in the next ones."""
HISTOGRAMS: frozenset[Metric] = frozenset({"inputs", "outputs"})


def due_blocks(
    rollout: Rollout, assignments: Sequence[Assignment], memory: GateMemory, now_s: float
) -> list[tuple[int, list[Assignment]]]:
    """Return the blocks that may enter now, in their order and without a gap, with their devices.

    A block with an order that an emergency stop took back unheard waits until it is given again (turn.py).
    """
    ripe_s = now_s - observation_s(rollout)
    following = memory.next_block
    open_ones = [one for one in assignments if one.block >= following]
    if not open_ones:
        return []
    halted = {halt.target for halt in rollout.halted}
    unripe = min(
        (one.block for one in open_ones if drawn_s(one) > ripe_s or (was_unheard(one) and one.target not in halted)),
        default=None,
    )
    end = min(following + MOST_BLOCKS, math.inf if unripe is None else unripe)
    members: dict[int, list[Assignment]] = {}
    for one in open_ones:
        if one.block < end:
            members.setdefault(one.block, []).append(one)
    due = []
    while following in members:
        due.append((following, sorted(members[following], key=lambda one: one.device)))
        following += 1
    return due


def observation_s(rollout: Rollout) -> float:
    """Return how long a device is observed after its draw."""
    observation = rollout.policy.control.observation_seconds
    return rollout.policy.horizon_seconds if observation is None else observation


def drawn_s(assignment: Assignment) -> float:
    return assignment.dispatched_s if assignment.drawn_s is None else assignment.drawn_s


def learn(rollout: Rollout, memory: GateMemory, blocks: Sequence[Block]) -> tuple[GateMemory, tuple[BlockOutcome, ...]]:
    """Return what the tests know after these blocks, and what each block gave to them.

    Blocks that were learnt before are passed by, so that a tick may be repeated; none after a gap is learnt.
    """
    learnt = []
    for block in sorted(blocks, key=lambda one: one.number):
        if block.number != memory.next_block:
            continue
        found = outcome_of(rollout, block)
        memory = fold(rollout, memory, found)
        learnt.append(found)
    return memory, tuple(learnt)


def outcome_of(rollout: Rollout, block: Block) -> BlockOutcome:
    """Return what a block gives to each test."""
    values = {metric: COMPARISONS[metric].values(block) for metric in enabled_metrics(rollout.policy)}
    return BlockOutcome(
        number=block.number, target=block.target, values={metric: one for metric, one in values.items() if one}
    )


def fold(rollout: Rollout, memory: GateMemory, found: BlockOutcome) -> GateMemory:
    """Return the memory after one block: all that `fleet explain` needs to compute every e-value again."""
    tests = dict(memory.tests)
    for metric, values in found.values.items():
        key = f"{found.target}/{metric}"
        limit = COMPARISONS[metric].limit(_max_loss(rollout, metric))
        tests[key] = COMPARISONS[metric].advance(tests.get(key, Evidence()), values, limit)
    key = f"{found.target}/all"
    tests[key] = _together(rollout, found.target, tests, tests.get(key, Evidence()))
    return GateMemory(next_block=found.number + 1, tests=tests)


def blocks_of(memory: GateMemory, target: str) -> int:
    """Return how many blocks of a board have been learnt."""
    together = memory.tests.get(f"{target}/all")
    return 0 if together is None else together.steps


def control_gates(rollout: Rollout, memory: GateMemory, wave_over: bool, drawn: int = 0) -> tuple[GateStatus, ...]:
    """Return what the blocks so far say: for each board its metrics, then all of them together.

    Args:
        rollout: the rollout.
        memory: after the latest block.
        wave_over: the horizon of the present wave has passed.
        drawn: how many blocks the rollout has drawn; while some of them are observed, the gates wait for them.
    """
    waiting = not wave_over or memory.next_block < drawn
    found: list[GateStatus] = []
    for target in sorted({bundle.target for bundle in rollout.bundles}):
        for metric in enabled_metrics(rollout.policy):
            evidence = memory.tests.get(f"{target}/{metric}")
            if evidence is not None:
                found.append(_metric_gate(rollout, target, metric, evidence, waiting))
        together = memory.tests.get(f"{target}/all")
        if together is not None:
            found.append(_all_gate(rollout, target, together, waiting))
    if waiting and memory.next_block < drawn:
        found.append(_not_observed(memory, drawn))
    return tuple(found)


def _max_loss(rollout: Rollout, metric: Metric) -> float | None:
    given = [one.max_loss for one in rollout.policy.control_gate.metrics if one.metric == metric]
    return given[0] if given else None


def _averaged(rollout: Rollout) -> list[Metric]:
    return [metric for metric in enabled_metrics(rollout.policy) if metric not in HISTOGRAMS]


def _together(rollout: Rollout, target: str, tests: dict[str, Evidence], before: Evidence) -> Evidence:
    """Return the mean of a board's e-values after a block. A metric that was never seen has E = 1."""
    metrics = _averaged(rollout)
    if not metrics:
        return msgspec.structs.replace(before, log_wealth=(0.0,), steps=before.steps + 1)
    seen = [tests.get(f"{target}/{metric}") for metric in metrics]
    now = combine.weighted((1 / len(metrics), 0.0 if one is None else combine.log_e_now(one)) for one in seen)
    return Evidence(log_wealth=(now,), peak=max(before.peak, now), steps=before.steps + 1)


def _metric_gate(rollout: Rollout, target: str, metric: Metric, evidence: Evidence, waiting: bool) -> GateStatus:
    comparison = COMPARISONS[metric]
    limit = comparison.limit(_max_loss(rollout, metric))
    weight = weights_of(rollout).metric
    numbers = _numbers(rollout, metric, evidence, limit / comparison.scale)
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


def _all_gate(rollout: Rollout, target: str, evidence: Evidence, waiting: bool) -> GateStatus:
    gate = rollout.policy.control_gate
    weight = weights_of(rollout).metric * len(_averaged(rollout))
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


def _not_observed(memory: GateMemory, drawn: int) -> GateStatus:
    return GateStatus(
        gate="all",
        target=None,
        outcome="wait",
        action=None,
        reason=f"{drawn - memory.next_block} of {drawn} blocks of devices and controls are still observed",
        numbers={"blocks": memory.next_block, "drawn": drawn},
    )


def _is_proof(rollout: Rollout, evidence: Evidence, weight: float) -> bool:
    return weight > 0 and evidence.peak >= math.log(_threshold(rollout, weight))


def _threshold(rollout: Rollout, weight: float) -> float:
    return 1 / (rollout.policy.alpha * weight) if weight else math.inf


def _warning_weight(rollout: Rollout) -> float:
    """Return what a metric that stops nothing is judged by: the share that the boards have of alpha."""
    return 1 / max(1, len(rollout.bundles))


def _numbers(rollout: Rollout, metric: Metric, evidence: Evidence, limit: float) -> dict[str, Number]:
    weight = weights_of(rollout).metric if metric != "inputs" else _warning_weight(rollout)
    numbers: dict[str, Number] = {
        "blocks": evidence.steps,
        "e_value": _exp(evidence.peak),
        "e_value_now": _exp(combine.log_e_now(evidence)),
        "e_threshold": _threshold(rollout, weight),
        "limit": limit,
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
    target: str,
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
        reason=f"{target}: {reason}",
        numbers=numbers,
        log_e=evidence.peak,
        weight=weight,
    )


def _exp(log_value: float) -> float:
    """Return e^x for people: past 1e300 it no longer matters how large."""
    return math.exp(min(log_value, 690.0))
