"""Which nodes of a QDQ graph an engine computes in integers: those between a dequantizer and a quantizer."""

from __future__ import annotations

import onnx_ir as ir

from .capability import ACTIVATIONS, MOVEMENTS, POINTWISE, POOLS, PRODUCTS

_INTEGER_ENDS = frozenset({"Conv", "Gemm", "MatMul"}) | ACTIVATIONS
"""Operators that stay integer although what follows them is not quantized at once."""
_INTEGER_KERNELS = (PRODUCTS | POINTWISE | POOLS | MOVEMENTS | ACTIVATIONS | {"Softmax", "Where", "Expand"}) - {
    "HardSigmoid"
}
"""Operators that ONNX Runtime fuses with the quantizers around them; all others compute in float between them."""
RESTORED_WEIGHTS = frozenset({"Conv", "Gemm", "MatMul"})
"""Operators whose weight must be integers too: with a float one they compute in float whatever is around them."""


def is_boundary(node: ir.Node) -> bool:
    """Whether the node only changes the representation of numbers."""
    return node.op_type in {"QuantizeLinear", "DequantizeLinear"}


def computes_in_integers(node: ir.Node) -> bool:
    """Whether an engine fuses the node with the quantizers around it."""
    if not _has_kernel(node) or (node.op_type in RESTORED_WEIGHTS and not all(map(_is_restored, node.inputs[:2]))):
        return False
    computed = [value for value in node.inputs if value is not None and value.const_value is None]
    readers = [use.node for value in node.outputs for use in value.uses()]
    if any(map(_is_widened, readers)):
        return False
    requantized = bool(readers) and all(reader.op_type == "QuantizeLinear" for reader in readers)
    dequantized = bool(computed) and all(map(_is_restored, computed))
    return dequantized and (requantized or node.op_type in _INTEGER_ENDS)


def _has_kernel(node: ir.Node) -> bool:
    nearest = node.op_type == "Resize" and node.attributes.get_string("mode", "nearest") == "nearest"
    return nearest or node.op_type in _INTEGER_KERNELS


def _is_restored(value: ir.Value | None) -> bool:
    """Whether the value comes from integers of 8 bits or less; no kernel here takes wider ones."""
    maker = None if value is None else value.producer()
    if maker is None or maker.op_type != "DequantizeLinear":
        return False
    return not _is_wide(maker)


def _is_widened(reader: ir.Node) -> bool:
    """Whether a reader rounds to 16 bits, behind its activation or at once: no kernel here gives so many."""
    if reader.op_type in ACTIVATIONS:
        return any(_is_widened(use.node) for use in reader.outputs[0].uses())
    return reader.op_type == "QuantizeLinear" and _is_wide(reader)


def _is_wide(boundary: ir.Node) -> bool:
    integers = {each.dtype for each in (boundary.inputs[0], *boundary.inputs[2:3]) if each is not None}
    return not integers.isdisjoint({ir.DataType.INT16, ir.DataType.UINT16})
