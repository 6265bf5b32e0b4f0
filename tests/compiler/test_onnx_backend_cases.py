"""The conformance cases of the onnx package: our passes keep what they compute, and quantizing them never breaks them.

A case counts where ONNX Runtime itself gives the expected outputs. Models older than opset 7 are brought to opset 13
first. Operands of products become weights, as exporters write them.
"""

from __future__ import annotations

import re
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.version_converter
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper
from onnx.backend.test.loader import load_model_tests
from onnxruntime.capi.onnxruntime_pybind11_state import (
    Fail,
    InvalidArgument,
    InvalidGraph,
    RuntimeException,
)
from onnxruntime.capi.onnxruntime_pybind11_state import NotImplemented as NoKernel

from edgewright.compiler.data import Samples
from edgewright.compiler.faults import NotQuantizable, UnsupportedModel
from edgewright.compiler.frontends.onnx import import_proto
from edgewright.compiler.frontends.opset import OLDEST_OPSET, QDQ_OPSET, default_opset
from edgewright.compiler.graph import Graph, signature, to_bytes
from edgewright.compiler.lower.onnxruntime import Arithmetic, open_session
from edgewright.compiler.metrics import snr_db
from edgewright.compiler.optimize import FLOAT_PASSES
from edgewright.compiler.passes import NoOptions
from edgewright.compiler.quantize.calibration.observe import collect
from edgewright.compiler.quantize.capability import PRODUCTS
from edgewright.compiler.quantize.emission import emit_plan
from edgewright.compiler.quantize.plan import Plan
from edgewright.compiler.quantize.propose import propose
from edgewright.compiler.quantize.scheme import Scheme
from edgewright.compiler.quantize.uncalibrated.dynamic import propose_dynamic
from edgewright.compiler.quantize.uncalibrated.weight_only import propose_weights
from edgewright.compiler.scratch import Scratch

Arrays = dict[str, NDArray[Any]]

REFUSED = {
    r"test_(adagrad|adam|momentum|nesterov|ai_onnx_ml_).*": "no version of the standard operators is declared",
    r"test_attention_.*nonpad.*(?<!_expanded)": "opset 24: lengths of each sample; ours ends at 23",
    r"test_(bitcast|cumprod|swish|tensorscatter).*(?<!_expanded)": "operators newer than opset 23",
    r"test_not_[234]d": "opset 1",
    r"test_scan_sum": "Scan with a batch axis, opset 8",
}
"""Numeric cases that ONNX Runtime runs and that we do not import: exit code 4, and why."""
BREAKS_ITS_OWN_OPERATOR = {
    r"test_affine_grid_2d.*_expanded": "gives Range a tensor with one axis, which the engine refuses once it sees it",
}
"""Models that break the specification, and run only where the engine cannot tell."""
QUICK = re.compile(
    r"test_(gemm_.*|matmul_2d|conv_.*|basic_conv.*|batchnorm_.*|hardswish.*|hardsigmoid.*|scan9.*|if|loop11|split_.*"
    r"|identity|dropout_.*|transpose_default|resize_upsample_scales_nearest|layer_normalization_2d.*|Linear.*"
    r"|Conv2d.*|Conv1d.*|operator_(conv|addmm|mm|add_broadcast))"
)
SCHEMES: dict[str, tuple[Scheme, float]] = {
    "static": (Scheme(), 18.0),
    "static, signed, per tensor": (Scheme(activations="int8", per_channel=False), 18.0),
    "static, 16 bits": (Scheme(activations="uint16"), 18.0),
    "static, guarded": (Scheme(guard="pairs"), 18.0),
    "dynamic": (Scheme(method="dynamic"), 18.0),
    "dynamic, guarded": (Scheme(method="dynamic", guard="pairs"), 12.0),
    "weights": (Scheme(method="weights"), 18.0),
    "weights, 4 bits": (Scheme(method="weights", weights="int4"), 8.0),
}
"""With the least signal to quantization noise, in dB, that every case reaches; many have a handful of values."""
ENGINE_REFUSES = (Fail, InvalidArgument, InvalidGraph, NoKernel, RuntimeException)
COPIES = 4
"""Of a case's own input, for calibration; all but the first with noise."""


@dataclass(frozen=True)
class Case:
    """A model with what goes in and what has to come out."""

    name: str
    model: onnx.ModelProto
    inputs: Arrays
    outputs: list[NDArray[Any]]


@cache
def all_cases() -> tuple[Case, ...]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they compute infinities on purpose
        return tuple(_cases())


def _cases() -> Iterator[Case]:
    for kind in ("node", "simple", "pytorch-converted", "pytorch-operator"):
        for case in load_model_tests(kind=kind):
            folder = Path(case.model_dir or "")
            model = case.model or onnx.load(folder / "model.onnx")
            values = [*model.graph.input, *model.graph.output]
            if all(value.type.WhichOneof("value") == "tensor_type" for value in values):
                given, expected = case.data_sets[0] if case.data_sets else _stored(folder, model)
                if all(np.asarray(array).dtype.kind in "biuf" for array in [*given, *expected]):
                    old = kind.startswith("pytorch") and default_opset(model) < OLDEST_OPSET
                    yield _case(case.name, _modern(model) if old else model, given, expected)


def _stored(folder: Path, model: onnx.ModelProto) -> tuple[list[NDArray[Any]], list[NDArray[Any]]]:
    data = folder / "test_data_set_0"
    count = len(list(data.glob("input_*.pb")))
    return _read(data, "input", count), _read(data, "output", len(model.graph.output))


def _read(folder: Path, role: str, count: int) -> list[NDArray[Any]]:
    paths = (folder / f"{role}_{index}.pb" for index in range(count))
    return [numpy_helper.to_array(onnx.TensorProto.FromString(path.read_bytes())) for path in paths]


def _case(name: str, model: onnx.ModelProto, given: Sequence[Any], expected: Sequence[Any]) -> Case:
    names = [value.name for value in model.graph.input]
    if len(given) < len(names):  # before IR 4, weights are inputs as well
        weights = {weight.name for weight in model.graph.initializer}
        names = [name for name in names if name not in weights]
    inputs = dict(zip(names, map(np.asarray, given), strict=True))
    return Case(name, model, inputs, [np.asarray(array) for array in expected])


def _modern(model: onnx.ModelProto) -> onnx.ModelProto:
    try:
        newer = onnx.version_converter.convert_version(model, QDQ_OPSET)
    except RuntimeError:  # the converter reads some files not at all; they stay as they are, and are refused
        return model
    newer.ir_version = 8  # the converter adds weights that are no inputs, which older files may not have
    return newer


def run(content: bytes, inputs: Arrays) -> list[NDArray[Any]]:
    session = open_session(content, Arithmetic.ENGINE)
    return [
        np.asarray(array) for array in session.run(None, {key.name: inputs[key.name] for key in session.get_inputs()})
    ]


def same(found: list[NDArray[Any]], expected: list[NDArray[Any]]) -> bool:
    return all(
        a.shape == b.shape
        and a.dtype == b.dtype
        and np.allclose(a.astype(np.float64), b.astype(np.float64), rtol=1e-3, atol=1e-4, equal_nan=True)
        for a, b in zip(found, expected, strict=True)
    )


def runs_in_the_engine(case: Case) -> bool:
    try:
        return same(run(case.model.SerializeToString(), case.inputs), case.outputs)
    except ENGINE_REFUSES:
        return False


def optimised(case: Case) -> Graph:
    graph = import_proto(case.model, case.name)
    for float_pass in FLOAT_PASSES:
        graph = float_pass(graph, NoOptions()).graph
    return graph


def listed(name: str, reasons: dict[str, str]) -> bool:
    return any(re.fullmatch(pattern, name) for pattern in reasons)


def failures(check: Callable[[Case], str | None], cases: list[Case]) -> dict[str, str]:
    """By the name of the case; an exception is one, too."""
    found: dict[str, str] = {}
    for case in cases:
        try:
            reason = check(case)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is told, and does not hide the other cases
            reason = f"{type(error).__name__}: {error}"
        if reason is not None:
            found[case.name] = reason
    return found


def keeps_its_outputs(case: Case) -> str | None:
    """Import and float passes: what is wrong, or None."""
    if not runs_in_the_engine(case) or listed(case.name, BREAKS_ITS_OWN_OPERATOR):
        return None
    try:
        graph = optimised(case)
    except UnsupportedModel as fault:
        return None if listed(case.name, REFUSED) else f"refused: {fault}"
    if listed(case.name, REFUSED):
        return "is imported now, and has to go off the list of refused cases"
    if [port.name for port in signature(graph).outputs] != [value.name for value in case.model.graph.output]:
        return "names of outputs changed"
    return None if same(run(to_bytes(graph), case.inputs), case.outputs) else "other numbers"


def with_weights(case: Case) -> Case:
    """Operands of products become initializers, except for the first input of the model."""
    weights = [name for node in case.model.graph.node if node.op_type in PRODUCTS for name in node.input[1:]]
    baked = {name: case.inputs[name] for name in list(case.inputs)[1:] if name in weights}
    model = onnx.ModelProto.FromString(case.model.SerializeToString())
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in baked.items())
    inputs = {name: array for name, array in case.inputs.items() if name not in baked}
    return Case(case.name, model, inputs, case.outputs)


def is_quantizable(case: Case) -> bool:
    arrays = list(case.inputs.values())
    return (
        any(node.op_type in PRODUCTS for node in case.model.graph.node)
        and bool(arrays)
        and arrays[0].dtype == np.float32
        and not listed(case.name, REFUSED)
        and runs_in_the_engine(case)
    )


def survives_quantization(case: Case) -> str | None:
    """Every scheme that has something to work on: what is wrong, or None."""
    graph = optimised(with_weights(case))
    ports = [port.name for port in signature(graph).inputs]
    inputs = {name: case.inputs[name] for name in ports}
    if any(array.ndim == 0 for array in inputs.values()) or len({len(array) for array in inputs.values()}) > 1:
        return None  # no batch, which collection needs
    random = np.random.default_rng(0)
    samples = {name: np.concatenate([array, *noisy(array, random)]) for name, array in inputs.items()}
    with tempfile.TemporaryDirectory() as folder, Scratch(Path(folder)) as scratch:
        statistics = collect(graph, Samples(samples, None), scratch)
    truth = run(to_bytes(graph), inputs)
    for name, (scheme, least_db) in SCHEMES.items():
        try:
            plan = propose(graph, statistics, scheme) if scheme.method == "static" else uncalibrated(graph, scheme)
        except NotQuantizable:
            continue
        reason = quantized_as(graph, plan, inputs, truth, least_db)
        if reason is not None:
            return f"{name}: {reason}"
    return None


def noisy(array: NDArray[Any], random: np.random.Generator) -> Iterator[NDArray[Any]]:
    for _ in range(COPIES - 1):
        noise = random.normal(size=array.shape) * 0.05 * (array.std() + 1e-3) if array.dtype.kind == "f" else 0
        yield (array + noise).astype(array.dtype)


def uncalibrated(graph: Graph, scheme: Scheme) -> Plan:
    return propose_dynamic(graph, scheme) if scheme.method == "dynamic" else propose_weights(graph, scheme)


def quantized_as(graph: Graph, plan: Plan, inputs: Arrays, truth: list[NDArray[Any]], least_db: float) -> str | None:
    result = emit_plan(graph, plan)
    if signature(result) != signature(graph):
        return "the signature changed"
    content = to_bytes(result)
    onnx.checker.check_model(onnx.load_from_string(content))
    for found, expected in zip(run(content, inputs), truth, strict=True):
        if expected.dtype.kind == "f" and expected.size and np.isfinite(expected).all():
            found_db = snr_db(np.atleast_1d(found), np.atleast_1d(expected))
            if found_db < least_db:
                return f"{found_db:.1f} dB from the float model"
    return None


def test_representative_cases_keep_their_outputs() -> None:
    cases = [case for case in all_cases() if QUICK.fullmatch(case.name)]
    assert len(cases) > 90
    assert failures(keeps_its_outputs, cases) == {}


def test_representative_cases_survive_quantization() -> None:
    cases = [case for case in all_cases() if QUICK.fullmatch(case.name) and is_quantizable(case)]
    assert len(cases) > 30
    assert failures(survives_quantization, cases) == {}


@pytest.mark.slow
def test_every_numeric_case_keeps_its_outputs() -> None:
    assert failures(keeps_its_outputs, list(all_cases())) == {}


@pytest.mark.slow
def test_every_case_with_products_survives_quantization() -> None:
    cases = [case for case in all_cases() if is_quantizable(case)]
    assert len(cases) > 140
    assert failures(survives_quantization, cases) == {}
