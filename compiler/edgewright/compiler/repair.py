"""Accuracy control on one target: where int8 is faster but loses too much, single operators are repaired."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import msgspec

from edgewright.targets.board import Board

from .build import Build
from .control.accuracy import control_accuracy
from .control.outcome import ControlReport
from .control.price import PriceList
from .graph import digest
from .lower import onnxruntime as engine
from .lower.onnxruntime import Arithmetic
from .metrics import Z_95, Comparison
from .quantize.offer import arithmetic_of
from .quantize.plan import Plan
from .trial import Trial, call_shapes, is_here, score, try_beside_float
from .variants import FLOAT, Variant, plan_variant

REPAIRED = "-repaired"


@dataclass(frozen=True)
class Repair:
    """What accuracy control found."""

    trial: Trial | None
    """Of the repaired plan; None where float is the better choice, or the plan is the plain one."""
    report: ControlReport


def repair(board: Board, build: Build, trials: list[Trial]) -> Repair | None:
    """Repairs the fastest static plan; None where there is none, or where it is the user's own."""
    plans, statistics = build.plans, build.plans.statistics
    repairable = [trial for trial in trials if trial.variant.name in plans.by_name and _is_static(trial.variant)]
    sensitivity = plans.sensitivity() if repairable and plans.origin == "proposed" else None
    if sensitivity is None or statistics is None:
        return None
    plain = min(repairable, key=lambda trial: (trial.latency.p50_ms, trial.variant.name))
    with build.stages.stage(f"{board.name}: repairing {plain.variant.name}"):
        control = functools.partial(
            control_accuracy,
            plans.graph,
            plans.by_name[plain.variant.name],
            statistics,
            sensitivity,
            _prices(board, build, plain, trials),
            lambda plan: _score(plan, plain, board, build),
            tune_samples=len(build.data.tune),
            float_can_run=board.supports(engine.NAME, "float32"),
            saturating=arithmetic_of(board, plain.variant.scheme) is Arithmetic.SATURATING,
        )
        result = control(limit=max(0.0, build.budget.limit - _standard_error(plain.tune)))
        if result.report.outcome == "missed":
            result = control(limit=build.budget.limit)
    if result.plan is None or result.plan == plain.variant.plan:
        return Repair(None, result.report)
    variant = plan_variant(build.graph, result.plan, build.scratch, f"{plain.variant.name}{REPAIRED}")
    return Repair(try_beside_float(variant, board, build), result.report)


def _standard_error(comparison: Comparison) -> float:
    """Of the drop. Aiming so far inside the budget on *tune* makes it likely that *test* keeps it too."""
    return (comparison.drop.high - comparison.drop.low) / 2 / Z_95


def _is_static(variant: Variant) -> bool:
    return variant.scheme is not None and variant.scheme.method == "static"


def _prices(board: Board, build: Build, plain: Trial, trials: list[Trial]) -> PriceList:
    prices = PriceList(build.plans.graph, board, call_shapes(build), build.threads)
    floating = next((trial for trial in trials if trial.variant.name == FLOAT), None)
    if is_here(board, build.host) and floating is not None and plain.variant.plan is not None:
        prices.fit(plain.variant.plan, floating.latency.p50_ms, plain.latency.p50_ms)
    return prices


def _score(plan: Plan, plain: Trial, board: Board, build: Build) -> Comparison:
    if plan == plain.variant.plan:
        return plain.tune
    name = f"{plain.variant.name} {digest(msgspec.json.encode(plan))}"
    return score(plan_variant(build.graph, plan, build.scratch, name), board, "tune", build)
