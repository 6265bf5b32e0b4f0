"""Which operators have integer kernels, and on which conditions. Facts: ONNX Runtime 1.31, QDQ groups on the CPU."""

from __future__ import annotations

from typing import Final

import onnx_ir as ir

from ..clamp import bounds_of
from .hard_sigmoid import is_addition
from .weights import weight_array

PRODUCTS: Final = frozenset({"Conv", "Gemm", "MatMul"})
"""Sums of products: where int8 saves time."""
OPTIONAL_OUTPUT: Final = frozenset({"Gemm", "MatMul"})
"""Products whose kernels can give float results at no cost; the others must round theirs."""
POINTWISE: Final = frozenset({"Add", "Mul", "LeakyRelu", "Sigmoid", "HardSigmoid", "Concat"})
POOLS: Final = frozenset({"AveragePool", "GlobalAveragePool"})
"""Worth keeping as the last integer operator of a chain: they make the tensor small."""
MOVEMENTS: Final = frozenset(
    {"MaxPool", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Slice", "Split", "Gather", "DepthToSpace"}
)
"""They move values and compute none: what goes in and what comes out share one encoding."""
ACTIVATIONS: Final = frozenset({"Relu", "Clip"})
"""Rounding to a range that ends where they end does their work, so they vanish into what comes before."""

INPUT_NORMALIZATION_PREFIX: Final = "edgewright_"
"""Nodes that scale raw input stay float; the first rounding comes after them."""


def has_integer_kernel(node: ir.Node) -> bool:
    """Whether the operator, with these attributes and weights, can compute in int8."""
    if node.domain not in ("", "ai.onnx") or (node.name or "").startswith(INPUT_NORMALIZATION_PREFIX):
        return False
    if any(value is not None and value.dtype not in {ir.DataType.FLOAT, None} for value in node.inputs[:1]):
        return False
    if node.op_type == "Conv":
        return weight_array(node) is not None
    if node.op_type == "Gemm":
        return _plain_gemm(node)
    if node.op_type == "MatMul":
        return _plain_matmul(node)
    if node.op_type == "MaxPool":
        return len(node.outputs) == 1 and node.attributes.get_int("storage_order", 0) == 0
    if node.op_type == "HardSigmoid":
        return is_addition(node)
    return node.op_type in POINTWISE | POOLS | MOVEMENTS


def _plain_gemm(node: ir.Node) -> bool:
    attributes = node.attributes
    scaled = attributes.get_float("alpha", 1.0) != 1.0 or attributes.get_float("beta", 1.0) != 1.0
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    flat_bias = bias is None or (bias.const_value is not None and len(bias.const_value.shape) == 1)
    return weight_array(node) is not None and not attributes.get_int("transA", 0) and not scaled and flat_bias


def _plain_matmul(node: ir.Node) -> bool:
    """Constant matrices, or two activations; constants on the left have no kernel."""
    left = node.inputs[0]
    weight = weight_array(node)
    right = node.inputs[1]
    computed = right is not None and right.const_value is None
    return left is not None and left.const_value is None and (computed or (weight is not None and weight.ndim == 2))


def absorbed_activation(node: ir.Node) -> ir.Node | None:
    """The Relu or Clip that is this node's only reader and that rounding can replace, or None."""
    if node.op_type not in PRODUCTS | {"Add"}:
        return None
    result = node.outputs[0]
    uses = list(result.uses())
    if len(uses) != 1 or result.is_graph_output():
        return None
    reader = uses[0].node
    if reader.op_type not in ACTIVATIONS or uses[0].idx != 0 or reader.graph is not node.graph:
        return None
    bounds = bounds_of(reader)
    return reader if bounds is not None and bounds[0] <= 0 <= bounds[1] else None


def activations_of(node: ir.Node) -> list[ir.Value]:
    """The inputs that hold data of the sample (and constants added to or multiplied with it): what is rounded."""
    count = {"Conv": 1, "Gemm": 1, "MatMul": 1 if weight_array(node) is not None else 2}.get(node.op_type)
    if count is None:
        count = len(node.inputs) if node.op_type in {"Add", "Mul", "Concat"} else 1
    return [value for value in node.inputs[:count] if value is not None]
