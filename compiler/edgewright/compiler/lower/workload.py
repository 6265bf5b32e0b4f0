"""The work of one inference, operator by operator, for `targets.cost`, and the memory it takes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import onnx
import onnx_ir as ir

from edgewright.bundle.manifest import Precision
from edgewright.targets.cost import OperatorCost, OperatorKind, Workload

from ..graph import Graph, clone, from_proto, to_proto
from ..quantize.placement import computes_in_integers

FREE = frozenset({"Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity", "Cast"})
"""Operators that an engine removes or fuses away."""
FUSED = frozenset({"Relu", "Clip", "LeakyRelu"})
"""Activations that run inside the operator before them."""
LOOKUPS = frozenset({"Gather", "GatherElements", "GatherND"})
"""They read the rows that are asked for, not the whole table."""
QUANTIZERS = frozenset({"QuantizeLinear", "DequantizeLinear"})
RECURRENT = frozenset({"LSTM", "GRU", "RNN"})
BYTES: dict[Precision, int] = {"float32": 4, "float16": 2, "bfloat16": 2, "int8": 1}

Shapes = Mapping[str, tuple[int, ...]]
"""What one call takes, by input."""


@dataclass(frozen=True)
class Memory:
    """Bytes of one loaded model."""

    weight_bytes: int
    peak_activation_bytes: int


def at_size(graph: Graph, shapes: Shapes | None = None) -> Graph:
    """A copy with every free dimension set to that of the call, or to one, and all shapes inferred.

    It is to be counted, not run: quantizers of 16 bits lose the domain that they have below opset 21.
    """
    fixed = clone(graph)
    for value in fixed.graph.inputs:
        if value.shape is not None:
            given = (shapes or {}).get(value.name or "", (1,) * len(value.shape))
            sizes = zip(value.shape, given, strict=True)
            value.shape = ir.Shape([dim if isinstance(dim, int) else size for dim, size in sizes])
    proto = to_proto(fixed)
    del proto.graph.value_info[:]
    for output in proto.graph.output:
        output.type.tensor_type.ClearField("shape")
    for node in proto.graph.node:
        if node.op_type in QUANTIZERS:
            node.domain = ""  # inference knows no other one, and shapes behind it would be lost
    return from_proto(onnx.shape_inference.infer_shapes(proto, data_prop=True))


def workload(graph: Graph, shapes: Shapes | None = None) -> dict[Precision, Workload]:
    """The operators of a float or a QDQ graph, by the precision that they compute in."""
    parts: dict[Precision, list[OperatorCost]] = {}
    for node in at_size(graph, shapes).graph:
        if node.op_type in FREE or node.op_type in FUSED or _is_fused(node):
            continue
        precision: Precision = "int8" if computes_in_integers(node) else "float32"
        parts.setdefault(precision, []).append(_cost(node, BYTES[precision]))
    return {precision: Workload(operators=tuple(costs)) for precision, costs in parts.items()} or {
        "float32": Workload(operators=())
    }


def operator_costs(fixed: Graph, precision: Precision) -> dict[str, OperatorCost]:
    """The work of every operator that takes time, by node name, if all computed in one precision.

    `fixed` is a float graph as `at_size` gives it.
    """
    timed = [node for node in fixed.graph if node.op_type not in FREE and node.op_type not in FUSED]
    return {node.name or "": _cost(node, BYTES[precision]) for node in timed}


def _is_fused(node: ir.Node) -> bool:
    """Whether a (de)quantizer disappears into its neighbour; it stays where float and integers meet."""
    if node.op_type == "DequantizeLinear":
        result = node.outputs[0]
        read_by_integers = all(computes_in_integers(use.node) for use in result.uses())
        return _is_weight(node.inputs[0]) or (read_by_integers and not result.is_graph_output())
    if node.op_type == "QuantizeLinear":
        maker = node.inputs[0].producer() if node.inputs[0] is not None else None
        return maker is not None and computes_in_integers(maker)
    return False


def memory(graph: Graph, bytes_per_value: int = BYTES["float32"], shapes: Shapes | None = None) -> Memory:
    """Weights, and the most that is alive at once when nodes run in order."""
    fixed = at_size(graph, shapes)
    weights = sum(_elements(value) for value in fixed.graph.initializers.values()) * bytes_per_value
    order = list(fixed.graph)
    last_use = {id(value): index for index, node in enumerate(order) for value in node.inputs if value is not None}
    alive = {id(value): _elements(value) for value in fixed.graph.inputs}
    peak = sum(alive.values())
    for index, node in enumerate(order):
        alive.update({id(value): _elements(value) for value in node.outputs})
        peak = max(peak, sum(alive.values()))
        for value in node.inputs:
            if value is not None and last_use.get(id(value)) == index and not value.is_graph_output():
                alive.pop(id(value), None)
    return Memory(weight_bytes=weights, peak_activation_bytes=peak * bytes_per_value)


def _cost(node: ir.Node, bytes_per_value: int) -> OperatorCost:
    present = [value for value in node.inputs if value is not None]
    read = sum(_elements(value) for value in present if _is_weight(value))
    if node.op_type in LOOKUPS:
        read = min(read, _elements(node.outputs[0]))
    moved = [*(value for value in present if not _is_weight(value)), *node.outputs]
    return OperatorCost(
        kind=_kind(node),
        macs=_macs(node),
        weight_bytes=read * bytes_per_value,
        activation_bytes=sum(_elements(value) for value in moved) * bytes_per_value,
    )


def _is_weight(value: ir.Value | None) -> bool:
    """Whether the value is a constant, or one that is dequantized on the spot."""
    if value is None:
        return False
    maker = value.producer()
    if maker is not None and maker.op_type == "DequantizeLinear":
        return _is_weight(maker.inputs[0])
    return value.const_value is not None


def _kind(node: ir.Node) -> OperatorKind:
    if node.op_type in {"Conv", "ConvTranspose"}:
        groups = node.attributes.get_int("group", 1)
        weight = _shape(node.inputs[1])
        return "depthwise" if groups > 1 and len(weight) > 1 and weight[1] <= 4 else "conv"
    return "matmul" if node.op_type in {"Gemm", "MatMul"} or node.op_type in RECURRENT else "other"


def _macs(node: ir.Node) -> int:
    result = _elements(node.outputs[0])
    if node.op_type == "Conv":
        return result * math.prod(_shape(node.inputs[1])[1:])
    if node.op_type == "ConvTranspose":
        return _elements(node.inputs[0]) * math.prod(_shape(node.inputs[1])[1:])
    if node.op_type == "MatMul":
        return result * (_shape(node.inputs[0]) or (1,))[-1]
    if node.op_type == "Gemm":
        left = _shape(node.inputs[0])
        return result * (left[0] if node.attributes.get_int("transA", 0) else left[-1]) if left else result
    if node.op_type in RECURRENT:
        steps, samples = (_shape(node.inputs[0]) or (1, 1))[:2]
        return steps * samples * sum(_elements(value) for value in node.inputs[1:3])
    return 0


def _shape(value: ir.Value | None) -> tuple[int, ...]:
    if value is None or value.shape is None:
        return ()
    return tuple(dim if isinstance(dim, int) else 1 for dim in value.shape)


def _elements(value: ir.Value | None) -> int:
    return math.prod(_shape(value))
