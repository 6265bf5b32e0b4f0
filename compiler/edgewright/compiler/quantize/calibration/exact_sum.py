"""Sums of floats that do not depend on the order of the terms: integers, one per range of exponents and channel.

The idea is Kulisch's long accumulator (Kulisch and Miranker, 1986), cut into limbs of 64 bits that overlap, so that no
carry has to travel while terms are added.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

SIGNIFICAND_BITS = 24
LIMB_BITS = 16
"""Exponents that share a limb: a term takes at most 24 + 15 bits, so that 2**24 terms of each sign fit."""
SMALLEST_EXPONENT = -148
"""What frexp gives for 2**-149."""
LIMBS = 22
"""Up to 2**203: any sum of 2**75 float32 values."""


class ExactSum:
    """Adds rows of terms, each rounded to 24 bits, channel by channel; not more than 2**24 rows."""

    def __init__(self, channels: int) -> None:
        self._limbs = np.zeros((LIMBS, channels), np.int64)

    def add(self, terms: NDArray[Any]) -> None:
        """Adds float64 terms of shape (rows, channels), all finite."""
        significand, exponent = np.frexp(terms)
        integers = np.rint(np.ldexp(significand, SIGNIFICAND_BITS)).astype(np.int64)
        limb, shift = np.divmod(np.maximum(exponent - SMALLEST_EXPONENT, 0), LIMB_BITS)
        integers <<= shift
        for index in np.unique(limb):
            self._limbs[index] += np.where(limb == index, integers, 0).sum(axis=0)

    def merge(self, other: ExactSum) -> None:
        """Adds everything that another sum of as many channels holds."""
        self._limbs += other._limbs

    def divided_by(self, counts: NDArray[np.int64]) -> NDArray[np.float64]:
        """The sums over these counts, correctly rounded; 0 where a count is 0."""
        places = -SMALLEST_EXPONENT + SIGNIFICAND_BITS
        totals = [
            sum(int(limb) << (LIMB_BITS * index) for index, limb in enumerate(channel) if limb)
            for channel in self._limbs.T.tolist()
        ]
        return np.array(
            [total / (int(count) << places) if count else 0.0 for total, count in zip(totals, counts, strict=True)],
            dtype=np.float64,
        )
