"""Half precision: weights and activations as float16 or bfloat16, for engines that compute so.

Inputs and outputs keep float32, with casts behind and before them. What an operator takes is read from its ONNX schema;
operators that overflow or lose sums easily, that ONNX does not know, or whose weights or ranges leave the type stay
float32, each with casts around it, and say why.

References: IEEE 754 binary16 ends at 65 504; ONNX operator schemas, type constraints.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal

import ml_dtypes
import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from onnx_ir.passes.common import RemoveUnusedNodesPass, ShapeInferencePass

from edgewright.targets.board import Board

from ...faults import UnsupportedModel
from ...graph import OTHER_FLOATS, Graph, clone, is_quantized, nodes, place
from ...lower.onnxruntime import NAME as ONNX_RUNTIME
from ...passes import Evidence, Options, Pass
from ..uncalibrated.rewrite import constant, insert_after_maker, new_node
from .operators import BOUNDED, attributes_in_half, has_subgraph, slots, why_float

HalfPrecision = Literal["float16", "bfloat16"]
DTYPES: Final[dict[str, ir.DataType]] = {"float16": ir.DataType.FLOAT16, "bfloat16": ir.DataType.BFLOAT16}
NUMPY_TYPES: Final[dict[str, np.dtype[Any]]] = {
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
}
LARGEST: Final[dict[str, float]] = {
    "float16": float(np.finfo(np.float16).max),
    "bfloat16": (2 - 2**-7) * 2.0**127,
}


MAX_REASON_CHARACTERS: Final = 1000


class Half(Options, frozen=True, kw_only=True):
    """What to convert to, and what to leave."""

    precision: HalfPrecision = "float16"
    keep_float: tuple[str, ...] = ()
    """Names of nodes that stay float32."""


class ToHalf(Pass[Half]):
    """Float32 graph to half precision with the same signature."""

    name = "to-half"

    def __init__(self, ranges: Mapping[str, tuple[float, float]] | None = None) -> None:
        """`ranges` are the least and greatest values of activations by name, where calibration knows them."""
        self._ranges = ranges or {}

    def requires(self, graph: Graph, options: Half) -> None:
        if is_quantized(graph):
            raise UnsupportedModel(
                f"the model is quantized already and has no {options.precision} form; give the float model"
            )

    def apply(self, graph: Graph, options: Half, target: Board | None) -> tuple[Graph, Evidence]:
        """Raises UnsupportedModel where the target, an operator or a type stands against it."""
        check_target(options.precision, target)
        infer_types(graph)
        converter = _Converter(graph, options, self._ranges)
        converter.convert()
        RemoveUnusedNodesPass()(graph)
        return graph, converter.evidence()


def check_target(precision: HalfPrecision, target: Board | None) -> None:
    """Raises UnsupportedModel where no engine of the target computes in this precision.

    float16 without a target is allowed: ONNX Runtime runs it everywhere, if need be with casts around float32 kernels.
    bfloat16 has no such way out: its CPU provider has no MatMul or Conv for it.
    """
    if target is None and precision == "float16":
        return
    if target is not None and target.supports(ONNX_RUNTIME, precision):
        return
    where = "without a target" if target is None else f"on target {target.name}"
    raise UnsupportedModel(
        f"{precision} cannot be made {where}: a board has to list {precision} among the precisions of {ONNX_RUNTIME}. "
        "Ship float32, or int8 where time matters"
    )


def infer_types(graph: Graph) -> None:
    """Gives every value its type, in place.

    Raises:
        UnsupportedModel: a type stays unknown, is no tensor, or is another floating point already.
    """
    inferred = ShapeInferencePass()(clone(graph)).model
    known = {value.name: value.type for node in nodes(inferred) for value in node.outputs}
    for node in nodes(graph):
        for value in node.outputs:
            value.type = value.type or known.get(value.name)
            if value.name and (not isinstance(value.type, ir.TensorType) or value.dtype in OTHER_FLOATS):
                what = "has no known type" if value.type is None else f"has type {value.type}"
                raise UnsupportedModel(
                    f"{place(node)}, a {node.op_type}: its result {value.name!r} {what}; half precision is made of "
                    "float32 tensors whose types ONNX can tell. Ship the model as it is"
                )


class _Converter:
    """Converts one typed graph in place, node by node, with a cast wherever the two precisions meet."""

    def __init__(self, graph: Graph, options: Half, ranges: Mapping[str, tuple[float, float]]) -> None:
        self._graph = graph
        self._ranges = ranges
        self._precision = options.precision
        self._half = DTYPES[options.precision]
        self._kept = frozenset(options.keep_float)
        self._casts: dict[tuple[int, ir.DataType], ir.Value] = {}
        self._large: set[int] = set()
        """Values that may leave the type, by id."""
        self._float_nodes: dict[str, str] = {}
        self._half_nodes = 0
        self._lost = 0

    def evidence(self) -> Evidence:
        """Counts, and why nodes stayed float32."""
        reasons = "; ".join(f"{name}: {reason}" for name, reason in sorted(self._float_nodes.items()))
        return {
            "half_nodes": self._half_nodes,
            "float_nodes": len(self._float_nodes),
            "why_float": reasons[:MAX_REASON_CHARACTERS],
            "weights_rounded_to_zero": self._lost,
        }

    def convert(self) -> None:
        """Every node, then what graphs give to the outside."""
        outputs = [value for value in self._graph.graph.outputs if value.dtype == ir.DataType.FLOAT]
        subgraphs = list(self._graph.graph.subgraphs())
        for value in (value for graph in subgraphs for value in graph.inputs):
            self._make_half(value)
        for node in list(nodes(self._graph)):
            self._convert(node)
        for graph in subgraphs:
            for index, value in enumerate(graph.outputs):
                if value.dtype == ir.DataType.FLOAT:
                    graph.outputs[index] = self._as(value, self._half)
        for value in outputs:
            self._restore(value)

    def _make_half(self, value: ir.Value) -> None:
        if value.dtype == ir.DataType.FLOAT:
            value.type = ir.TensorType(self._half)

    def _convert(self, node: ir.Node) -> None:
        reason = self._reason(node)
        if reason is not None:
            self._float_nodes[node.name or ""] = reason
            takes, gives = frozenset[int](), frozenset[int]()
        else:
            self._half_nodes += 1
            takes, gives = slots(node, self._graph, self._half)
            attributes_in_half(node, self._half)
        for index, value in enumerate(node.inputs):
            if value is not None and value.dtype in (ir.DataType.FLOAT, self._half):
                wanted = self._half if index in takes else ir.DataType.FLOAT
                node.replace_input_with(index, self._as(value, wanted))
        for index in gives:
            self._make_half(node.outputs[index])

    def _reason(self, node: ir.Node) -> str | None:
        """Why a node stays float32, or None."""
        reason = "as asked" if node.name in self._kept else self._beyond(node)
        reason = reason or why_float(node, self._graph, self._half)
        if reason is not None and has_subgraph(node):
            raise UnsupportedModel(
                f"{place(node)}, a {node.op_type}, has to stay float32 ({reason}), which operators with subgraphs "
                f"cannot in a {self._precision} model. Ship float32"
            )
        return reason

    def _beyond(self, node: ir.Node) -> str | None:
        """Names a value that the node reads or gives and that the type may not hold."""
        found = None
        for value in (*node.inputs, *node.outputs):
            if value is not None and (reason := self._leaves_type(value)) is not None:
                found = found or reason
        if found is not None and node.op_type not in BOUNDED:
            unknown = (value for value in node.outputs if value.name not in self._ranges)
            self._large.update(id(value) for value in unknown)
        return found

    def _leaves_type(self, value: ir.Value) -> str | None:
        if value.dtype not in (ir.DataType.FLOAT, self._half):
            return None
        if id(value) in self._large:
            return f"{value.name!r} is made of values beyond {self._precision}"
        if value.const_value is not None:
            array = np.abs(value.const_value.numpy())
            peak = float(array[np.isfinite(array)].max(initial=0.0))
        else:
            peak = max(map(abs, self._ranges.get(value.name or "", (0.0, 0.0))))
        limit = LARGEST[self._precision]
        return f"{value.name!r} reaches {peak:.3g}, {self._precision} ends at {limit:.6g}" if peak > limit else None

    def _as(self, value: ir.Value, dtype: ir.DataType) -> ir.Value:
        """The value in that precision; cast or converted once for all its readers."""
        if value.dtype == dtype:
            return value
        key = (id(value), dtype)
        if key not in self._casts:
            weight = value.producer() is None and value.const_value is not None
            self._casts[key] = self._converted_weight(value) if weight else self._cast(value, dtype)
        return self._casts[key]

    def _converted_weight(self, value: ir.Value) -> ir.Value:
        array: NDArray[Any] = value.const_value.numpy() if value.const_value is not None else np.zeros(0)
        half = array.astype(NUMPY_TYPES[self._precision])
        self._lost += int(np.count_nonzero((half == 0) & (array != 0)))
        return constant(self._graph, f"{value.name}_{self._precision}", half, self._half)

    def _cast(self, value: ir.Value, dtype: ir.DataType) -> ir.Value:
        name = f"{value.name}_{'float32' if dtype == ir.DataType.FLOAT else self._precision}"
        node = new_node("Cast", [value], [name], [dtype], {"to": dtype.value}, value.shape)
        insert_after_maker(self._graph, value, node)
        return node.outputs[0]

    def _restore(self, value: ir.Value) -> None:
        """Gives the graph its float32 output back, under its name."""
        if value.dtype == ir.DataType.FLOAT:
            return
        restored = self._as(value, ir.DataType.FLOAT)
        name, value.name = value.name, f"{value.name}_{self._precision}"
        restored.name = name
        outputs = self._graph.graph.outputs
        for index, output in enumerate(outputs):
            if output is value:
                outputs[index] = restored
