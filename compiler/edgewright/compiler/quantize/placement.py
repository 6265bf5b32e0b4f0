"""Which nodes of a QDQ graph an engine computes in integers: those between a dequantizer and a quantizer."""

from __future__ import annotations

import onnx_ir as ir

_INTEGER_ENDS = frozenset({"Conv", "Gemm", "MatMul", "Relu", "Clip"})
"""Operators that stay integer although what follows them is not quantized at once."""
RESTORED_WEIGHTS = frozenset({"Conv", "Gemm", "MatMul"})
"""Operators whose weight must be integers too: with a float one they compute in float whatever is around them."""


def is_boundary(node: ir.Node) -> bool:
    """Whether the node only changes the representation of numbers."""
    return node.op_type in {"QuantizeLinear", "DequantizeLinear"}


def computes_in_integers(node: ir.Node) -> bool:
    """Whether an engine fuses the node with the quantizers around it."""
    if is_boundary(node) or (node.op_type in RESTORED_WEIGHTS and not all(map(_is_restored, node.inputs[:2]))):
        return False
    computed = [value for value in node.inputs if value is not None and value.const_value is None]
    readers = [use.node for value in node.outputs for use in value.uses()]
    requantized = bool(readers) and all(reader.op_type == "QuantizeLinear" for reader in readers)
    dequantized = bool(computed) and all(map(_is_restored, computed))
    return dequantized and (requantized or node.op_type in _INTEGER_ENDS)


def _is_restored(value: ir.Value | None) -> bool:
    """Whether the value comes from integers of 8 bits or less; no kernel here takes wider ones."""
    maker = None if value is None else value.producer()
    if maker is None or maker.op_type != "DequantizeLinear":
        return False
    integers = {each.dtype for each in (maker.inputs[0], *maker.inputs[2:3]) if each is not None}
    return integers.isdisjoint({ir.DataType.INT16, ir.DataType.UINT16})
