"""Collects what single channels of an activation hold, row by row, whatever the order of the rows."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from .exact_sum import ExactSum
from .statistics import BLOCK_ELEMENTS, ChannelStatistics


class ChannelCollector:
    """Range and mean of each channel of one tensor.

    A row is one entry of the first axis, so one sample wherever the batch comes first. Its own sum is taken in float64
    and rounded to 24 bits; the sum over rows is exact, so that neither their order nor their batches have a say.
    """

    def __init__(self, axis: int) -> None:
        self._axis = axis
        self._low = np.zeros(0, np.float32)
        self._high = self._low
        self._counts = np.zeros(0, np.int64)
        self._sum = ExactSum(0)

    def add(self, array: NDArray[np.float32]) -> None:
        """Adds an array whose first axis counts rows; of rank 1, with channels last, it is one row."""
        rows = array[None] if array.ndim == 1 else array
        channels = rows.shape[self._axis]
        if not len(self._low):
            self._low = np.full(channels, np.inf, np.float32)
            self._high = np.full(channels, -np.inf, np.float32)
            self._counts = np.zeros(channels, np.int64)
            self._sum = ExactSum(channels)
        if not rows.size:
            return
        step = max(1, BLOCK_ELEMENTS * len(rows) // rows.size)
        for start in range(0, len(rows), step):
            self._add(_by_channel(rows[start : start + step], self._axis))

    def _add(self, rows: NDArray[np.float32]) -> None:
        """Adds an array of shape (rows, before, channels, behind), where `before` or `behind` is 1."""
        low, high = rows.min(axis=(0, 1, 3)), rows.max(axis=(0, 1, 3))
        if np.isfinite(low).all() and np.isfinite(high).all():
            numbers, counted = rows.astype(np.float64), rows.size // rows.shape[2]
        else:
            finite = np.isfinite(rows)
            low = np.where(finite, rows, np.float32(np.inf)).min(axis=(0, 1, 3))
            high = np.where(finite, rows, np.float32(-np.inf)).max(axis=(0, 1, 3))
            numbers, counted = np.where(finite, rows, 0.0).astype(np.float64), finite.sum(axis=(0, 1, 3))
        self._low, self._high = np.minimum(self._low, low), np.maximum(self._high, high)
        self._counts += counted
        self._sum.add(numbers.sum(axis=3).sum(axis=1))

    def finished(self) -> ChannelStatistics:
        """What was found so far."""
        known = self._counts > 0
        return ChannelStatistics(
            low=np.where(known, self._low, np.float32(0)) + np.float32(0),  # no -0.0
            high=np.where(known, self._high, np.float32(0)) + np.float32(0),
            mean=self._sum.divided_by(self._counts),
        )


def _by_channel(rows: NDArray[np.float32], axis: int) -> NDArray[np.float32]:
    place = axis % rows.ndim
    before, behind = rows.shape[1:place], rows.shape[place + 1 :]
    return np.ascontiguousarray(rows).reshape(len(rows), math.prod(before), rows.shape[place], math.prod(behind))
