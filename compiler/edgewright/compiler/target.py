"""One target of a run: which variants it can use, how fast and how good they are there, which one ships."""

from __future__ import annotations

from pathlib import Path

from edgewright.bundle.files import storage_faults
from edgewright.bundle.manifest import Accuracy, Interval
from edgewright.targets.board import Board

from .build import Build
from .c_source import write_c_source
from .choose import BUDGET_MISSED, Decision, choose
from .faults import UnsupportedModel
from .graph import is_quantized
from .lower import onnxruntime as engine
from .lower.compiled import size_bytes
from .lower.engine_model import EngineModel
from .lower.native.library import NativeModel
from .metrics import Comparison
from .package import Shipment, write_bundle
from .portfolio import for_tflite, forms_of, portfolio, runs_onnx
from .repair import Repair, repair
from .report.schema import CandidateReport, TargetReport, exit_code_of_outcome
from .trial import Trial, call_shapes, float_baseline, scored_by, shipped_golden, try_beside_float, try_variant
from .variants import FLOAT, Variant


def compile_target(board: Board, build: Build, stage: Path) -> TargetReport:
    """Chooses and packages for one board.

    Raises:
        ToolchainMissing: no engine of the board can be built for.
        UnsupportedModel: nothing of the model can run there.
    """
    found = portfolio(board, build)
    variants = list(found.variants)
    with build.stages.stage(f"{board.name}: scoring {len(variants)} candidates"):
        trials = [try_variant(variant, variants, board, build) for variant in variants]
    decision, control = decide(trials, board, build), None
    if decision.outcome == BUDGET_MISSED and (control := repair(board, build, trials)) is not None and control.variants:
        trials = [*trials, *repaired_trials(control, variants, board, build)]
        decision = decide(trials, board, build)
    chosen = next(trial for trial in trials if trial.variant.name == decision.chosen)
    packaging = build.stages.stage(f"{board.name}: packaging {decision.chosen}")
    with packaging, storage_faults(f"writing the files of {board.name}"):
        file_name, digest = write_bundle(_shipment(chosen, decision, board, build), stage)
        c_source = write_c_source(chosen.variant, variants, board, build, stage) if build.emit_c else None
    return TargetReport(
        target=board.name,
        target_digest=board.digest(),
        outcome=decision.outcome,
        exit_code=exit_code_of_outcome(decision.outcome),
        reason=decision.reason,
        bundle=file_name,
        bundle_digest=digest,
        bundle_bytes=(stage / file_name).stat().st_size,
        c_source=c_source,
        chosen=decision.chosen,
        flags=decision.flags,
        notes=found.missing,
        candidates=tuple(_row(trial, decision) for trial in trials),
        control=None if control is None else control.report,
    )


def repaired_trials(control: Repair, variants: list[Variant], board: Board, build: Build) -> list[Trial]:
    """Repaired plans in every engine that may ship them; one that has no native form costs that form."""
    floating = float_baseline(variants) or build.variants[FLOAT]
    forms = forms_of(control.variants, board, build)
    in_onnx = [variant for variant in control.variants if runs_onnx(board, build) and not for_tflite(variant)]
    return [try_beside_float(variant, floating, board, build) for variant in (*in_onnx, *forms)]


def decide(trials: list[Trial], board: Board, build: Build) -> Decision:
    """What ships, of these.

    Raises:
        UnsupportedModel: float cannot run, and nothing else computes what it should.
    """
    baseline = float_baseline([trial.variant for trial in trials])
    float_can_run = baseline is not None
    candidates = [trial.as_candidate() for trial in trials if trial.variant is not baseline]
    if not float_can_run and not any(candidate.faithful for candidate in candidates):
        raise UnsupportedModel(f"target {board.name}: runs int8 only, and the model has no usable int8 form")
    name = FLOAT if baseline is None else baseline.name
    return choose(
        name,
        candidates,
        build.budget,
        float_can_run=float_can_run,
        why_none="; ".join(build.no_int8),
        otherwise="the model ships as it came" if is_quantized(build.graph) else "float ships",
    )


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
        npu=variant.npu,
    )


def _engine_options(variant: Variant, build: Build) -> dict[str, str | int | bool]:
    """What the manifest asks of the engine."""
    if isinstance(variant.model, NativeModel):
        return {"threads": variant.model.threads} if variant.model.threads > 1 else {}
    if isinstance(variant.model, EngineModel):
        return variant.model.options(build.threads)
    return engine.engine_options(build.threads)


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
        golden=shipped_golden(trial, board, build),
        data=build.data,
        client=build.client,
        reference_outputs=build.evaluator.outputs(trial.variant, arithmetic, "reference"),
        engine_options=_engine_options(trial.variant, build),
        latency=trial.latency,
        accuracy=accuracy_of(trial.test),
        flags=decision.flags,
        source_digest=build.source_digest,
        measurements=build.measurements if trial.latency.kind == "measured" else None,
        records=build.records,
        tools=build.tools,
        classes_known=build.metric.name == "top1",
    )
