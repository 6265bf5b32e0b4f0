"""Which nodes of a QDQ graph an engine computes in integers: those between a dequantizer and a quantizer."""

from __future__ import annotations

import onnx_ir as ir

_INTEGER_ENDS = frozenset({"Conv", "Gemm", "MatMul", "Relu", "Clip"})
"""Operators that stay integer although what follows them is not quantized at once."""


def is_boundary(node: ir.Node) -> bool:
    """Whether the node only changes the representation of numbers."""
    return node.op_type in {"QuantizeLinear", "DequantizeLinear"}


def computes_in_integers(node: ir.Node) -> bool:
    """Whether an engine fuses the node with the quantizers around it."""
    producers = [value.producer() for value in node.inputs if value is not None]
    dequantized = any(producer is not None and producer.op_type == "DequantizeLinear" for producer in producers)
    requantized = any(use.node.op_type == "QuantizeLinear" for value in node.outputs for use in value.uses())
    return not is_boundary(node) and dequantized and (requantized or node.op_type in _INTEGER_ENDS)
