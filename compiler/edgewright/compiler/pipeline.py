"""The whole order of a compilation. What is shared by all targets is done once; `target.py` does the rest per target.

import -> optimise -> preflight -> divide data -> calibrate once -> int8 variants
       -> per target: measure or estimate -> score -> choose -> package
       -> report -> publish (files take their names at the very end)
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np

from edgewright.bundle.manifest import PassRecord
from edgewright.targets.board import Board
from edgewright.targets.faults import EnvironmentFault, Fault
from edgewright.targets.host import detect_host

from . import measure, metrics
from .build import Build, Timings
from .cache import Cache
from .candidates import make_candidates
from .data import Arrays, Dataset, as_model_inputs, dataset, load_arrays, undivided
from .faults import DataError
from .frontends.source import SourceModel
from .graph import Graph, signature
from .lower.model_file import settled
from .lower.onnxruntime import Arithmetic, preflight
from .measure import Measurements
from .optimize import FLOAT_PASSES
from .optimize.input_normalization import FoldInputNormalization, Normalization
from .passes import NoOptions
from .processing import ClientSide, Declared, client_names, client_side, in_one_part, read_processing, sampled
from .publish import MEASUREMENTS, REPORT, take_names
from .recurrent import reached_states, state_pairs, with_zero_states
from .report.progress import SilentStages, Stages
from .report.schema import Report, SourceReport, TargetReport, exit_code_of
from .report.schema import encode as encode_report
from .request import Request, check_version, load_boards, model_name
from .scratch import Scratch
from .target import compile_target
from .tools import tool_versions
from .tunings import Tunings
from .variants import FLOAT, Evaluator, Variant


def compile_model(request: Request, stages: Stages | None = None, cache: Cache | None = None) -> Report:
    """Compiles one model for all targets of a request and writes bundles, report.json and measurements.json."""
    stages = stages or SilentStages()
    boards = load_boards(request.targets)
    with Scratch(request.out) as scratch:
        source, build = prepare(request, boards, stages, scratch, cache)
        stage = scratch.folder()
        outcomes = tuple(attempt(board, build, stage) for board in boards)
        report = make_report(build, source, outcomes)
        publish(stage, request.out, report, build.measurements)
    return report


def prepare(
    request: Request, boards: tuple[Board, ...], stages: Stages, scratch: Scratch, cache: Cache | None = None
) -> tuple[SourceModel, Build]:
    """Everything that all targets share: it writes nothing but large models, into the scratch folder."""
    version = check_version(request.version)
    declared = read_processing(request.processing)
    arrays, data_digest = load_arrays(request.data)
    with stages.stage("importing the model"):
        sample = sampled(declared, arrays)
        source = import_model(request, sample)
    name = model_name(request.name, source.name)
    with stages.stage("optimising"):
        imported = settled(source.graph, scratch)
        preflight(imported, request.model, scratch)
        optimised, records = optimise(imported, typed_normalization(request.normalization, sample))
        graph = settled(optimised, scratch)
    client, divided = divide_client_data(request, declared, arrays, data_digest, graph, scratch)
    candidates = make_candidates(request, graph, divided, boards, stages, scratch)
    variants = candidates.variants
    evaluator = Evaluator({"tune": divided.tune, "test": divided.test, "reference": divided.reference}, threads=1)
    metric = choose_metric(request, variants, evaluator, divided)
    timings, host = Timings(request.threads, request.measurements), detect_host()
    recorded = None if timings.recorded is None else timings.recorded.tiles
    return source, Build(
        name=name,
        version=version,
        security_epoch=request.security_epoch,
        threads=request.threads,
        graph=graph,
        source_digest=source.digest,
        data=divided,
        client=client,
        variants=variants,
        offers=candidates.offers,
        plans=candidates.plans,
        no_int8=candidates.no_int8,
        warnings=candidates.warnings,
        records=records,
        tools=tool_versions(source.format),
        metric=metric,
        budget=metrics.parse_budget(request.max_drop, metric),
        evaluator=evaluator,
        timings=timings,
        tunings=Tunings(host, request.tune_s, recorded, cache),
        engines=request.engines,
        emit_c=request.emit_c,
        host=host,
        scratch=scratch,
        stages=stages,
    )


def import_model(request: Request, arrays: Arrays) -> SourceModel:
    """Through the frontend that fits; frontends are imported late, because torch takes seconds."""
    if request.from_torch:
        from .frontends.torch import load_torch

        return load_torch(request.model, request.weights, torch_samples(request.normalization, arrays))
    if request.weights is not None:
        raise DataError("--weights belongs to a PyTorch model (module:function); a model file brings its own weights")
    from .frontends.file import load_file

    return load_file(Path(request.model))


def torch_samples(normalization: Normalization | None, arrays: Arrays) -> Arrays:
    """Two samples per array as the module takes them: floats, normalised where that is folded in."""
    samples = {}
    for name, array in arrays.items():
        if name in {"y", "split"} or array.ndim == 0 or array.dtype.kind not in "biuf":
            continue
        sample = np.resize(array[:2], (2, *array.shape[1:]))
        keep_integers = normalization is None and array.dtype.kind in "iu" and array.dtype.itemsize > 1
        samples[name] = sample.astype(np.int64 if keep_integers else np.float32)
    return samples


def typed_normalization(normalization: Normalization | None, arrays: Arrays) -> Normalization | None:
    """The raw input is INT8 where the data is; else UINT8."""
    if normalization is None:
        return None
    inputs = [array for name, array in arrays.items() if name not in {"y", "split"}]
    signed = any(array.dtype == np.int8 for array in inputs)
    return msgspec.structs.replace(normalization, datatype="INT8" if signed else "UINT8")


def optimise(graph: Graph, normalization: Normalization | None) -> tuple[Graph, tuple[PassRecord, ...]]:
    """The float passes, in order; normalisation of the input first, so that constants of it can be folded."""
    records = []
    if normalization is not None:
        result = FoldInputNormalization()(graph, normalization)
        graph = result.graph
        records.append(result.record)
    for float_pass in FLOAT_PASSES:
        result = float_pass(graph, NoOptions())
        graph = result.graph
        records.append(result.record)
    return graph, tuple(records)


def divide(path: Path, arrays: Arrays, digest: str, graph: Graph) -> Dataset:
    """The data in the model's types, in three parts."""
    ports = signature(graph).inputs
    divided = dataset(path, arrays, digest, tuple(port.name for port in ports))
    return replace(
        divided,
        calibrate=as_model_inputs(divided.calibrate, ports),
        tune=as_model_inputs(divided.tune, ports),
        test=as_model_inputs(divided.test, ports),
    )


def divide_client_data(
    request: Request, declared: Declared, arrays: Arrays, digest: str, graph: Graph, scratch: Scratch
) -> tuple[ClientSide, Dataset]:
    """The data as clients send it and as the model takes it; equal samples are those that clients send equally."""
    pairs = state_pairs(request.state, graph)
    names = client_names(declared, [port.name for port in signature(graph).inputs])
    complete = with_zero_states(arrays, pairs, graph, names)
    unknown = tuple(pair for pair in pairs if pair.input not in arrays)
    if unknown:
        whole = in_one_part(undivided(request.data, complete, names), digest)
        _, taken = client_side(declared, pairs, graph, whole)
        complete = complete | reached_states(graph, taken.calibrate.inputs, unknown, scratch)
    return client_side(declared, pairs, graph, dataset(request.data, complete, digest, names))


def choose_metric(
    request: Request, variants: dict[str, Variant], evaluator: Evaluator, divided: Dataset
) -> metrics.Metric:
    """The metric that was asked for, or that fits the data; checked against the float model's outputs."""
    outputs = evaluator.first(variants[FLOAT], Arithmetic.ENGINE, "test")
    if request.metric is not None and ":" in request.metric:
        from .frontends.torch import import_attribute

        return metrics.metric_from_function(request.metric, import_attribute(request.metric, "--metric"))
    shapes = [array.shape for array in divided.test.inputs.values()]
    metric = metrics.resolve_metric(request.metric, outputs, divided.test.labels, shapes)
    if metric.name == "top1" and divided.reference.labels is not None:
        metrics.check_classes(divided.reference.labels, outputs.shape[1])
    return metric


def attempt(board: Board, build: Build, stage: Path) -> TargetReport:
    """One target; what is wrong with it is its own outcome and does not stop the others."""
    try:
        return compile_target(board, build, stage)
    except Fault as fault:
        return TargetReport(
            target=board.name,
            target_digest=board.digest(),
            outcome="failed",
            exit_code=fault.exit_code,
            reason=str(fault),
        )


def make_report(build: Build, source: SourceModel, outcomes: tuple[TargetReport, ...]) -> Report:
    """Puts together what report.json says."""
    data = build.data
    return Report(
        model=build.name,
        version=build.version,
        source=SourceReport(
            format=source.format,
            model_digest=source.digest,
            data_digest=data.digest,
            samples={"calibrate": len(data.calibrate), "tune": len(data.tune), "test": len(data.test)},
            split_by=data.split_by,
            ignored_arrays=data.ignored,
        ),
        metric=build.metric.name,
        budget=str(build.budget),
        warnings=build.warnings,
        passes=build.records,
        targets=outcomes,
        tools=build.tools,
        exit_code=exit_code_of(outcomes),
    )


def publish(stage: Path, out: Path, report: Report, measurements: Measurements) -> None:
    """Gives every file its name at once; the report comes last, so that it never speaks of files that are not there."""
    files = [file for target in report.targets for file in target.files]
    try:
        (stage / MEASUREMENTS).write_bytes(measure.encode(measurements))
        (stage / REPORT).write_bytes(encode_report(report))
        take_names(stage, out, (*files, MEASUREMENTS, REPORT))
    except OSError as error:
        raise EnvironmentFault(f"--out {out}: cannot be written: {error.strerror}") from error
