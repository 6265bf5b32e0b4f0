"""The two calls that a compilation makes: rank once per run, then control once per target."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from ..data import Samples
from ..graph import Graph
from ..lower.model_file import weight_bytes
from ..metrics import Comparison, snr_of_powers
from ..quantize.calibration.statistics import Statistics
from ..quantize.plan import Plan, WeightEncoding
from .groups import Structure, structure_of
from .noise import NoiseModel, Sensitivity, tensor_error, weight_error
from .outcome import WORST, ControlReport, OperatorReport, RepairPrice, StepReport
from .planner import Planner
from .price import PriceList
from .repairs import CALIBRATORS, FLOAT_REPAIR, Workbench, alternative, differs, menu
from .search import Found, Goal, Step, search
from .sensitivity import measure_sensitivity
from .wording import repairs_in_words


@dataclass(frozen=True)
class ControlResult:
    """What to ship, as far as int8 is concerned."""

    plan: Plan | None
    """Within the budget on *tune* and faster than float; where float cannot run, at least the best there is. None where
    float is the better choice."""
    comparison: Comparison | None
    """Of that plan, on *tune*."""
    runners_up: tuple[Plan, ...]
    """Further plans of which the same holds, the next best first; estimated latencies may be in a wrong order."""
    report: ControlReport


MAX_WEIGHT_BYTES = 1 << 30
"""Of a model whose parts are run from memory; a part has to fit into one protobuf."""


def rank(graph: Graph, plan: Plan, statistics: Statistics, tune: Samples) -> Sensitivity | None:
    """Measures the noise of every rounding of a plan, and of what other calibrators would round to.

    `graph` and `statistics` are those that the plan was proposed from, equalised where the plan is. The result holds
    for every plan of that graph, whatever its types and weights. None where the model is too large to be taken apart.
    """
    if weight_bytes(graph) > MAX_WEIGHT_BYTES:
        return None
    structure, bench = structure_of(graph, plan), Workbench(graph, statistics)
    alternatives = {}
    for name in structure.roundings:
        current = plan.tensors[name]
        found = [alternative(plan, structure.roundings[name], bench, calibrator) for calibrator in CALIBRATORS]
        alternatives[name] = [other for other in found if other is not None and differs(other, current)]
    return measure_sensitivity(graph, plan, structure, statistics, tune, alternatives)


def control_accuracy(
    graph: Graph,
    plan: Plan,
    statistics: Statistics,
    sensitivity: Sensitivity,
    prices: PriceList,
    score: Callable[[Plan], Comparison],
    limit: float,
    tune_samples: int,
    *,
    margin: float = 0.0,
    float_can_run: bool = True,
    saturating: bool = False,
) -> ControlResult:
    """Repairs a plan until it keeps the budget, at the least latency that is found.

    Args:
        graph: the float graph, equalised where the plan is.
        plan: the plain plan of the target.
        statistics: of the graph's activations.
        sensitivity: from `rank`.
        prices: of the graph's operators on the target.
        score: emits a plan and compares it with the float model on *tune*, by the target's arithmetic.
        limit: of the drop, in the metric's unit.
        tune_samples: how many *tune* has.
        margin: standard errors of its drop by which a plan should stay below the limit, where one can.
        float_can_run: whether float can ship, and single operators can be float.
        saturating: whether the target sums pairs of products in 16 bits.
    """
    structure, bench = structure_of(graph, plan), Workbench(graph, statistics)
    menus = [
        tuple(
            repair
            for repair in menu(plan, group, structure, bench, saturating=saturating)
            if float_can_run or repair.name != FLOAT_REPAIR
        )
        for group in structure.groups
    ]
    noise = _noise_model(structure, sensitivity, bench, statistics)
    planner = Planner(plan, structure, menus, noise, prices)
    worth_ms = prices.float_ms() if float_can_run else math.inf
    goal = Goal(limit=limit, worth_ms=worth_ms, margin=margin)
    found = search(planner.proposal(planner.plain), planner.solve, score, goal)
    step = found.best or (None if float_can_run else min(found.steps, key=lambda step: step.comparison.drop.value))
    report = ControlReport(
        outcome="missed" if found.best is None else "repaired" if found.best.proposal.repairs else "as planned",
        reason=_reason(found, worth_ms),
        float_latency_ms=prices.float_ms() if float_can_run else None,
        evaluations=len(found.steps),
        ranking_runs=round(sensitivity.sample_runs / tune_samples, 4),
        steps=tuple(_step(each) for each in found.steps),
        worst=_worst(graph, plan, structure, planner, noise),
    )
    return ControlResult(
        plan=None if step is None else step.proposal.plan,
        comparison=None if step is None else step.comparison,
        runners_up=tuple(each.proposal.plan for each in found.good[1:]),
        report=report,
    )


def _noise_model(
    structure: Structure, sensitivity: Sensitivity, bench: Workbench, statistics: Statistics
) -> NoiseModel:
    def of_weight(operator: str, encoding: WeightEncoding) -> float:
        weight = bench.weight(operator)
        return 0.0 if weight is None else weight_error(weight, encoding)

    return NoiseModel(
        structure,
        sensitivity,
        of_weight,
        lambda name, encoding: tensor_error(statistics.tensors[name], encoding),
    )


def _reason(found: Found, worth_ms: float) -> str:
    tried = f"{len(found.steps)} evaluation{'s' if len(found.steps) > 1 else ''} on tune"
    if found.best is not None:
        how = repairs_in_words(found.best.proposal.repairs)
        how += "" if found.best.safe else ", though not by a safe margin"
        return f"within the budget on tune with {how}: estimated {found.best.proposal.latency_ms:.4g} ms, {tried}"
    if found.too_slow is not None:
        return (
            f"no plan keeps the budget and is faster than float: the fastest that might takes "
            f"{found.too_slow.latency_ms:.4g} ms, float {worth_ms:.4g} ms; {tried}"
        )
    least = min(step.comparison.drop.value for step in found.steps)
    return f"no plan keeps the budget: the best of {tried} still drops {least:.4g}"


def _step(step: Step) -> StepReport:
    return StepReport(
        repairs=step.proposal.repairs,
        latency_ms=round(step.proposal.latency_ms, 6),
        predicted_snr_db=round(snr_of_powers(step.proposal.noise, 1.0), 2),
        snr_db=round(step.comparison.snr_db, 2),
        drop=round(step.comparison.drop.value, 6),
        argmax_agreement=step.comparison.argmax_agreement,
        within=step.within,
    )


def _worst(
    graph: Graph, plan: Plan, structure: Structure, planner: Planner, noise: NoiseModel
) -> tuple[OperatorReport, ...]:
    parts = noise.parts(plan)
    total = sum(parts.values())
    kinds = {node.name: node.op_type for node in graph.graph}
    order = sorted(range(len(structure.groups)), key=lambda index: -parts[structure.groups[index].name])
    return tuple(
        OperatorReport(
            name=name,
            operator=kinds[name],
            noise_share=round(parts[name] / total, 4) if total > 0 else 0.0,
            repairs=tuple(
                RepairPrice(
                    name=repair.name,
                    latency_change_ms=round(change.latency_ms, 6),
                    snr_gain_db=round(snr_of_powers(total + change.noise, max(total, 1e-300)), 2),
                )
                for repair, change in planner.changes(index)
            ),
        )
        for index in order[:WORST]
        for name in [structure.groups[index].name]
    )
