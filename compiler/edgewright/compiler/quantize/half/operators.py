"""What half precision means for single operators: which stay float32, which slots take it, which attributes name it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from ...graph import Graph

_SUMS = "long sums leave half precision or lose their small terms"
_POWERS = "powers leave half precision"
FLOAT_OPERATORS: Final[dict[str, str]] = {
    **dict.fromkeys(("ReduceSum", "ReduceMean", "ReduceSumSquare", "ReduceL1", "ReduceL2", "CumSum"), _SUMS),
    **dict.fromkeys(("ReduceLogSum", "ReduceLogSumExp", "ReduceProd", "Exp", "Pow"), _POWERS),
    **dict.fromkeys(("InstanceNormalization", "LpNormalization", "MeanVarianceNormalization"), _SUMS),
    "Range": "integers above 2048 are not exact in float16",
}
BOUNDED: Final = frozenset(
    {"Softmax", "Sigmoid", "HardSigmoid", "Tanh", "Erf", "Softsign", "LayerNormalization", "Greater", "Less", "Equal"}
    | {"GreaterOrEqual", "LessOrEqual", "Sign", "IsInf", "IsNaN", "ArgMax", "ArgMin"}
)
"""Whatever they read, what they give is small."""

TENSOR_NAMES: Final = {ir.DataType.FLOAT16: "tensor(float16)", ir.DataType.BFLOAT16: "tensor(bfloat16)"}
GRAPH_ATTRIBUTES: Final = (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS)
RANDOM: Final = frozenset({"RandomNormal", "RandomUniform"})
"""Their `dtype` is float32 where it is not given; elsewhere it is that of the input."""

Slots = tuple[frozenset[int], frozenset[int]]


def has_subgraph(node: ir.Node) -> bool:
    """Whether the node is control flow."""
    return any(attribute.type in GRAPH_ATTRIBUTES for attribute in node.attributes.values())


def why_float(node: ir.Node, graph: Graph, half: ir.DataType) -> str | None:
    """Why an operator stays float32 whatever its values are, or None."""
    if node.domain not in ("", "ai.onnx"):
        return f"operators of {node.domain} have no schema to go by"
    if node.op_type in FLOAT_OPERATORS:
        return FLOAT_OPERATORS[node.op_type]
    takes, gives = slots(node, graph, half)
    floats = [value for value in (*node.inputs, *node.outputs) if value is not None]
    if takes or gives or not any(value.dtype in (ir.DataType.FLOAT, half) for value in floats):
        return None
    return f"{node.op_type} is not defined for {TENSOR_NAMES[half]}"


def slots(node: ir.Node, graph: Graph, half: ir.DataType) -> Slots:
    """Which inputs take, and which outputs give, half precision where they were float32, by the operator's schema."""
    schema = onnx.defs.get_schema(node.op_type, graph.opset_imports.get("", 1), "")
    kinds = (ir.DataType.FLOAT, half)
    takes = _allowed(schema.inputs, len(node.inputs), TENSOR_NAMES[half])
    gives = _allowed(schema.outputs, len(node.outputs), TENSOR_NAMES[half])
    read = {index for index, value in enumerate(node.inputs) if value is not None and value.dtype in kinds}
    made = {index for index, value in enumerate(node.outputs) if value.dtype in kinds}
    return frozenset(read & takes), frozenset(made & gives)


def _allowed(parameters: Sequence[onnx.defs.OpSchema.FormalParameter], count: int, kind: str) -> set[int]:
    """Indices whose parameter has this type among its types; the last parameter stands for all that follow."""
    found = set()
    for index in range(count):
        parameter = parameters[min(index, len(parameters) - 1)]
        if kind in parameter.types:
            found.add(index)
    return found


def attributes_in_half(node: ir.Node, half: ir.DataType) -> None:
    """Changes the attributes of a node, in place, that say float32: those of Cast, constants and random numbers."""
    attributes = node.attributes
    if node.op_type == "Cast" and attributes.get_int("to", 0) == ir.DataType.FLOAT:
        attributes["to"] = ir.AttrInt64("to", half.value)
    elif node.op_type == "ConstantOfShape":
        tensor = attributes.get_tensor("value", None)
        if tensor is None or tensor.dtype == ir.DataType.FLOAT:
            value = np.zeros(1, np.float32) if tensor is None else tensor.numpy()
            attributes["value"] = ir.AttrTensor("value", in_half(value, half))
    elif node.op_type == "Constant":
        _constant_in_half(node, half)
    elif "dtype" in attributes or node.op_type in RANDOM:
        _dtype_in_half(node, half)


def _dtype_in_half(node: ir.Node, half: ir.DataType) -> None:
    if node.attributes.get_int("dtype", ir.DataType.FLOAT.value) == ir.DataType.FLOAT:
        node.attributes["dtype"] = ir.AttrInt64("dtype", half.value)


def _constant_in_half(node: ir.Node, half: ir.DataType) -> None:
    for name in ("value", "value_float", "value_floats"):
        attribute = node.attributes.get(name)
        if attribute is None:
            continue
        array = attribute.value.numpy() if name == "value" else np.asarray(attribute.value, dtype=np.float32)
        if array.dtype == np.float32:
            del node.attributes[name]
            node.attributes["value"] = ir.AttrTensor("value", in_half(array, half))


def in_half(array: NDArray[np.float32], half: ir.DataType) -> ir.TensorProtocol:
    """A tensor rounded to half precision."""
    return ir.tensor(array.astype(half.numpy()), dtype=half)
