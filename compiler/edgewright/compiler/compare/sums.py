"""How far two tensors are apart, from sums that grow sample by sample: memory does not depend on how many there are."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..metrics import snr_of_powers


@dataclass
class Sums:
    """Of everything that was seen; elements that are not finite in either tensor are counted and left out."""

    elements: int = 0
    not_finite: int = 0
    noise: float = 0.0
    left_power: float = 0.0
    right_power: float = 0.0
    product: float = 0.0
    largest_difference: float = 0.0

    def add(self, left: NDArray[Any], right: NDArray[Any]) -> None:
        """Takes in two arrays of one shape; the first is the signal."""
        one, other = left.astype(np.float64).ravel(), right.astype(np.float64).ravel()
        finite = np.isfinite(one) & np.isfinite(other)
        if not finite.all():
            self.not_finite += int((~finite).sum())
            one, other = one[finite], other[finite]
        difference = other - one
        self.elements += one.size
        self.noise += float(difference @ difference)
        self.left_power += float(one @ one)
        self.right_power += float(other @ other)
        self.product += float(one @ other)
        self.largest_difference = max(self.largest_difference, float(np.abs(difference).max(initial=0.0)))

    @property
    def snr_db(self) -> float:
        """Power of the first over power of the difference, in decibels, within +-200; 200 where they are equal."""
        return snr_of_powers(self.noise, self.left_power)

    @property
    def cosine(self) -> float:
        """Cosine of the angle between the two as vectors; 1 where both are zero, 0 where one is."""
        norm = math.sqrt(self.left_power) * math.sqrt(self.right_power)
        if norm == 0:
            return 1.0 if self.noise == 0 else 0.0
        return max(-1.0, min(1.0, self.product / norm))
