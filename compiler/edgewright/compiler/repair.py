"""Accuracy control on one target: where int8 is faster but loses too much, single operators are repaired."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from edgewright.targets.board import Board

from .build import Build
from .control.accuracy import ControlResult, control_accuracy
from .control.outcome import ControlReport, given_up
from .control.price import PriceList
from .faults import NotQuantizable
from .graph import digest
from .lower.onnxruntime import Arithmetic
from .metrics import Comparison
from .quantize.basis import Basis
from .quantize.offer import arithmetic_of
from .quantize.plan import Plan
from .quantize.rules.lookup import rules_of
from .trial import Trial, call_shapes, is_here, score
from .variants import FLOAT, NATIVE, Variant, plan_variant

REPAIRED = "-repaired"
MAX_MEASURED = 3
"""Repaired plans that are timed on this machine: estimates that lie close together are often in a wrong order."""


@dataclass(frozen=True)
class Repair:
    """What accuracy control found."""

    variants: tuple[Variant, ...]
    """Repaired plans as ONNX models, the likely fastest first; none where float is the better choice, or the plan is
    the plain one."""
    report: ControlReport


def repair(board: Board, build: Build, trials: list[Trial]) -> Repair | None:
    """Repairs the fastest static plan; None where there is none of ours, or the model is too large to be ranked.

    A target that has plans by the rules of several engines gets the fastest of the next where the first cannot be
    repaired. A repaired plan that the engine refuses costs the repair, never the target: the report says why.
    """
    first = None
    for plain in _plain(board, build, trials):
        found = _repaired(plain, board, build, trials)
        if found is not None and found.variants:
            return found
        first = first or found
    return first


def _plain(board: Board, build: Build, trials: list[Trial]) -> list[Trial]:
    """The fastest of our static plans by the rules of each engine, the fastest of all first."""
    static = [trial for trial in trials if trial.variant.plan_name in build.plans.bases]
    # Repairs are scored as ONNX models: a plan for code alone, which saturates there, would look worse than it is.
    ours = [trial for trial in static if not _is_for_code_alone(trial, board)] or static
    fastest: dict[str, Trial] = {}
    for trial in sorted(ours, key=lambda trial: (trial.latency.p50_ms, trial.variant.name)):
        if trial.variant.scheme is not None:
            fastest.setdefault(trial.variant.scheme.rules, trial)
    return list(fastest.values())


def _repaired(plain: Trial, board: Board, build: Build, trials: list[Trial]) -> Repair | None:
    try:
        with build.stages.stage(f"{board.name}: repairing {plain.variant.name}"):
            result = _control(board, build, trials, plain)
        return None if result is None else Repair(_variants(result, plain, board, build), result.report)
    except NotQuantizable as refusal:
        return Repair((), given_up(str(refusal)))


def _is_for_code_alone(trial: Trial, board: Board) -> bool:
    saturates = arithmetic_of(board, trial.variant.scheme) is Arithmetic.SATURATING
    return trial.variant.engine == NATIVE and saturates


def _variants(result: ControlResult, plain: Trial, board: Board, build: Build) -> tuple[Variant, ...]:
    name = plain.variant.plan_name
    basis = build.plans.bases[name]
    known = basis.without_moves(build.plans.by_name[name])
    plans = [plan for plan in (result.plan, *result.runners_up) if plan is not None and plan != known]
    count = MAX_MEASURED if is_here(board, build.host) else 1
    variants = []
    for number, plan in enumerate(plans[:count], start=1):
        label = f"{name}{REPAIRED}" if number == 1 else f"{name}{REPAIRED}-{number}"
        variants.append(plan_variant(build.graph, _finished(plan, basis), build.scratch, label))
    return tuple(variants)


def _control(board: Board, build: Build, trials: list[Trial], plain: Trial) -> ControlResult | None:
    plans, name = build.plans, plain.variant.plan_name
    sensitivity, basis = plans.sensitivity(name), plans.bases[name]
    if sensitivity is None:
        return None
    plan = basis.without_moves(plans.by_name[name])
    return control_accuracy(
        basis.graph,
        plan,
        basis.statistics,
        sensitivity,
        _prices(board, build, plain, trials),
        lambda other: plain.tune if other == plan else _score(_finished(other, basis), name, board, build),
        limit=build.budget.limit,
        margin=1.0,
        tune_samples=len(build.data.tune),
        float_can_run=board.supports(plain.variant.engine, "float32"),
        saturating=arithmetic_of(board, plain.variant.scheme) is Arithmetic.SATURATING,
    )


def _finished(plan: Plan, basis: Basis) -> Plan:
    """A repaired plan as one of the original graph: repairs drop bias corrections that no longer fit."""
    return basis.corrected(basis.with_moves(plan))


def _prices(board: Board, build: Build, plain: Trial, trials: list[Trial]) -> PriceList:
    name = plain.variant.plan_name
    rules = rules_of(build.plans.by_name[name].scheme)
    prices = PriceList(build.plans.bases[name].graph, board, call_shapes(build), build.threads, rules)
    floating = next((trial for trial in trials if _is_float_of(trial, plain.variant.engine)), None)
    if is_here(board, build.host) and floating is not None and plain.variant.plan is not None:
        prices.fit(plain.variant.plan, floating.latency.p50_ms, plain.latency.p50_ms)
    return prices


def _is_float_of(trial: Trial, engine_name: str) -> bool:
    return trial.variant.plan_name == FLOAT and trial.variant.engine == engine_name


def _score(plan: Plan, plain: str, board: Board, build: Build) -> Comparison:
    name = f"{plain} {digest(msgspec.json.encode(plan))}"
    return score(plan_variant(build.graph, plan, build.scratch, name), board, "tune", build)
