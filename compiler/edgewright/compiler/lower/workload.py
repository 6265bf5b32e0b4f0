"""The work of one inference, operator by operator, for `targets.cost`, and the memory it takes."""

from __future__ import annotations

import math
from dataclasses import dataclass

import onnx
import onnx_ir as ir

from edgewright.targets.cost import OperatorCost, OperatorKind, Workload

from ..graph import Graph, clone, from_proto, to_proto

FREE = frozenset(
    {"Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity", "QuantizeLinear", "DequantizeLinear", "Cast"}
)
"""Operators that an engine removes or fuses away."""
FUSED = frozenset({"Relu", "Clip", "LeakyRelu"})
"""Activations that run inside the operator before them."""
FLOAT_BYTES = 4


@dataclass(frozen=True)
class Memory:
    """Bytes of one loaded model."""

    weight_bytes: int
    peak_activation_bytes: int


def at_batch_one(graph: Graph) -> Graph:
    """A copy with every free dimension set to one and all shapes inferred."""
    fixed = clone(graph)
    for value in fixed.graph.inputs:
        if value.shape is not None:
            value.shape = ir.Shape([dim if isinstance(dim, int) else 1 for dim in value.shape])
    proto = to_proto(fixed)
    del proto.graph.value_info[:]
    for output in proto.graph.output:
        output.type.tensor_type.ClearField("shape")
    return from_proto(onnx.shape_inference.infer_shapes(proto, data_prop=True))


def workload(graph: Graph, bytes_per_value: int = FLOAT_BYTES) -> Workload:
    """The operators of the float graph; `bytes_per_value` is 1 where it runs in int8."""
    fixed = at_batch_one(graph)
    operators = tuple(
        _cost(node, bytes_per_value) for node in fixed.graph if node.op_type not in FREE and node.op_type not in FUSED
    )
    return Workload(operators=operators)


def memory(graph: Graph, bytes_per_value: int = FLOAT_BYTES) -> Memory:
    """Weights, and the most that is alive at once when nodes run in order."""
    fixed = at_batch_one(graph)
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
    weights = [value for value in node.inputs if value is not None and value.const_value is not None]
    moved = [value for value in (*node.inputs, *node.outputs) if value is not None and value.const_value is None]
    return OperatorCost(
        kind=_kind(node),
        macs=_macs(node),
        weight_bytes=sum(_elements(value) for value in weights) * bytes_per_value,
        activation_bytes=sum(_elements(value) for value in moved) * bytes_per_value,
    )


def _kind(node: ir.Node) -> OperatorKind:
    if node.op_type in {"Conv", "ConvTranspose"}:
        groups = node.attributes.get_int("group", 1)
        weight = _shape(node.inputs[1])
        return "depthwise" if groups > 1 and len(weight) > 1 and weight[1] <= 4 else "conv"
    return "matmul" if node.op_type in {"Gemm", "MatMul"} else "other"


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
    return 0


def _shape(value: ir.Value | None) -> tuple[int, ...]:
    if value is None or value.shape is None:
        return ()
    return tuple(dim if isinstance(dim, int) else 1 for dim in value.shape)


def _elements(value: ir.Value | None) -> int:
    return math.prod(_shape(value))
