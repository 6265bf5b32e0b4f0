"""One target of a run: which variants it can use, how fast and how good they are there, which one ships."""

from __future__ import annotations

from pathlib import Path

from edgewright.bundle.files import storage_faults
from edgewright.bundle.manifest import Accuracy, Interval
from edgewright.targets.board import Board

from .build import Build
from .choose import BUDGET_MISSED, Decision, choose
from .faults import ToolchainMissing, UnsupportedModel
from .lower import onnxruntime as engine
from .lower.compatibility import check_readable
from .lower.model_file import size_bytes
from .metrics import Comparison
from .package import Shipment, write_bundle
from .repair import repair
from .report.schema import CandidateReport, TargetReport, exit_code_of_outcome
from .trial import Trial, call_shapes, scored_by, try_variant
from .variants import FLOAT, Variant

REMEDIES = {
    "ethos-u-vela": "Ethos-U takes int8 TFLite through Arm's Vela compiler, which this version cannot emit yet",
}
"""What to say about engines that boards name and that this version cannot build for."""


def compile_target(board: Board, build: Build, stage: Path) -> TargetReport:
    """Chooses and packages for one board.

    Raises:
        ToolchainMissing: no engine of the board can be built for.
        UnsupportedModel: nothing of the model can run there.
    """
    check_engine(board)
    for support in board.engines:
        if support.name == engine.NAME:
            versions = f"{engine.VERSION_RANGE},{support.version}"  # the bundle's own range holds too
            check_readable(build.graph, engine.NAME, versions, f"target {board.name}")
    variants = usable_variants(board, build)
    with build.stages.stage(f"{board.name}: scoring {len(variants)} candidates"):
        trials = [try_variant(variant, variants, board, build) for variant in variants]
    decision, control = decide(trials, board, build), None
    if decision.outcome == BUDGET_MISSED and (control := repair(board, build, trials)) is not None and control.trials:
        trials = [*trials, *control.trials]
        decision = decide(trials, board, build)
    chosen = next(trial for trial in trials if trial.variant.name == decision.chosen)
    packaging = build.stages.stage(f"{board.name}: packaging {decision.chosen}")
    with packaging, storage_faults(f"writing the files of {board.name}"):
        file_name, digest = write_bundle(_shipment(chosen, decision, board, build), stage)
    return TargetReport(
        target=board.name,
        target_digest=board.digest(),
        outcome=decision.outcome,
        exit_code=exit_code_of_outcome(decision.outcome),
        reason=decision.reason,
        bundle=file_name,
        bundle_digest=digest,
        bundle_bytes=(stage / file_name).stat().st_size,
        chosen=decision.chosen,
        flags=decision.flags,
        candidates=tuple(_row(trial, decision) for trial in trials),
        control=None if control is None else control.report,
    )


def decide(trials: list[Trial], board: Board, build: Build) -> Decision:
    """What ships, of these.

    Raises:
        UnsupportedModel: float cannot run, and nothing else computes what it should.
    """
    float_can_run = any(trial.variant.name == FLOAT for trial in trials)
    candidates = [trial.as_candidate() for trial in trials if trial.variant.name != FLOAT]
    if not float_can_run and not any(candidate.faithful for candidate in candidates):
        raise UnsupportedModel(f"target {board.name}: runs int8 only, and the model has no usable int8 form")
    return choose(FLOAT, candidates, build.budget, float_can_run=float_can_run, why_none="; ".join(build.no_int8))


def check_engine(board: Board) -> None:
    """Raises where none of the board's engines is one that this version builds for."""
    names = [support.name for support in board.engines]
    if engine.NAME in names:
        return
    reasons = "; ".join(REMEDIES.get(name, f"{name} is not an engine of this version") for name in names)
    raise ToolchainMissing(
        f"target {board.name}: its engines are {', '.join(names)}, this version builds for {engine.NAME}: {reasons}. "
        "Leave the target out, or choose a board that runs ONNX Runtime (edgewright targets list)"
    )


def usable_variants(board: Board, build: Build) -> list[Variant]:
    """Variants whose precision the board's engine runs, the float model first."""
    wanted = (FLOAT, *build.offers[board.name])
    present = [build.variants[name] for name in wanted if name in build.variants]
    usable = [variant for variant in present if board.supports(engine.NAME, variant.precision)]
    if not usable:
        raise UnsupportedModel(f"target {board.name}: {engine.NAME} runs none of the model's precisions there")
    return usable


def accuracy_of(comparison: Comparison) -> Accuracy:
    """The comparison as the manifest and the report write it."""
    return Accuracy(
        metric=comparison.metric,
        value=round(comparison.candidate.value, 6),
        interval=Interval(low=round(comparison.candidate.low, 6), high=round(comparison.candidate.high, 6)),
        float_value=round(comparison.float_value, 6),
        drop=round(comparison.drop.value, 6),
        drop_interval=Interval(low=round(comparison.drop.low, 6), high=round(comparison.drop.high, 6)),
        samples=comparison.samples,
        snr_db=round(comparison.snr_db, 2),
        argmax_agreement=None if comparison.argmax_agreement is None else round(comparison.argmax_agreement, 6),
    )


def _row(trial: Trial, decision: Decision) -> CandidateReport:
    variant = trial.variant
    return CandidateReport(
        name=variant.name,
        precision=variant.precision,
        model_bytes=size_bytes(variant.model),
        latency=trial.latency,
        time_ratio=round(trial.time_ratio.value, 4),
        time_ratio_interval=Interval(low=round(trial.time_ratio.low, 4), high=round(trial.time_ratio.high, 4)),
        tune=accuracy_of(trial.tune),
        test=accuracy_of(trial.test),
        verdict=decision.verdicts.get(variant.name, "reference"),
        float_operators=dict(variant.float_operators),
    )


def _shipment(trial: Trial, decision: Decision, board: Board, build: Build) -> Shipment:
    arithmetic = scored_by(trial.variant, board, build)
    return Shipment(
        name=build.name,
        version=build.version,
        security_epoch=build.security_epoch,
        board=board,
        graph=build.graph,
        call_shapes=call_shapes(build),
        variant=trial.variant,
        golden=trial.golden,
        data=build.data,
        reference_outputs=build.evaluator.outputs(trial.variant, arithmetic, "reference"),
        engine_options=engine.engine_options(build.threads),
        latency=trial.latency,
        accuracy=accuracy_of(trial.test),
        flags=decision.flags,
        source_digest=build.source_digest,
        measurements=build.timings.used if trial.latency.kind == "measured" else None,
        records=build.records,
        tools=build.tools,
        classes_known=build.metric.name == "top1",
    )
