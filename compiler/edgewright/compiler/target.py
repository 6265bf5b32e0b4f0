"""One target of a run: which variants it can use, how fast and how good they are there, which one ships."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgewright.bundle.files import storage_faults
from edgewright.bundle.golden import Golden
from edgewright.bundle.manifest import Accuracy, Interval, Latency, PassRecord
from edgewright.targets.board import Board
from edgewright.targets.cost import RATIO_FACTOR, LatencyEstimate, estimate_call

from . import measure
from .choose import Candidate, Decision, choose
from .data import Arrays, Dataset
from .faults import ToolchainMissing, UnsupportedModel
from .graph import Graph, fixed_batch
from .lower import onnxruntime as engine
from .lower.golden import FAITHFUL_SNR_DB, golden_samples, largest_difference, make_golden, passes
from .lower.model_file import size_bytes
from .lower.onnxruntime import Arithmetic
from .lower.workload import workload
from .measure import Measurements
from .metrics import Budget, Comparison, Estimate, Metric, compare, snr_db
from .package import Shipment, write_bundle
from .quantize.offer import Scheme, schemes_for
from .report.progress import Stages
from .report.schema import CandidateReport, TargetReport, exit_code_of_outcome
from .variants import FLOAT, Evaluator, Variant, evaluate

REMEDIES = {
    "ethos-u-vela": "Ethos-U takes int8 TFLite through Arm's Vela compiler, which this version cannot emit yet",
}
"""What to say about engines that boards name and that this version cannot build for."""


class Timings:
    """Measured rounds of this run: from a record where one is given, else measured; kept for the new record."""

    def __init__(self, threads: int, recorded: Path | None) -> None:
        self._threads = threads
        self._path = recorded
        self._recorded = None if recorded is None else measure.read(recorded)
        self._used: dict[str, tuple[int, ...]] = {}

    @property
    def used(self) -> Measurements:
        """The record of everything that had a say in this run."""
        return Measurements(rounds_ns=dict(sorted(self._used.items())))

    def of(
        self, variants: Sequence[Variant], board: Board, sample: Arrays, stages: Stages
    ) -> dict[str, tuple[int, ...]]:
        """Rounds of each variant, by name; `sample` is what one call takes."""
        keys = {variant.name: measure.key(variant.model, board.digest(), self._threads) for variant in variants}
        if not set(keys.values()) <= set(self._used):
            self._used |= self._find(keys, variants, sample, stages)
        return {name: self._used[key] for name, key in keys.items()}

    def _find(
        self, keys: Mapping[str, str], variants: Sequence[Variant], sample: Arrays, stages: Stages
    ) -> dict[str, tuple[int, ...]]:
        if self._recorded is not None and self._path is not None:
            return measure.replayed(self._recorded, list(keys.values()), self._path)
        models = {keys[variant.name]: variant.model for variant in variants}
        with stages.stage("measuring on this machine", measure.MAX_ROUNDS) as advance:
            return measure.measure(models, sample, self._threads, advance)


@dataclass(frozen=True, kw_only=True)
class Build:
    """What all targets of a run share."""

    name: str
    version: str
    security_epoch: int
    threads: int
    graph: Graph
    source_digest: str
    data: Dataset
    variants: Mapping[str, Variant]
    no_int8: tuple[str, ...]
    """Why schemes that a board could use have no variant."""
    records: tuple[PassRecord, ...]
    tools: dict[str, str]
    metric: Metric
    budget: Budget
    evaluator: Evaluator
    timings: Timings
    host: Board
    stages: Stages


@dataclass(frozen=True)
class Trial:
    """A variant with everything known about it on one target."""

    variant: Variant
    latency: Latency
    time_ratio: Estimate
    tune: Comparison
    test: Comparison
    golden: Golden
    faithful: bool

    def as_candidate(self) -> Candidate:
        """The figures that decide."""
        return Candidate(
            name=self.variant.name,
            latency_ms=self.latency.p50_ms,
            time_ratio=self.time_ratio,
            measured=self.latency.kind == "measured",
            tune=self.tune,
            test=self.test,
            faithful=self.faithful,
        )


def compile_target(board: Board, build: Build, stage: Path) -> TargetReport:
    """Chooses and packages for one board.

    Raises:
        ToolchainMissing: no engine of the board can be built for.
        UnsupportedModel: nothing of the model can run there.
    """
    check_engine(board)
    variants = usable_variants(board, build)
    with build.stages.stage(f"{board.name}: scoring {len(variants)} candidates"):
        trials = [_try(variant, variants, board, build) for variant in variants]
    by_name = {trial.variant.name: trial for trial in trials}
    candidates = [trial.as_candidate() for trial in trials if trial.variant.scheme is not None]
    if FLOAT not in by_name and not any(candidate.faithful for candidate in candidates):
        raise UnsupportedModel(f"target {board.name}: runs int8 only, and the model has no usable int8 form")
    decision = choose(
        FLOAT, candidates, build.budget, float_can_run=FLOAT in by_name, why_none="; ".join(build.no_int8)
    )
    chosen = by_name[decision.chosen]
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
    )


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
    wanted = [FLOAT, *(scheme.name for scheme in schemes_for(board))]
    present = [build.variants[name] for name in wanted if name in build.variants]
    usable = [variant for variant in present if board.supports(engine.NAME, variant.precision)]
    if not usable:
        raise UnsupportedModel(f"target {board.name}: {engine.NAME} runs none of the model's precisions there")
    return usable


def is_here(board: Board, host: Board) -> bool:
    """Whether measuring on this machine is measuring on the target."""
    return board.digest() == host.digest() or (
        (board.arch, board.cpu.model, board.cpu.cores, set(board.cpu.isa))
        == (host.arch, host.cpu.model, host.cpu.cores, set(host.cpu.isa))
    )


def exact_on(host: Board, scheme: Scheme | None) -> bool:
    """Whether this machine's engine gives the exact sums of a scheme."""
    if scheme is None or scheme.reduce_range:
        return True
    operands = host.cpu.int8.u8s8 if scheme.activations == "uint8" or host.arch == "x86_64" else host.cpu.int8.s8s8
    return operands == "exact"


def _try(variant: Variant, variants: Sequence[Variant], board: Board, build: Build) -> Trial:
    here = is_here(board, build.host)
    arithmetic = Arithmetic.ENGINE if here or variant.scheme is None else Arithmetic.EXACT
    latency, time_ratio = _latency(variant, variants, board, build, here=here)
    golden, faithful = _golden(variant, build, here=here)
    return Trial(
        variant=variant,
        latency=latency,
        time_ratio=time_ratio,
        tune=_score(variant, arithmetic, "tune", build),
        test=_score(variant, arithmetic, "test", build),
        golden=golden,
        faithful=faithful,
    )


def _score(variant: Variant, arithmetic: Arithmetic, part: str, build: Build) -> Comparison:
    samples = build.data.tune if part == "tune" else build.data.test
    reference = build.evaluator.first(build.variants[FLOAT], Arithmetic.ENGINE, part)
    return compare(build.metric, build.evaluator.first(variant, arithmetic, part), reference, samples.labels)


def _latency(
    variant: Variant, variants: Sequence[Variant], board: Board, build: Build, *, here: bool
) -> tuple[Latency, Estimate]:
    if here:
        sample = golden_samples(build.data.tune, fixed_batch(build.graph) or 1).inputs
        rounds = build.timings.of(variants, board, sample, build.stages)
        found = measure.summarise(rounds[variant.name])
        method = (
            f"ONNX Runtime, batch {fixed_batch(build.graph) or 1}, {build.threads} thread(s), no spinning, median of "
            f"{len(rounds[variant.name])} rounds in turn with the other candidates; interval of the order statistics"
        )
        ratio = measure.ratio(rounds[variant.name], rounds.get(FLOAT, rounds[variant.name]))
        return _as_latency(found, "measured", method), ratio
    guess = _estimate(variant, board, build)
    base = _estimate(build.variants[FLOAT], board, build) if board.supports(engine.NAME, "float32") else guess
    found = Estimate(guess.p50_ms, guess.low_ms, guess.high_ms)
    value = guess.p50_ms / base.p50_ms
    return _as_latency(found, "estimated", guess.method), Estimate(value, value / RATIO_FACTOR, value * RATIO_FACTOR)


def _estimate(variant: Variant, board: Board, build: Build) -> LatencyEstimate:
    return estimate_call(board, workload(variant.graph, call_shapes(build)), build.threads)


def call_shapes(build: Build) -> dict[str, tuple[int, ...]]:
    """What one call takes: a sample of the data, or the batch that the model has fixed."""
    batch = fixed_batch(build.graph) or 1
    return {name: (batch, *array.shape[1:]) for name, array in build.data.tune.inputs.items()}


def _as_latency(found: Estimate, kind: str, method: str) -> Latency:
    return Latency(
        p50_ms=round(found.value, 6),
        interval=Interval(low=round(found.low, 6), high=round(found.high, 6)),
        kind="measured" if kind == "measured" else "estimated",
        method=method,
    )


def _golden(variant: Variant, build: Build, *, here: bool) -> tuple[Golden, bool]:
    """Expected outputs by exact arithmetic; where this machine's sums are exact, its engine must pass them."""
    samples = golden_samples(build.data.tune, fixed_batch(build.graph))
    exact = evaluate(variant.model, samples, Arithmetic.EXACT, 1)
    if not here and not exact_on(build.host, variant.scheme):
        return make_golden(samples.inputs, exact, variant.precision, 0.0), True
    found = build.evaluator.outputs(variant, Arithmetic.ENGINE, "tune")
    reference = build.evaluator.outputs(variant, Arithmetic.EXACT, "tune")
    golden = make_golden(samples.inputs, exact, variant.precision, largest_difference(found, reference))
    agreement_db = min(snr_db(found[name], reference[name]) for name in reference)
    own = evaluate(variant.model, samples, Arithmetic.ENGINE, build.threads)
    return golden, agreement_db >= FAITHFUL_SNR_DB and passes(golden, own)


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
    arithmetic = Arithmetic.ENGINE if is_here(board, build.host) or trial.variant.scheme is None else Arithmetic.EXACT
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
