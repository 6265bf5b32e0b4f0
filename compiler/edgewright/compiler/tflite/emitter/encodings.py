"""Scales and zero points as TFLite has them: activations are signed, weights symmetric.

A uint8 tensor with zero point z holds the same values as an int8 tensor with zero point z - 128 whose integers are 128
less, so what a graph keeps in uint8 moves without loss.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import onnx_ir as ir

from ...attributes import given, integer
from ..file.model import Array, Quantization

SHIFT: Final = {"uint8": 128, "uint16": 32768, "int8": 0, "int16": 0, "int32": 0}
SIGNED: Final = {"uint8": "int8", "uint16": "int16", "int8": "int8", "int16": "int16", "int32": "int32"}
TYPES: Final = {"int8": "INT8", "int16": "INT16", "int32": "INT32"}


@dataclass(frozen=True)
class Encoding:
    """What a QuantizeLinear or DequantizeLinear says, in signed integers."""

    kind: str
    """`int8`, `int16`, or `int32` for a bias."""
    quantization: Quantization
    shift: int
    """What was taken off the integers to make them signed."""

    @property
    def type(self) -> str:
        """The tensor's type."""
        return TYPES[self.kind]

    @property
    def low(self) -> float:
        """The smallest value that it holds (of the first channel)."""
        return (np.iinfo(self.kind).min - self.quantization.zero_points[0]) * self.quantization.scales[0]

    @property
    def high(self) -> float:
        """The largest value that it holds (of the first channel)."""
        return (np.iinfo(self.kind).max - self.quantization.zero_points[0]) * self.quantization.scales[0]


def encoding_of(node: ir.Node, kind: str, rank: int) -> Encoding | None:
    """Of a QuantizeLinear or DequantizeLinear on integers of this numpy type; None where it has no form in TFLite."""
    scale_value, zero_value = given(node, 1), given(node, 2)
    scale = None if scale_value is None else scale_value.const_value
    if scale is None or kind not in SIGNED or (zero_value is not None and zero_value.const_value is None):
        return None
    scales: Array = np.atleast_1d(scale.numpy().astype(np.float32))
    zeros = np.zeros(scales.shape, np.int64)
    if zero_value is not None and zero_value.const_value is not None:
        zeros = np.atleast_1d(zero_value.const_value.numpy()).astype(np.int64)
    if scales.ndim != 1 or integer(node, "block_size", 0):
        return None
    axis = integer(node, "axis", 1)
    zero_points = tuple(int(zero) - SHIFT[kind] for zero in np.broadcast_to(zeros, scales.shape))
    quantization = Quantization(
        tuple(float(each) for each in scales), zero_points, axis % rank if len(scales) > 1 and rank else 0
    )
    return Encoding(SIGNED[kind], quantization, SHIFT[kind])


def encoding_given(quantizer: ir.Node, rank: int) -> Encoding | None:
    """Of what a QuantizeLinear gives, a value of this rank; None where it has no form in TFLite."""
    zero = given(quantizer, 2)
    kind = "uint8" if zero is None or zero.const_value is None else zero.const_value.numpy().dtype.name
    return encoding_of(quantizer, kind, rank)


def signed(integers: Array, encoding: Encoding) -> Array:
    """Integers of a graph as TFLite stores them."""
    moved: Array = (integers.astype(np.int64) - encoding.shift).astype(encoding.kind)
    return moved
