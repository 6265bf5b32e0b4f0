"""Matrix products of 8-bit integers: exact int32 sums, or those of kernels whose pairs saturate."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgewright.targets.accumulation import neighbours

from .pairs import subtract_excess

Array = NDArray[Any]


def multiply(a: Array, a_zero: Array, b: Array, b_zero: Array, *, saturating: bool) -> NDArray[np.int32]:
    """`(a - a_zero) @ (b - b_zero)` with the shapes of numpy.matmul, zero points as in MatMulInteger.

    Float64 holds every sum exactly.
    """
    left = a.astype(np.float64) - _rowwise(a_zero)
    right = b.astype(np.float64) - b_zero
    sums: NDArray[np.int32] = np.matmul(left, right).astype(np.int32)
    if saturating and sums.size:
        _saturate(sums, as_unsigned(a), b.astype(np.int32))
    return sums


def as_unsigned(activation: Array) -> NDArray[np.int32]:
    """Raw u8 values as the kernel sees them: signed ones are moved up by 128, which changes no exact sum."""
    return activation.astype(np.int32) + (128 if activation.dtype == np.int8 else 0)


def _rowwise(zero_point: Array) -> Array:
    return zero_point.astype(np.float64)[..., None] if zero_point.ndim and zero_point.size > 1 else zero_point


def _saturate(sums: NDArray[np.int32], a: NDArray[np.int32], b: NDArray[np.int32]) -> None:
    pairs = neighbours(a.shape[-1], 1)
    if b.ndim == 2:
        rows = sums.reshape(-1, sums.shape[-1])
        columns = np.ascontiguousarray(a.reshape(-1, a.shape[-1]).T)
        subtract_excess(rows, columns.__getitem__, b, pairs, columns.max(axis=1))
        return
    stack = sums.shape[:-2]
    lefts = np.broadcast_to(a, (*stack, *a.shape[-2:]))
    rights = np.broadcast_to(b, (*stack, *b.shape[-2:]))
    for index in np.ndindex(*stack):
        columns = np.ascontiguousarray(lefts[index].T)
        subtract_excess(sums[index], columns.__getitem__, rights[index], pairs, columns.max(axis=1))
