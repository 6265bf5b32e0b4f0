"""A graph of one operator, float or between quantizers, and what LiteRT makes of it beside ONNX Runtime.

    case = single("Conv", normal(seed, 2, 8, 9, 9), Fixed(filters), Fixed(bias), strides=[2, 2])
    check_float(case)

    case = quantized("Conv", "uint8", normal(seed, 2, 8, 9, 9), Weight(filters, axis=0), Fixed(bias), strides=[2, 2])
    check_integers(case)

Both checks return the model, so that a test can also look at the operators that were written. Inputs of quantized
cases lie on their grids: what is compared is the operator, not how its inputs are rounded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import onnx
import onnxruntime
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edgewright.compiler.frontends.onnx import import_proto
from edgewright.compiler.graph import Graph
from edgewright.compiler.tflite.emitter.emit import Emitted, emit
from edgewright.compiler.tflite.emitter.ports import Ports
from edgewright.compiler.tflite.file.model import Array, Model
from tests.compiler.tflite.runs import run_litert, run_onnx

OPSET = 21
"""The first whose quantizers know 16 bits."""
CHECKED = settings(
    deadline=None,
    max_examples=6,
    derandomize=True,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
"""Few examples, always the same ones and not made smaller: every example builds three sessions."""
SEEDS = st.integers(0, 2**31)
SIGNED = {"int8": 0, "int16": 0, "uint8": 128}


@dataclass(frozen=True, eq=False)
class Fixed:
    """A constant that stays as it is also in quantized cases: a parameter, a bias, axes."""

    array: Array


@dataclass(frozen=True, eq=False)
class Stored:
    """A constant that quantized cases store in integers as they do activations."""

    array: Array


@dataclass(frozen=True, eq=False)
class Weight:
    """A constant that quantized cases store in int8 around zero, with one scale or one per index of an axis."""

    array: Array
    axis: int | None = None


Clamp = Sequence[float | None] | Literal["Relu"] | None
Given = Array | Fixed | Stored | Weight | None


@dataclass(frozen=True)
class Grid:
    """How real values are rounded: real = (integer - zero_point) * scale."""

    kind: str
    scale: float
    zero_point: int

    def integers(self, real: Array) -> Array:
        bounds = np.iinfo(self.kind)
        steps = np.rint(real.astype(np.float64) / self.scale) + self.zero_point
        return np.asarray(np.clip(steps, bounds.min, bounds.max).astype(self.kind))

    def real(self, integers: Array) -> Array:
        return np.asarray(np.float32(self.scale) * (integers.astype(np.int64) - self.zero_point), np.float32)

    def signed(self, integers: Array) -> Array:
        """As TFLite keeps them."""
        kind = "int8" if self.kind == "uint8" else self.kind
        return np.asarray(integers.astype(np.int64) - SIGNED[self.kind], kind)


@dataclass(frozen=True, eq=False)
class Case:
    """A graph, what it is given and, where it is quantized, the grids of its ports."""

    graph: Graph
    inputs: dict[str, Array]
    grids: dict[str, Grid] = field(default_factory=dict)


def grid_of(real: Array, kind: str) -> Grid:
    """One that holds all values: asymmetric with zero on it in 8 bits, around zero in 16."""
    low, high = min(float(real.min(initial=0)), 0.0), max(float(real.max(initial=0)), 0.0)
    bounds = np.iinfo(kind)
    if kind == "int16":
        return Grid(kind, float(np.float32(max(-low, high) / 32767 or 1.0)), 0)
    scale = float(np.float32((high - low) / 255 or 1.0))
    return Grid(kind, scale, int(np.clip(np.rint(bounds.min - low / scale), bounds.min, bounds.max)))


def normal(seed: int, *shape: int, scale: float = 1.0) -> Array:
    """Normally distributed float32."""
    return np.asarray(np.random.default_rng(seed).normal(size=shape) * scale, np.float32)


def uniform(seed: int, low: float, high: float, *shape: int) -> Array:
    """Evenly distributed float32."""
    return np.asarray(np.random.default_rng(seed).uniform(low, high, shape), np.float32)


def shapes(least: int = 1, most: int = 5, side: int = 5) -> st.SearchStrategy[tuple[int, ...]]:
    """Shapes by their ranks and longest sides."""
    return st.lists(st.integers(1, side), min_size=least, max_size=most).map(tuple)


@st.composite
def broadcast(draw: st.DrawFn, count: int = 2, most: int = 5) -> tuple[tuple[int, ...], ...]:
    """Shapes that ONNX broadcasts together; at least one has the full rank."""
    full = draw(shapes(0, most))
    found = []
    for index in range(count):
        sizes = tuple(draw(st.sampled_from([size, 1])) for size in full)
        found.append(sizes[0 if index == 0 else draw(st.integers(0, len(full))) :])
    return tuple(draw(st.permutations(found)))


def single(
    op_type: str,
    *given: Given,
    outputs: int = 1,
    opset: int = OPSET,
    free_batch: bool = False,
    turned: bool = False,
    clamp: Clamp = None,
    **attributes: Any,
) -> Case:
    """A graph of one operator; arrays are inputs x0, x1, …, outputs are y0, …; None is an input left out.

    `free_batch` leaves the first axis of the inputs free; LiteRT is then given what the inputs have. With `turned`,
    inputs of three axes and more come channels last and a Transpose is before the operator. `clamp` puts a Relu or a
    Clip with these bounds behind the first result.
    """
    names, constants, inputs, turns = [], [], {}, []
    for index, each in enumerate(given):
        names.append("" if each is None else f"x{index}")
        if isinstance(each, np.ndarray) and turned and each.ndim > 2:
            inputs[f"x{index}"] = np.moveaxis(each, 1, -1)
            names[-1] = f"x{index}_turned"
            turns.append(_turn(f"x{index}", names[-1], each.ndim))
        elif isinstance(each, np.ndarray):
            inputs[f"x{index}"] = each
        elif each is not None:
            constants.append(numpy_helper.from_array(each.array, f"x{index}"))
    results = [f"y{index}" for index in range(outputs)]
    clamps = _clamp(clamp, "y0_before", results[0], constants)
    made = ["y0_before", *results[1:]] if clamps else results
    node = helper.make_node(op_type, names, made, name="operator", **attributes)
    return Case(_graph([*turns, node, *clamps], inputs, constants, results, opset, free_batch), inputs)


def _clamp(clamp: Clamp, source: str, target: str, constants: list[TensorProto]) -> list[onnx.NodeProto]:
    """The clamp behind an operator."""
    if clamp is None:
        return []
    if clamp == "Relu":
        return [helper.make_node("Relu", [source], [target], name="clamp")]
    read = [source]
    for name, bound in zip(("low", "high"), clamp, strict=True):
        read.append("" if bound is None else name)
        if bound is not None:
            constants.append(numpy_helper.from_array(np.array(bound, np.float32), name))
    return [helper.make_node("Clip", read, [target], name="clamp")]


def _turn(source: str, target: str, rank: int) -> onnx.NodeProto:
    """Channels from the last axis to the second."""
    order = [0, rank - 1, *range(1, rank - 1)]
    return helper.make_node("Transpose", [source], [target], name=f"{target}_turn", perm=order)


def quantized(
    op_type: str,
    kind: str,
    *given: Given,
    outputs: int = 1,
    opset: int = OPSET,
    grid: Callable[[Array], Grid] | None = None,
    one_grid: bool | Grid = False,
    turned: bool = False,
    clamp: Clamp = None,
    **attributes: Any,
) -> Case:
    """The same between quantizers, with grids from the data; integers and truth values pass as they are.

    `grid` says another way to choose the grid of results from their real values; with `one_grid` everything that is
    rounded shares the grid of all of it, or the one that is given.
    """
    plain = single(op_type, *given, outputs=outputs, opset=opset, clamp=clamp, **attributes)
    exact = run_onnx(plain.graph, plain.inputs)
    everything = [each.array if isinstance(each, Stored) else each for each in given]
    rounded = [each for each in [*everything, *exact.values()] if isinstance(each, np.ndarray) and each.dtype == "f4"]
    shared = one_grid if isinstance(one_grid, Grid) else None
    if one_grid is True:
        shared = grid_of(np.concatenate([each.reshape(-1) for each in rounded]), kind)
    net = _Net(turned=turned)
    inputs: dict[str, Array] = {}
    for index, each in enumerate(given):
        name = f"x{index}"
        if each is None:
            net.read.append("")
        elif isinstance(each, np.ndarray):
            inputs[name] = net.activation(name, each, kind, shared)
        else:
            net.constant(name, each, kind, shared)
    results = [f"y{index}" for index in range(outputs)]
    found = [net.rounded(name, exact[name], kind, grid, shared) for name in results]
    clamps = _clamp(clamp, "y0_before", found[0], net.constants)
    made = ["y0_before", *found[1:]] if clamps else found
    node = helper.make_node(op_type, net.read, made, name="operator", **attributes)
    nodes = [*net.before, node, *clamps, *net.behind]
    return Case(_graph(nodes, inputs, net.constants, results, opset, False), inputs, net.grids)


@dataclass
class _Net:
    """Quantizers around one operator."""

    before: list[onnx.NodeProto] = field(default_factory=list)
    behind: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[TensorProto] = field(default_factory=list)
    read: list[str] = field(default_factory=list)
    grids: dict[str, Grid] = field(default_factory=dict)
    turned: bool = False

    def add(self, name: str, array: Array) -> str:
        self.constants.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def pair(self, source: str, target: str, grid: Grid, turned: int = 0) -> list[onnx.NodeProto]:
        scale = self.add(f"{target}_scale", np.array(grid.scale, np.float32))
        zero = self.add(f"{target}_zero", np.array(grid.zero_point, grid.kind))
        integers = f"{target}_quantized"
        turns = [_turn(integers, f"{integers}_turned", turned)] if turned else []
        read = f"{integers}_turned" if turned else integers
        return [
            helper.make_node("QuantizeLinear", [source, scale, zero], [integers], name=f"{target}_q"),
            *turns,
            helper.make_node("DequantizeLinear", [read, scale, zero], [target], name=f"{target}_dq"),
        ]

    def activation(self, name: str, array: Array, kind: str, shared: Grid | None) -> Array:
        if array.dtype != np.float32:
            self.read.append(name)
            return array
        grid = self.grids[name] = shared or grid_of(array, kind)
        turned = array.ndim if self.turned and array.ndim > 2 else 0
        self.before += self.pair(name, f"{name}_rounded", grid, turned)
        self.read.append(f"{name}_rounded")
        real = grid.real(grid.integers(array))
        return np.moveaxis(real, 1, -1) if turned else real

    def constant(self, name: str, each: Fixed | Stored | Weight, kind: str, shared: Grid | None) -> None:
        self.read.append(name)
        if isinstance(each, Fixed) or each.array.dtype != np.float32:
            self.add(name, each.array)
        elif isinstance(each, Stored):
            grid = shared or grid_of(each.array, kind)
            self.dequantized(
                name, grid.integers(each.array), np.array(grid.scale, np.float32), np.array(grid.zero_point, kind)
            )
        else:
            self.weight(name, each)

    def weight(self, name: str, each: Weight) -> None:
        others = None if each.axis is None else tuple(i for i in range(each.array.ndim) if i != each.axis)
        largest = np.abs(each.array).max(axis=others, keepdims=True)
        scales = (np.where(largest > 0, largest, 1) / 127).astype(np.float32)
        integers = np.clip(np.rint(each.array / scales), -127, 127).astype(np.int8)
        flat = scales.reshape(()) if each.axis is None else scales.reshape(-1)
        axis: dict[str, Any] = {} if each.axis is None else {"axis": each.axis}
        self.dequantized(name, integers, flat, np.zeros(flat.shape, np.int8), **axis)

    def dequantized(self, name: str, integers: Array, scale: Array, zero: Array, **axis: Any) -> None:
        read = [
            self.add(f"{name}_integers", integers),
            self.add(f"{name}_scale", scale),
            self.add(f"{name}_zero", zero),
        ]
        self.before.append(helper.make_node("DequantizeLinear", read, [name], name=f"{name}_dq", **axis))

    def rounded(
        self, name: str, exact: Array, kind: str, choice: Callable[[Array], Grid] | None, shared: Grid | None
    ) -> str:
        if exact.dtype != np.float32:
            return name
        grid = self.grids[name] = shared or (choice(exact) if choice is not None else grid_of(exact, kind))
        self.behind += self.pair(f"{name}_real", name, grid)
        return f"{name}_real"


def check_float(case: Case, *, tolerance: float = 1e-5, reference: bool = True) -> Model:
    """Emits, runs LiteRT's kernels and the reference ones, and compares relative to the largest result.

    Integers and truth values must be equal. `reference=False` leaves the reference kernels out, where they are wrong.
    """
    expected = run_onnx(case.graph, case.inputs)
    emitted = emit(case.graph)
    for slow in (False, True) if reference else (False,):
        found = run_litert(emitted.model, case.inputs, reference=slow)
        for name, array in expected.items():
            _compare(f"{name}{' (reference)' if slow else ''}", found[name], array, tolerance)
    return emitted.model


def check_integers(
    case: Case, *, steps: int = 1, integer: bool = True, fast: bool = True, reference: bool = True
) -> Model:
    """Emits with integer ports, runs LiteRT's reference kernels and the fast ones, and compares integers.

    Up to `steps` of the results' grids may lie between; results that are not rounded must be equal. `integer` asks that
    nothing is computed in float. `fast=False` or `reference=False` leave kernels out that are wrong or missing.
    """
    expected = run_onnx(case.graph, case.inputs)
    emitted = emit(case.graph, Ports(integer=True))
    if integer:
        check_no_float(emitted)
    for slow in (*((True,) if reference else ()), *((False,) if fast else ())):
        found = run_litert(emitted.model, _integers(case), reference=slow)
        for name, array in expected.items():
            grid = case.grids.get(name)
            if grid is None:
                np.testing.assert_array_equal(found[name], array, err_msg=name)
                continue
            truth = grid.signed(grid.integers(array))
            assert found[name].dtype == truth.dtype, f"{name} is {found[name].dtype}, not {truth.dtype}"
            assert found[name].shape == truth.shape, f"{name} is {found[name].shape}, not {truth.shape}"
            apart = np.abs(found[name].astype(np.int64) - truth.astype(np.int64)).max(initial=0)
            assert apart <= steps, f"{name}{' (reference)' if slow else ''} is {apart} steps off"
    return emitted.model


def check_no_float(emitted: Emitted) -> None:
    """Every tensor is of integers or truth values."""
    floats = [tensor.name for tensor in emitted.model.tensors if tensor.type.startswith("FLOAT")]
    assert not floats, f"{floats} are float; operators: {kinds(emitted.model)}"


def kinds(model: Model) -> list[str]:
    """The operators that were written."""
    return [operator.type for operator in model.operators]


def _compare(name: str, found: Array, expected: Array, tolerance: float) -> None:
    assert found.dtype == expected.dtype, f"{name} is {found.dtype}, not {expected.dtype}"
    assert found.shape == expected.shape, f"{name} is {found.shape}, not {expected.shape}"
    if expected.dtype.kind != "f":
        np.testing.assert_array_equal(found, expected, err_msg=name)
        return
    finite = np.isfinite(expected)
    np.testing.assert_array_equal(found[~finite], expected[~finite], err_msg=name)
    largest = np.abs(expected[finite]).max(initial=0) or 1.0
    np.testing.assert_allclose(
        found[finite] / largest, expected[finite] / largest, rtol=0, atol=tolerance, err_msg=name
    )


def _integers(case: Case) -> dict[str, Array]:
    """What LiteRT is given: integers where the graph rounds an input first thing."""
    return {
        name: case.grids[name].signed(case.grids[name].integers(array)) if name in case.grids else array
        for name, array in case.inputs.items()
    }


def _graph(
    nodes: list[onnx.NodeProto],
    inputs: dict[str, Array],
    constants: list[TensorProto],
    results: list[str],
    opset: int,
    free_batch: bool,
) -> Graph:
    taken = [
        helper.make_tensor_value_info(
            name,
            helper.np_dtype_to_tensor_dtype(array.dtype),
            ["N", *array.shape[1:]] if free_batch else list(array.shape),
        )
        for name, array in inputs.items()
    ]
    given = [onnx.ValueInfoProto(name=name) for name in results]
    graph = helper.make_graph(nodes, "single", taken, given, initializer=constants)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    inferred = onnx.shape_inference.infer_shapes(proto)
    if not all(output.type.tensor_type.HasField("shape") for output in inferred.graph.output):
        _say_results(inferred, inputs)
    return import_proto(inferred, "single")


def _say_results(proto: onnx.ModelProto, inputs: dict[str, Array]) -> None:
    """Types and shapes of results that ONNX cannot infer, since it defines their operator by others."""
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    found = session.run(None, inputs)
    del proto.graph.value_info[:]
    for output, array in zip(proto.graph.output, found, strict=True):
        kind = helper.np_dtype_to_tensor_dtype(array.dtype)
        output.CopyFrom(helper.make_tensor_value_info(output.name, kind, array.shape))
