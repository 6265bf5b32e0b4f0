"""Operators that sum int8 products, as ONNX Runtime computes them, on any accumulation: int32 sums and requantization.

Source: the operator definitions of ONNX and of ONNX Runtime's com.microsoft domain; rounding as in MLAS: the int32 sum
becomes float32, is multiplied by one float32 factor per channel, clipped, and rounded half to even.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from edgewright.targets.accumulation import Kernel, Lookup
from edgewright.targets.board import Accumulation, OperandTypes

from .convolution import Window, convolve
from .matrices import multiply

Array = NDArray[Any]
Values = Sequence[Array | None]
"""Inputs of a node in its own order; None where an optional one is left out."""

LETTERS = {"uint8": "u8", "int8": "s8"}


@dataclass(frozen=True)
class Factors:
    """How an integer tensor stands for reals."""

    scale: NDArray[np.float32]
    zero_point: NDArray[np.int32]


def operand_types(activation: Array, weight: Array) -> OperandTypes | None:
    """Their types as the accumulate table writes them; None where it has no row (s8 by u8)."""
    name = LETTERS[activation.dtype.name] + LETTERS[weight.dtype.name]
    known: dict[str, OperandTypes] = {"u8s8": "u8s8", "s8s8": "s8s8", "u8u8": "u8u8"}
    return known.get(name)


def as_written(lookup: Lookup) -> Lookup:
    """The lookup for a model that came with these operators: no optimiser has made u8 of its s8 activations."""

    def written(kernel: Kernel, operands: OperandTypes) -> Accumulation:
        return lookup("integer" if operands == "s8s8" else kernel, operands)

    return written


def saturates(lookup: Lookup, kernel: Kernel, activation: Array, weight: Array) -> bool:
    """Whether these operands go through 16 bits."""
    operands = operand_types(activation, weight)
    return operands is not None and lookup(kernel, operands) == "saturating16"


def qlinear_conv(node: onnx.NodeProto, values: Values, lookup: Lookup) -> Array:
    """QLinearConv, channels first; depthwise kernels are exact everywhere."""
    x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero = _first(values, 8)
    bias = values[8] if len(values) > 8 else None
    window = Window.of(node, x.shape, w.shape)
    depthwise = window.groups == x.shape[1] == w.shape[0]
    kernel: Kernel = "depthwise" if depthwise else "conv"
    sums = convolve(x, x_zero, w, w_zero, window, saturating=saturates(lookup, kernel, x, w))
    channels = (1, -1) + (1,) * (x.ndim - 2)
    if bias is not None:
        sums += bias.reshape(channels)
    factor = (x_scale * w_scale / y_scale).astype(np.float32).reshape(-1)
    return requantized(sums, factor.reshape(channels) if factor.size > 1 else factor.reshape(()), y_zero)


def qlinear_matmul(node: onnx.NodeProto, values: Values, lookup: Lookup) -> Array:
    """QLinearMatMul."""
    del node
    a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero = _first(values, 8)
    sums = multiply(a, a_zero, b, b_zero, saturating=saturates(lookup, "gemm", a, b))
    return requantized(sums, (a_scale * b_scale / y_scale).astype(np.float32), y_zero)


def qgemm(node: onnx.NodeProto, values: Values, lookup: Lookup) -> Array:
    """QGemm of com.microsoft: float32 where it has no output scale."""
    a, a_scale, a_zero, b, b_scale, b_zero = _first(values, 6)
    bias, y_scale, y_zero = (*values[6:], None, None, None)[:3]
    a = a.T if _integer(node, "transA") else a
    b = b.T if _integer(node, "transB") else b
    sums = multiply(a, a_zero, b, b_zero, saturating=saturates(lookup, "gemm", a, b))
    if bias is not None:
        sums += bias
    alpha = np.float32(next((item.f for item in node.attribute if item.name == "alpha"), 1.0))
    factor = (alpha * a_scale * b_scale).astype(np.float32)
    if y_scale is None or y_zero is None:
        return sums.astype(np.float32) * factor
    return requantized(sums, (factor / y_scale).astype(np.float32), y_zero)


def matmul_integer(node: onnx.NodeProto, values: Values, lookup: Lookup) -> Array:
    """MatMulInteger: int32 sums."""
    del node
    a, b = _first(values, 2)
    a_zero, b_zero = (_or_zero(value) for value in (*values[2:], None, None)[:2])
    return multiply(a, a_zero, b, b_zero, saturating=saturates(lookup, "integer", a, b))


def matmul_integer_to_float(node: onnx.NodeProto, values: Values, lookup: Lookup) -> Array:
    """MatMulIntegerToFloat of com.microsoft."""
    del node
    a, b, a_scale, b_scale = _first(values, 4)
    a_zero, b_zero, bias = (*values[4:], None, None, None)[:3]
    sums = multiply(a, _or_zero(a_zero), b, _or_zero(b_zero), saturating=saturates(lookup, "gemm", a, b))
    result = sums.astype(np.float32) * (a_scale * b_scale).astype(np.float32)
    return result if bias is None else result + bias


PRODUCTS: Mapping[str, Callable[[onnx.NodeProto, Values, Lookup], Array]] = {
    "QLinearConv": qlinear_conv,
    "QLinearMatMul": qlinear_matmul,
    "QGemm": qgemm,
    "MatMulInteger": matmul_integer,
    "MatMulIntegerToFloat": matmul_integer_to_float,
}


def requantized(sums: NDArray[np.int32], factor: NDArray[np.float32], zero_point: Array) -> Array:
    """Int32 sums as 8-bit integers."""
    limits = np.iinfo(zero_point.dtype)
    zero = int(zero_point.reshape(-1)[0])
    steps = sums.astype(np.float32)
    steps *= factor
    np.clip(steps, np.float32(limits.min - zero), np.float32(limits.max - zero), out=steps)
    np.rint(steps, out=steps)
    steps += np.float32(zero)
    return steps.astype(zero_point.dtype)


def _first(values: Values, count: int) -> list[Array]:
    """The inputs that the operator's definition requires."""
    return [value for value in values[:count] if value is not None]


def _or_zero(value: Array | None) -> Array:
    return np.zeros((), np.int32) if value is None else value


def _integer(node: onnx.NodeProto, name: str) -> int:
    return next((int(item.i) for item in node.attribute if item.name == name), 0)
