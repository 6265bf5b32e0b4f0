"""Rounding whose errors cancel where neighbouring activations are alike: in a kernel, and in an output channel.

Where rounding to nearest leaves the errors of a group with a sum, the weights nearest to the other integer are rounded
there, until the sum is within half a step. Source: Guo et al., "SQuant: On-the-Fly Data-Free Quantization via Diagonal
Hessian Approximation", ICLR 2022, arXiv:2202.07471: its kernel-wise and channel-wise steps.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
LARGEST = 127


def balanced(steps: Floats, positions: int) -> NDArray[np.int32]:
    """Integers for weights that are given in steps of their scale.

    Args:
        steps: (outputs, terms), float; `terms` is channels * positions.
        positions: of the kernel.

    Returns:
        (outputs, terms), each less than one step from what was given.
    """
    wanted = steps.reshape(len(steps), -1, positions)
    nearest = np.clip(np.rint(wanted), -LARGEST, LARGEST)
    integers = _moved(nearest, wanted, (nearest - wanted).sum(axis=2))
    total = (integers - wanted).sum(axis=(1, 2))
    best = _gains(integers, wanted, total[:, None]).argmax(axis=2)[..., None]
    candidates, theirs = (np.take_along_axis(array, best, axis=2)[..., 0] for array in (integers, wanted))
    np.put_along_axis(integers, best, _moved(candidates, theirs, total)[..., None], axis=2)
    return integers.reshape(steps.shape).astype(np.int32)


def _moved(integers: Floats, wanted: Floats, total: Floats) -> Floats:
    """Moves as many integers as bring a sum of errors within half a step of 0, those with the largest errors first.

    Args:
        integers: (..., n), of which each moves by one step or not at all.
        wanted: (..., n), what they stand for.
        total: (...), the sum of errors that they reduce.
    """
    gains = _gains(integers, wanted, total)
    rank = np.argsort(np.argsort(-gains, axis=-1, kind="stable"), axis=-1, kind="stable")
    moves = (rank < np.rint(np.abs(total))[..., None]) & (gains > 0)
    result: Floats = integers - np.where(moves, np.sign(total)[..., None], 0.0)
    return result


def _gains(integers: Floats, wanted: Floats, total: Floats) -> Floats:
    """Errors counted in the direction of their sum; negative where a move would leave the range."""
    sign = np.sign(total)[..., None]
    gains: Floats = np.where(np.abs(integers - sign) <= LARGEST, (integers - wanted) * sign, -1.0)
    return gains
