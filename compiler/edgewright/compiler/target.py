"""One target of a run: which variants it can use, how fast and how good they are there, which one ships."""

from __future__ import annotations

from pathlib import Path

from edgewright.bundle.files import storage_faults
from edgewright.bundle.manifest import Accuracy, Interval
from edgewright.targets.board import Board

from .build import Build
from .c_source import write_c_source
from .choose import BUDGET_MISSED, Decision, choose
from .faults import ToolchainMissing, UnsupportedModel
from .lower import onnxruntime as engine
from .lower.compatibility import check_readable
from .lower.compiled import size_bytes
from .lower.native.library import NativeModel
from .metrics import Comparison
from .native_variants import NativeForms, native_forms
from .package import Shipment, write_bundle
from .quantize.offer import suits
from .repair import Repair, repair
from .report.schema import CandidateReport, TargetReport, exit_code_of_outcome
from .trial import Trial, call_shapes, float_baseline, is_here, scored_by, try_beside_float, try_variant
from .variants import FLOAT, NATIVE, Variant

NOT_KNOWN_FASTER = (
    "native code was not tried: the target is not here to be measured, and its estimates know no engines; "
    "--engine native ships it"
)
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
    check_engine(board, build)
    in_onnx = onnx_variants(board, build)
    forms = as_code(_suited(in_onnx, exact=True), board, build)
    variants = [*(_suited(in_onnx, exact=False) if runs_onnx(board, build) else ()), *forms.variants]
    with build.stages.stage(f"{board.name}: scoring {len(variants)} candidates"):
        trials = [try_variant(variant, variants, board, build) for variant in variants]
    decision, control = decide(trials, board, build), None
    if decision.outcome == BUDGET_MISSED and (control := repair(board, build, trials)) is not None and control.trials:
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
        notes=forms.missing,
        candidates=tuple(_row(trial, decision) for trial in trials),
        control=None if control is None else control.report,
    )


def repaired_trials(control: Repair, variants: list[Variant], board: Board, build: Build) -> list[Trial]:
    """Repaired plans in every engine that may ship them; one that has no native form costs that form."""
    floating = float_baseline(variants) or build.variants[FLOAT]
    wanted = [trial.variant for trial in control.trials] if takes_code(board, build) else []
    in_code = [try_beside_float(form, floating, board, build) for form in native_forms(wanted, board, build).variants]
    return [*(control.trials if runs_onnx(board, build) else ()), *in_code]


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
    return choose(name, candidates, build.budget, float_can_run=float_can_run, why_none="; ".join(build.no_int8))


def check_engine(board: Board, build: Build) -> None:
    """Raises where none of the board's engines is one that this version builds for, and that may ship."""
    names = [support.name for support in board.engines]
    known = [name for name in (engine.NAME, NATIVE) if name in names]
    if any(build.may_ship(name) for name in known):
        return
    if known:
        raise ToolchainMissing(
            f"target {board.name}: --engine leaves none of its engines ({', '.join(known)}); name one of them"
        )
    reasons = "; ".join(REMEDIES.get(name, f"{name} is not an engine of this version") for name in names)
    raise ToolchainMissing(
        f"target {board.name}: its engines are {', '.join(names)}, this version builds for {engine.NAME} and {NATIVE}: "
        f"{reasons}. "
        "Leave the target out, or choose a board that runs ONNX Runtime (edgewright targets list)"
    )


def runs_onnx(board: Board, build: Build) -> bool:
    """Whether bundles for ONNX Runtime may ship to the board."""
    return build.may_ship(engine.NAME) and any(support.name == engine.NAME for support in board.engines)


def onnx_variants(board: Board, build: Build) -> list[Variant]:
    """Variants whose precision some engine of the board runs, the float model first."""
    for support in board.engines:
        if support.name == engine.NAME and build.may_ship(engine.NAME):
            versions = f"{engine.VERSION_RANGE},{support.version}"  # the bundle's own range holds too
            check_readable(build.graph, engine.NAME, versions, f"target {board.name}")
    wanted = (FLOAT, *build.offers[board.name])
    present = [build.variants[name] for name in wanted if name in build.variants]
    names = [name for name in (engine.NAME, NATIVE) if build.may_ship(name)]
    usable = [variant for variant in present if any(board.supports(name, variant.precision) for name in names)]
    if not usable:
        raise UnsupportedModel(f"target {board.name}: {' and '.join(names)} run none of the model's precisions there")
    return usable


def _suited(variants: list[Variant], *, exact: bool) -> list[Variant]:
    schemes = [variant.scheme for variant in variants]
    return [variant for variant in variants if suits(variant.scheme, schemes, exact=exact)]


def takes_code(board: Board, build: Build) -> bool:
    """Whether native code is tried: the target can be measured, or the user wants it, or nothing else may ship."""
    if not (build.may_ship(NATIVE) and any(support.name == NATIVE for support in board.engines)):
        return False
    return is_here(board, build.host) or build.asks_for(NATIVE) or not runs_onnx(board, build)


def as_code(variants: list[Variant], board: Board, build: Build) -> NativeForms:
    """Native forms of some variants, where the board takes them.

    Raises:
        ToolchainMissing, UnsupportedModel: nothing else could ship, and none can be made.
    """
    if not takes_code(board, build):
        runs_code = build.may_ship(NATIVE) and any(support.name == NATIVE for support in board.engines)
        return NativeForms((), (NOT_KNOWN_FASTER,) if runs_code else ())
    forms = native_forms(variants, board, build)
    if not forms.variants and not runs_onnx(board, build):
        kind = ToolchainMissing if forms.toolchain_missing else UnsupportedModel
        raise kind(f"target {board.name}: {'; '.join(forms.missing)}")
    return forms


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


def _engine_options(variant: Variant, build: Build) -> dict[str, str | int | bool]:
    """What the manifest asks of the engine."""
    if isinstance(variant.model, NativeModel):
        return {"threads": variant.model.threads} if variant.model.threads > 1 else {}
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
        golden=trial.golden,
        data=build.data,
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
