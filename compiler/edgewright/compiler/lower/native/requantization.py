"""Requantization as an expression: the one form that lowering writes and int8 kernels know by sight.

Source: ONNX Runtime's MLAS (`MlasRequantizeOutput`): the int32 sum becomes float32, is multiplied by one float32
factor, clipped, and rounded half to even; then the zero point is added.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .expression import Accumulator, Call, Expression, Row, Scalar, call
from .net import Array, Dtype, Epilogue

LIMITS: dict[Dtype, tuple[int, int]] = {"u8": (0, 255), "s8": (-128, 127)}
MAX_STEPS = 2.0**30
"""Below this, a float32 becomes an int32 and takes a zero point without overflow."""


def rounded(steps: Expression, zero_point: int, dtype: Dtype) -> Expression:
    """Steps (f32) as integers of a type: clipped, rounded half to even, moved to the zero point; s32."""
    low, high = (float(limit - zero_point) for limit in LIMITS[dtype])
    clipped = call("min", call("max", steps, Scalar(low)), Scalar(high))
    return call("iadd", call("to_s32_even", clipped), Scalar(zero_point, "s32"))


def requantized(total: Expression, factor: Expression, zero_point: int, dtype: Dtype) -> Expression:
    """An int32 sum as integers of a type; s32."""
    return rounded(call("mul", call("to_f32", total), factor), zero_point, dtype)


@dataclass(frozen=True, eq=False)
class Requantization:
    """An epilogue that does nothing but add a bias and requantize, to the full range of its type."""

    bias: Array
    """int32, one per output channel."""
    factor: Array
    """float32, one per output channel."""
    zero_point: int


def requantization(epilogue: Epilogue, channels: int, dtype: Dtype, largest: float) -> Requantization | None:
    """What an epilogue does, where it only requantizes and no step needs the clipping before rounding.

    `largest` is a bound of the sum's magnitude, the bias left out.
    """
    match epilogue.value:
        case Call("iadd", (Call("to_s32_even", (clipped,)), Scalar(zero, "s32"))):
            zero_point = int(zero)
        case _:
            return None
    if dtype not in LIMITS:
        return None
    low, high = (float(limit - zero_point) for limit in LIMITS[dtype])
    match clipped:
        case Call(
            "min", (Call("max", (Call("mul", (Call("to_f32", (total,)), factor)), Scalar(below))), Scalar(above))
        ):
            if (below, above) != (low, high) or not isinstance(factor, Row | Scalar):
                return None
        case _:
            return None
    bias = _bias(total, epilogue, channels)
    if bias is None:
        return None
    factors = _constant(factor, epilogue, channels, np.float32)
    bound = (largest + np.abs(bias.astype(np.float64))) * np.abs(factors.astype(np.float64))
    finite = bool(np.isfinite(bound).all()) and bound.max(initial=0) < MAX_STEPS
    return (
        Requantization(bias, factors, zero_point) if finite and largest + np.abs(bias).max(initial=0) < 2**31 else None
    )


def _bias(total: Expression, epilogue: Epilogue, channels: int) -> Array | None:
    match total:
        case Accumulator("s32"):
            return np.zeros(channels, np.int32)
        case Call("iadd", (Accumulator("s32"), (Row() | Scalar()) as leaf)):
            return _constant(leaf, epilogue, channels, np.int32)
        case _:
            return None


def _constant(leaf: Row | Scalar, epilogue: Epilogue, channels: int, kind: type) -> Array:
    if isinstance(leaf, Row):
        return epilogue.rows[leaf.index].astype(kind)
    return np.full(channels, leaf.value, kind)
