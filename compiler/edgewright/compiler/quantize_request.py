"""`edgewright quantize`: one model, one plan, one file. No choice between candidates, no bundle.

import -> optimise -> calibrate -> plan -> emit -> compare with float -> write
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edgewright.bundle.files import storage_faults
from edgewright.bundle.manifest import Interval
from edgewright.targets.board import Board
from edgewright.targets.catalog import load_board
from edgewright.targets.faults import UserFault
from edgewright.targets.host import detect_host

from . import measure
from .candidates import int8_obstacle
from .compare.run import compare_models
from .compare.source import Side
from .data import Dataset, Samples, load_arrays
from .data_warning import DataWarning
from .faults import DataError, NotQuantizable
from .frontends.file import load_file
from .frontends.source import SourceModel
from .graph import Graph, digest, fixed_batch
from .lint import lint
from .lower.golden import golden_samples
from .lower.model_file import copy_to, settled, size_bytes
from .lower.onnxruntime import Arithmetic, preflight
from .metrics import looks_like_classes, snr_db
from .pipeline import divide, optimise
from .plans import Planner, uncalibrated_plan
from .publish import take_names
from .quantize.calibration.observe import collect
from .quantize.calibration.statistics import Statistics
from .quantize.offer import arithmetic_of, only_tflite, schemes_for, tflite_schemes_for
from .quantize.plan import Plan
from .quantize.planfile import check_plan, plan_warnings, read_plan, write_plan
from .quantize.scheme import ActivationType, Guard, Method, Scheme
from .report.progress import SilentStages, Stages
from .report.quantized import Quality, QuantizeReport, Speed, WorstLayer
from .scratch import Scratch
from .trial import is_here
from .variants import FLOAT, Evaluator, Variant, float_variant, plan_variant

PLAN_SUFFIX = ".plan.toml"
WORST_LAYERS = 5
COMPARED_SAMPLES = 32
WITHOUT_DATA = DataWarning(
    code="no-data", text="nothing was measured", fix="give --data FILE.npz to see accuracy and latency"
)
EQUAL_DB = 200.0


@dataclass(frozen=True, kw_only=True)
class QuantizeRequest:
    """One run of `edgewright quantize`."""

    model: Path
    out: Path
    """The new model; its plan goes beside it."""
    data: Path | None = None
    """Needed for static plans that are not given; else used to measure."""
    plan: Path | None = None
    """A plan to use instead of proposing one."""
    method: Method = "static"
    activations: ActivationType | None = None
    """None for what the target computes best."""
    weights: Literal["int8", "int4"] = "int8"
    target: str = "host"

    @property
    def plan_out(self) -> Path:
        """Where the plan is written."""
        return self.out.with_name(self.out.name.removesuffix(".onnx") + PLAN_SUFFIX)


def quantize_model(request: QuantizeRequest, stages: Stages | None = None) -> QuantizeReport:
    """Quantizes a model by a plan, says what that costs and gains, and writes both.

    Raises:
        UserFault: a file or option is wrong, or the plan does not fit the model.
        UnsupportedModel: the model cannot be compiled; NotQuantizable, one of them: it has no such form.
        EnvironmentFault: the files cannot be written.
    """
    check(request)
    stages = stages or SilentStages()
    board = load_board(request.target)
    with Scratch(request.out.parent) as scratch:
        with stages.stage("importing the model"):
            source = load_file(request.model)
            imported = settled(source.graph, scratch)
            preflight(imported, str(request.model), scratch)
            graph = settled(optimise(imported, None)[0], scratch)
        obstacle = int8_obstacle(graph)
        if obstacle is not None:
            raise NotQuantizable(f"{request.model}: {obstacle}")
        data = None if request.data is None else divide(request.data, *load_arrays(request.data), graph)
        plan, statistics = _plan(request, graph, board, data, scratch, stages)
        floating = float_variant(graph, scratch)
        quantized = plan_variant(graph, plan, scratch)
        warnings = (WITHOUT_DATA,) if data is None else lint(data, graph, statistics)
        if request.plan is not None:
            warnings = (*plan_warnings(plan, graph, f"--plan {request.plan}"), *warnings)
        report = _report(request, source, board, plan, (floating, quantized), data, warnings, stages, scratch)
        _write(request, quantized, plan, scratch)
    return report


def check(request: QuantizeRequest) -> None:
    """What can be said before anything is read.

    Raises:
        UserFault: options that do not go together.
    """
    if request.method == "static" and request.data is None and request.plan is None:
        raise DataError(
            "a static plan takes its ranges from data: give --data FILE.npz, a --plan, or --method dynamic or weights"
        )
    if request.weights == "int4" and request.method != "weights":
        raise UserFault(f"--weights int4 goes with --method weights only; {request.method} products multiply int8")
    if request.activations is not None and request.method != "static":
        raise UserFault(f"--scheme goes with --method static only; {request.method} does not store activations")
    if request.out.is_dir() or request.out.suffix != ".onnx":
        raise UserFault(f"--out {request.out}: expected the name of a file that ends in .onnx")
    if request.out.resolve() == request.model.resolve():
        raise UserFault(f"--out {request.out}: that is the model itself; choose another name")


def scheme_for(request: QuantizeRequest, board: Board, graph: Graph) -> Scheme:
    """The scheme that was asked for; what was left open is what suits the target, its guard included.

    Raises:
        UserFault: the target's engines know no such activations.
    """
    natural = schemes_for(board, graph)[0]
    int8 = board.cpu.int8
    if request.method == "weights":
        return Scheme(method="weights", weights=request.weights)
    for_tflite = tflite_schemes_for(board, graph) if request.method == "static" and only_tflite(board) else ()
    if for_tflite:
        return _of_type(request.activations, for_tflite)
    activations = request.activations or natural.activations
    if activations in {"uint16", "int16"}:
        return Scheme(activations=activations)
    signed = request.method == "static" and activations == "int8" and board.arch != "x86_64"
    sums = int8.s8s8 if signed else int8.u8s8
    guard: Guard = "pairs" if sums == "saturating16" else "none"
    return Scheme(method=request.method, activations=activations, guard=guard)


def _of_type(activations: ActivationType | None, offered: tuple[Scheme, ...]) -> Scheme:
    """The first scheme with these activations, None for any."""
    for scheme in offered:
        if activations in {None, scheme.activations}:
            return scheme
    known = " or ".join(scheme.activations for scheme in offered)
    raise UserFault(f"--scheme {activations}: the target computes {known} activations only; leave the option out")


def _plan(
    request: QuantizeRequest, graph: Graph, board: Board, data: Dataset | None, scratch: Scratch, stages: Stages
) -> tuple[Plan, Statistics | None]:
    """The user's plan, or one that is proposed, and the statistics that it needed."""
    if request.plan is not None:
        plan = read_plan(request.plan)
        check_plan(plan, graph, f"--plan {request.plan}")
        return plan, None
    scheme = scheme_for(request, board, graph)
    if data is None or scheme.method != "static":
        return uncalibrated_plan(graph, scheme), None
    with stages.stage("calibrating", len(data.calibrate)) as advance:
        statistics = collect(graph, data.calibrate, scratch, advance)
    with stages.stage("planning"):
        exact = arithmetic_of(detect_host(), Scheme()) is Arithmetic.EXACT
        arithmetic = Arithmetic.ENGINE if exact else Arithmetic.EXACT
        return Planner(graph, statistics, data.calibrate, data.tune, arithmetic, scratch).plan(scheme), statistics


def _report(
    request: QuantizeRequest,
    source: SourceModel,
    board: Board,
    plan: Plan,
    pair: tuple[Variant, Variant],
    data: Dataset | None,
    warnings: tuple[DataWarning, ...],
    stages: Stages,
    scratch: Scratch,
) -> QuantizeReport:
    floating, quantized = pair
    computes = [operator.compute for operator in plan.operators.values()]
    return QuantizeReport(
        model_digest=source.digest,
        plan_digest=digest(write_plan(plan).encode()),
        scheme=plan.scheme.name,
        target=request.target,
        float_bytes=size_bytes(floating.onnx),
        quantized_bytes=size_bytes(quantized.onnx),
        operators={compute: computes.count(compute) for compute in sorted(set(computes))},
        stays_float={
            name: operator.reason
            for name, operator in plan.operators.items()
            if operator.compute == "float" and operator.reason
        },
        forced={name: encoding.reason for name, encoding in plan.tensors.items() if encoding.reason},
        quality=None if data is None else _quality(pair, board, data, stages),
        speed=None if data is None else _speed(pair, data, stages),
        worst=() if data is None else _worst(pair, data.tune, stages, scratch),
        warnings=warnings,
    )


def _quality(pair: tuple[Variant, Variant], board: Board, data: Dataset, stages: Stages) -> Quality:
    floating, quantized = pair
    evaluator = Evaluator({"test": data.test}, threads=1)
    arithmetic = Arithmetic.ENGINE if is_here(board, detect_host()) else arithmetic_of(board, quantized.scheme)
    with stages.stage("scoring"):
        truth = evaluator.logits(floating, Arithmetic.ENGINE, "test")
        levels = {
            each: round(snr_db(evaluator.logits(quantized, each, "test"), truth), 3)
            for each in (arithmetic, Arithmetic.EXACT)
        }
        found = evaluator.first(quantized, arithmetic, "test")
        right = evaluator.first(floating, Arithmetic.ENGINE, "test")
    same = float((found.argmax(1) == right.argmax(1)).mean()) if looks_like_classes(right) else None
    return Quality(
        samples=len(data.test),
        snr_db=levels[arithmetic],
        exact_snr_db=levels[Arithmetic.EXACT],
        argmax_agreement=same,
    )


def _speed(pair: tuple[Variant, Variant], data: Dataset, stages: Stages) -> Speed:
    floating, quantized = pair
    sample = golden_samples(data.tune, fixed_batch(floating.graph) or 1).inputs
    with stages.stage("measuring on this machine", measure.MAX_ROUNDS) as advance:
        rounds = measure.measure({FLOAT: floating.model, "quantized": quantized.model}, sample, 1, advance)
    ratio = measure.ratio(rounds["quantized"], rounds[FLOAT])
    return Speed(
        float_ms=round(measure.summarise(rounds[FLOAT]).value, 6),
        quantized_ms=round(measure.summarise(rounds["quantized"]).value, 6),
        time_ratio=round(ratio.value, 4),
        time_ratio_interval=Interval(low=round(ratio.low, 4), high=round(ratio.high, 4)),
    )


def _worst(pair: tuple[Variant, Variant], samples: Samples, stages: Stages, scratch: Scratch) -> tuple[WorstLayer, ...]:
    floating, quantized = pair
    left, right = Side(FLOAT, floating.graph, ""), Side(quantized.name, quantized.graph, "")
    inputs = {name: array[:COMPARED_SAMPLES] for name, array in samples.inputs.items()}
    layers = compare_models(left, right, inputs, stages, scratch).layers
    own = [(layer.local_snr_db, layer) for layer in layers if layer.local_snr_db is not None]
    return tuple(
        WorstLayer(name=layer.name, operator=layer.operator, snr_db=layer.snr_db, local_snr_db=level)
        for level, layer in sorted(own, key=lambda each: each[0])[:WORST_LAYERS]
        if level < EQUAL_DB
    )


def _write(request: QuantizeRequest, quantized: Variant, plan: Plan, scratch: Scratch) -> None:
    """Both files whole, or none of them; the model comes last."""
    stage = scratch.folder()
    with storage_faults(f"writing {request.out}"):
        (stage / request.plan_out.name).write_text(write_plan(plan), encoding="utf-8")
        name, *data = copy_to(quantized.onnx, stage, request.out.name)
        take_names(stage, request.out.parent, [*data, request.plan_out.name, name])
