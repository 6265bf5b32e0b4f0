"""Integer weights whose pairs cannot overflow 16 bits, whatever activations up to known peaks they meet.

`vpmaddubsw` adds two neighbouring u8*s8 products in 16 bits. Two weights of opposite signs never overflow; two of the
same sign do where |w1| * peak1 + |w2| * peak2 > 32767. Such a pair gives up its excess in equal parts, measured in the
products, which is the smallest change of the sum where both activations are near their peaks.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgewright.targets.accumulation import neighbours

from .balanced_rounding import LARGEST, balanced

LIMIT = 32767
MATRIX_RANK = 2
Integers = NDArray[np.int32]


def as_matrix(weight_shape: tuple[int, ...], axis: int, peaks: tuple[int, ...]) -> tuple[Integers, int]:
    """The peaks that each weight meets, and the number of kernel positions.

    Args:
        weight_shape: (outputs, inputs / groups, *kernel) of a convolution, or the two axes of a matrix.
        axis: of the output channels.
        peaks: one per input channel of the operator.

    Returns:
        (outputs, terms): peaks in the order of the weight with its output axis in front and the rest flattened.
    """
    outputs = weight_shape[axis]
    if len(weight_shape) == MATRIX_RANK:
        return np.broadcast_to(np.asarray(peaks, np.int32), (outputs, len(peaks))), 1
    inside = weight_shape[1]
    positions = int(np.prod(weight_shape[2:]))
    by_group = np.asarray(peaks, np.int32).reshape(-1, inside)
    by_output = np.repeat(by_group, outputs // len(by_group), axis=0)
    return np.repeat(by_output, positions, axis=1), positions


def rows_of(weight: NDArray[Any], axis: int) -> NDArray[Any]:
    """(outputs, terms): the output axis in front, the rest flattened."""
    return np.moveaxis(weight, axis, 0).reshape(weight.shape[axis], -1)


def weight_of(rows: NDArray[Any], shape: tuple[int, ...], axis: int) -> NDArray[Any]:
    """The inverse of `rows_of`."""
    moved = (shape[axis], *(size for index, size in enumerate(shape) if index != axis))
    return np.moveaxis(rows.reshape(moved), 0, axis)


def excess(rows: Integers, peaks: Integers, positions: int) -> Integers:
    """How far each pair can pass 16 bits, 0 or more.

    Args:
        rows: (outputs, terms) integer weights.
        peaks: (outputs, terms) largest raw activations that they meet.
        positions: of the kernel; `terms` is channels * positions.

    Returns:
        (outputs, pairs), pairs in the order of `neighbours`.
    """
    first, second = _pairs(rows.shape[1], positions)
    left, right = rows[:, first], rows[:, second]
    total = np.abs(left) * peaks[:, first] + np.abs(right) * peaks[:, second]
    same_sign = (left > 0) == (right > 0)
    return np.where(same_sign, np.maximum(total - LIMIT, 0), 0).astype(np.int32)


def within_limits(rows: Integers, peaks: Integers, positions: int) -> Integers:
    """Weights nearest to the given ones of which no pair overflows; shapes as for `excess`."""
    over = excess(rows, peaks, positions)
    outputs, pairs = np.nonzero(over)
    if not outputs.size:
        return rows
    first, second = (side[pairs] for side in _pairs(rows.shape[1], positions))
    half = (over[outputs, pairs] + 1) // 2
    left, right = np.abs(rows[outputs, first]), np.abs(rows[outputs, second])
    left_peak, right_peak = peaks[outputs, first], peaks[outputs, second]
    left_fits = (left * left_peak - half) // left_peak
    right_fits = np.minimum(right, (LIMIT - left_fits * left_peak) // right_peak)
    left_fits = np.minimum(left, (LIMIT - right_fits * right_peak) // left_peak)
    result = rows.copy()
    result[outputs, first] = np.sign(rows[outputs, first]) * left_fits
    result[outputs, second] = np.sign(rows[outputs, second]) * right_fits
    return result


def limited(steps: NDArray[Any], peaks: Integers, positions: int, *, balance: bool) -> Integers:
    """Integers for weights in steps of their scale, (outputs, terms), of which no pair overflows.

    `balance` makes rounding errors cancel inside kernels and channels: right where neighbouring activations are alike.
    """
    exact = steps.astype(np.float64)
    nearest = balanced(exact, positions) if balance else np.clip(np.rint(exact), -LARGEST, LARGEST).astype(np.int32)
    return within_limits(nearest, peaks, positions)


def _pairs(terms: int, positions: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    first, second = np.array(neighbours(terms // positions, positions), dtype=np.intp).reshape(-1, 2).T
    return first, second
