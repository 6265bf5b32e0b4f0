"""A .tflite of one operator, float or int8, and what its graph computes in ONNX Runtime beside LiteRT's own kernels.

    case = Case("CONV_2D", (normal(seed, 1, 9, 9, 4), Weight(filters, 0), Bias(bias)), {"padding": 0, …})
    check_float(case)
    check_int8(case, Out())

Shapes of results are those that LiteRT gives; ranges of int8 results are those of the float operator.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from edgewright.compiler.graph import Graph
from edgewright.compiler.tflite.emitter.emit import emit
from edgewright.compiler.tflite.emitter.ports import Ports
from edgewright.compiler.tflite.file.model import (
    Array,
    Model,
    Operator,
    OptionValue,
    Port,
    Quantization,
    Tensor,
)
from edgewright.compiler.tflite.file.read import read
from edgewright.compiler.tflite.file.versions import versioned
from edgewright.compiler.tflite.file.write import write
from edgewright.compiler.tflite.reader.read_graph import graph_of
from tests.compiler.tflite.runs import run_litert, run_onnx

SIGNATURE = "serving_default"
TYPES = {"float32": "FLOAT32", "int32": "INT32", "int64": "INT64", "bool": "BOOL", "int8": "INT8", "float16": "FLOAT16"}
ABSOLUTE = 1e-6
RELATIVE = 1e-5


@dataclass(frozen=True, eq=False)
class Fixed:
    """A constant that stays as it is in int8 models: axes, sizes, a float parameter."""

    array: Array


@dataclass(frozen=True, eq=False)
class Stored:
    """A constant that int8 models store as activations."""

    array: Array


@dataclass(frozen=True, eq=False)
class Weight:
    """A constant that int8 models store around zero, with a scale per index of an axis, or one."""

    array: Array
    axis: int | None = 0


@dataclass(frozen=True, eq=False)
class Bias:
    """A constant that int8 models store in int32, with the scales of data and weight multiplied."""

    array: Array


@dataclass(frozen=True, eq=False)
class Like:
    """An activation with the encoding of the first one."""

    array: Array


Given = Array | Fixed | Stored | Weight | Bias | Like


@dataclass(frozen=True, eq=False)
class Case:
    """One operator. Plain arrays are its data."""

    kind: str
    inputs: Sequence[Given]
    options: Mapping[str, OptionValue] = field(default_factory=dict)
    outputs: int = 1
    result: str = "FLOAT32"
    data: int = 0
    """Which input the weights multiply."""


@dataclass(frozen=True)
class Out:
    """How the results of an int8 case are rounded: by their range, as the first input, or in one fixed way."""

    like_input: bool = False
    fixed: Quantization | None = None


LACKING = frozenset({"BROADCAST_TO", "CEIL", "DEPTH_TO_SPACE", "ELU", "ROUND", "TILE"})
"""Operators that LiteRT's set of reference kernels does not have, or not in the newest version."""
SOFTMAX = Quantization((1 / 256,), (-128,))


def grid_of(real: Array) -> Quantization:
    """One scale that holds all values, zero among them."""
    low, high = min(float(real.min(initial=0)), 0.0), max(float(real.max(initial=0)), 0.0)
    scale = float(np.float32((high - low) / 255 or 1.0))
    return Quantization((scale,), (int(np.clip(np.rint(-128 - low / scale), -128, 127)),))


def rounded(real: Array, grid: Quantization, kind: type[np.generic] = np.int8) -> Array:
    """Integers, along the grid's axis."""
    shape = [-1 if axis == grid.axis and len(grid.scales) > 1 else 1 for axis in range(real.ndim)]
    scales = np.asarray(grid.scales, np.float64).reshape(shape)
    zeros = np.asarray(grid.zero_points).reshape(shape)
    limits = np.iinfo(kind)  # type: ignore[type-var]
    return np.asarray(np.clip(np.rint(real / scales) + zeros, limits.min, limits.max).astype(kind)).reshape(real.shape)


def float_model(case: Case) -> tuple[Model, dict[str, Array]]:
    """The model in floats, and its inputs."""
    tensors, inputs = [], {}
    for index, given in enumerate(case.inputs):
        array = np.asarray(given if isinstance(given, np.generic | np.ndarray) else given.array)
        constant = not isinstance(given, (np.generic, np.ndarray, Like))
        tensors.append(Tensor(f"x{index}", TYPES[array.dtype.name], array.shape, data=array if constant else None))
        if not constant:
            inputs[f"x{index}"] = np.asarray(array)
    results = [Tensor(f"y{index}", case.result, ()) for index in range(case.outputs)]
    return shaped(assembled(case, tensors, results, inputs)), inputs


def assembled(case: Case, tensors: Sequence[Tensor], results: Sequence[Tensor], inputs: Mapping[str, Array]) -> Model:
    count = len(tensors)
    outputs = tuple(range(count, count + len(results)))
    model = Model(
        tensors=(*tensors, *results),
        operators=(Operator(case.kind, tuple(range(count)), outputs, case.options),),
        inputs=tuple(Port(f"x{index}", index) for index in range(count) if f"x{index}" in inputs),
        outputs=tuple(Port(f"y{index}", output) for index, output in enumerate(outputs)),
        signature=SIGNATURE,
    )
    return versioned(model)


def shaped(model: Model) -> Model:
    """With the shapes that LiteRT finds."""
    lacking = any(operator.type in LACKING for operator in model.operators)
    kind = OpResolverType.AUTO if lacking else OpResolverType.BUILTIN_REF
    interpreter = Interpreter(model_content=write(model), experimental_op_resolver_type=kind, num_threads=1)
    interpreter.allocate_tensors()
    runner = interpreter.get_signature_runner(SIGNATURE)
    runner(**{port.name: np.zeros(model.tensors[port.tensor].shape, _numpy(model, port)) for port in model.inputs})
    tensors = list(model.tensors)
    for detail in interpreter.get_tensor_details():
        index = detail["index"]
        if index < len(tensors) and tensors[index].data is None:
            tensors[index] = replace(tensors[index], shape=tuple(int(size) for size in detail["shape"]))
    return replace(model, tensors=tuple(tensors))


def _numpy(model: Model, port: Port) -> str:
    return next(name for name, kind in TYPES.items() if kind == model.tensors[port.tensor].type)


def int8_model(case: Case, out: Out, results: Mapping[str, Array]) -> tuple[Model, dict[str, Array]]:
    """The model in int8, and its inputs; `results` are those in floats."""
    tensors: list[Tensor] = []
    inputs: dict[str, Array] = {}
    for index, given in enumerate(case.inputs):
        tensor, data = _int8(case, given, tensors, f"x{index}")
        tensors.append(tensor)
        if tensor.data is None:
            inputs[tensor.name] = data
    made = []
    for name, real in results.items():
        if case.result != "FLOAT32":
            made.append(Tensor(name, case.result, ()))
            continue
        grid = out.fixed or (tensors[case.data].quantization if out.like_input else grid_of(real))
        made.append(Tensor(name, "INT8", (), quantization=grid))
    return shaped(assembled(case, tensors, made, inputs)), inputs


def _int8(case: Case, given: Given, before: Sequence[Tensor], name: str) -> tuple[Tensor, Array]:
    array = np.asarray(given if isinstance(given, np.generic | np.ndarray) else given.array)
    if isinstance(given, Fixed) or array.dtype != np.float32:
        constant = array if isinstance(given, Fixed) else None
        return Tensor(name, TYPES[array.dtype.name], array.shape, data=constant), array
    if isinstance(given, Bias):
        data, weight = before[case.data].quantization, before[1].quantization
        assert data is not None
        assert weight is not None
        scales = np.float32(data.scales[0]) * np.asarray(weight.scales, np.float32)
        grid = Quantization(tuple(float(scale) for scale in scales), (0,) * len(scales))
        return Tensor(name, "INT32", array.shape, data=rounded(array, grid, np.int32), quantization=grid), array
    if isinstance(given, Weight):
        grid = _weight_grid(array, given.axis)
    else:
        first = before[0].quantization if isinstance(given, Like) and before else None
        grid = first or grid_of(array)
    integers = rounded(array, grid)
    constant = None if isinstance(given, (np.generic, np.ndarray, Like)) else integers
    return Tensor(name, "INT8", array.shape, data=constant, quantization=grid), integers


def _weight_grid(array: Array, axis: int | None) -> Quantization:
    others = tuple(each for each in range(array.ndim) if each != axis)
    peaks = np.abs(array).max(axis=None if axis is None else others)
    scales = np.atleast_1d(np.float32(np.maximum(peaks, 1e-3) / 127))
    return Quantization(tuple(float(scale) for scale in scales), (0,) * scales.size, axis or 0)


def graph_from(model: Model) -> Graph:
    """The graph of the model's bytes."""
    return graph_of(read(write(model), "case.tflite"), "case.tflite")


def check_float(case: Case, *, emitted: bool = True, tolerance: float = RELATIVE) -> Graph:
    """Same numbers in ONNX Runtime as in LiteRT's reference kernels, and after the graph was emitted again."""
    model, inputs = float_model(case)
    graph = graph_from(model)
    expected, found = _run(model, case, inputs), run_onnx(graph, inputs)
    _close(found, expected, tolerance)
    if emitted:
        _close(_run(emit(graph).model, case, inputs), expected, tolerance)
    return graph


def _run(model: Model, case: Case, inputs: Mapping[str, Array]) -> dict[str, Array]:
    return run_litert(model, inputs, reference=case.kind not in LACKING)


def _close(found: Mapping[str, Array], expected: Mapping[str, Array], tolerance: float) -> None:
    for name, array in expected.items():
        assert found[name].shape == array.shape
        assert found[name].dtype == array.dtype
        scale = float(np.abs(array).max(initial=0)) if array.dtype == np.float32 else 0.0
        np.testing.assert_allclose(found[name], array, rtol=0, atol=tolerance * scale + ABSOLUTE)


def check_int8(case: Case, out: Out | None = None, *, steps: int = 1, emitted: bool = True) -> Graph:
    """At most one step from LiteRT's reference kernels; the very same bytes after the graph was emitted again."""
    floats, real_inputs = float_model(case)
    real = _run(floats, case, real_inputs)
    model, inputs = int8_model(case, out or Out(), real)
    graph = graph_from(model)
    expected, found = _run(model, case, inputs), run_onnx(graph, inputs)
    for name, array in expected.items():
        assert found[name].shape == array.shape
        assert found[name].dtype == array.dtype
        assert int(np.abs(found[name].astype(np.int64) - array.astype(np.int64)).max(initial=0)) <= steps
    if emitted:
        again = _run(emit(graph, Ports(integer=True)).model, case, inputs)
        for name, array in expected.items():
            np.testing.assert_array_equal(again[name], array)
    return graph
