"""MatMul and Gemm with a constant weight, brought to one form: `left[..., K] x weight[K, N] (+ bias)`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from ...faults import NotQuantizable
from ..plan import WeightEncoding
from ..weights import channel_axis, is_finite, weight_array
from .rewrite import Replacement, scalar

PRODUCTS = frozenset({"MatMul", "Gemm"})
STANDARD_DOMAINS = ("", "ai.onnx")


@dataclass(frozen=True)
class Product:
    """What a node multiplies, and how its attributes bend it."""

    node: ir.Node
    left: ir.Value
    weight: NDArray[np.float32]
    """In its own shape: [K, N], or [N, K] where `transposed`."""
    transposed: bool
    alpha: float
    """Factor of the product; belongs into the weight's scales."""

    @property
    def axis(self) -> int:
        """Of the output channels in the weight's own shape."""
        return channel_axis(self.node)

    @property
    def channels(self) -> int:
        """N."""
        return int(self.weight.shape[self.axis])

    def in_order(self, array: NDArray[Any]) -> NDArray[Any]:
        """An array of the weight's own shape as [K, N]."""
        return np.ascontiguousarray(array.T) if self.transposed else array


def product_of(node: ir.Node) -> Product | str:
    """The product that a MatMul or Gemm computes, or why its weight cannot be stored as integers."""
    if node.op_type not in PRODUCTS or node.domain not in STANDARD_DOMAINS:
        return f"{node.op_type} is no product with a weight"
    left, array = node.inputs[0], weight_array(node)
    if left is None or left.const_value is not None:
        return "its left operand is the constant one"
    if array is None:
        return "it multiplies two computed tensors"
    if array.ndim != 2:
        return f"its weight has rank {array.ndim}; only matrices are multiplied in integers"
    if array.size == 0:
        return "its weight is empty"
    if not is_finite(array):
        return "its weight is not finite everywhere"
    attributes = node.attributes
    gemm = node.op_type == "Gemm"
    return Product(
        node=node,
        left=left,
        weight=array,
        transposed=gemm and attributes.get_int("transB", 0) != 0,
        alpha=attributes.get_float("alpha", 1.0) if gemm else 1.0,
    )


def check_axis(product: Product, encoding: WeightEncoding) -> None:
    """Raises NotQuantizable where a plan that people edited has scales along another axis than the output channels."""
    if encoding.axis not in (None, product.axis) or (encoding.block_size is not None and encoding.axis is None):
        raise NotQuantizable(
            f"operator {product.node.name!r}: the plan has weight scales along axis {encoding.axis}, but its output "
            f"channels are axis {product.axis}"
        )


def left_operand(product: Product, replacement: Replacement) -> ir.Value:
    """What is multiplied, transposed first where the node says so."""
    node = product.node
    if node.op_type == "Gemm" and node.attributes.get_int("transA", 0) != 0:
        return replacement.call("Transpose", [product.left], "left", attributes={"perm": [1, 0]})
    return product.left


def flat_bias(product: Product) -> NDArray[np.float32] | None:
    """The constant bias times beta as one number per channel; None where there is none, or where it has rows."""
    addend = _addend(product.node)
    if addend is None or addend.const_value is None:
        return None
    array = addend.const_value.numpy()
    if array.size not in (1, product.channels) or (array.ndim == 2 and array.shape[0] != 1):
        return None
    beta = product.node.attributes.get_float("beta", 1.0)
    return np.array(np.broadcast_to(array.reshape(-1) * np.float32(beta), (product.channels,)), dtype=np.float32)


def add_rows(product: Product, result: ir.Value, replacement: Replacement) -> ir.Value:
    """Adds a Gemm's third input times beta where it is not a flat bias."""
    addend = _addend(product.node)
    if addend is None or flat_bias(product) is not None:
        return result
    beta = product.node.attributes.get_float("beta", 1.0)
    if beta != 1.0:
        factor = replacement.constant("beta", scalar(beta))
        addend = replacement.call("Mul", [addend, factor], "addend")
    return replacement.call("Add", [result, addend], "sum")


def _addend(node: ir.Node) -> ir.Value | None:
    return node.inputs[2] if node.op_type == "Gemm" and len(node.inputs) > 2 else None
