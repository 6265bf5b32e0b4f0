"""What calibration knows of every float activation, in bounded memory and whatever the order of the samples.

Everything here is a function of the values alone, not of how they were batched: ranges are minima and maxima, bins lie
on a grid that is fixed before any data, and channel means are quotients of exact integer sums.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAX_BINS = 4096
"""A range that is in use fills more than half of them: 8 to 16 bins for each step of 8-bit integers."""
SMALLEST_EXPONENT = -149
"""The smallest float32 above zero is 2**-149; no grid needs to be finer."""
BLOCK_ELEMENTS = 1 << 16
"""Worked on at a time, so that temporary arrays stay in the cache."""


@dataclass(frozen=True, eq=False)
class Histogram:
    """Counts on a grid that is fixed before any data: bin i covers [i, i + 1) * 2**exponent.

    The exponent is the smallest at which the range of the data, widened to zero, has at most `MAX_BINS` bins. Growing
    the range only joins neighbouring bins, so that the result does not depend on the order of the batches.
    """

    exponent: int = SMALLEST_EXPONENT
    first: int = 0
    """Index of the first bin; the bins reach from the smallest value to the largest."""
    counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))

    @property
    def total(self) -> int:
        """How many values were counted."""
        return int(self.counts.sum())

    @staticmethod
    def of(values: NDArray[Any]) -> Histogram:
        """Counts floats of any shape, all of them finite."""
        if not values.size:
            return Histogram()
        return _counted(values, float(values.min()), float(values.max()))

    def merged(self, other: Histogram) -> Histogram:
        """The counts of both: as if all values had been counted at once."""
        if not self.counts.size or not other.counts.size:
            return self if self.counts.size else other
        exponent = max(self.exponent, other.exponent)
        while True:
            starts, ends = zip(_ends(self, exponent), _ends(other, exponent), strict=True)
            first, last = min(starts), max(ends)
            if _width(first, last) <= MAX_BINS:
                break
            exponent += 1
        counts = np.zeros(last - first + 1, np.int64)
        for start, part in zip(starts, (self, other), strict=True):
            joined = _joined(part, exponent)
            counts[start - first : start - first + len(joined)] += joined
        return Histogram(exponent, first, counts)


def _ends(part: Histogram, exponent: int) -> tuple[int, int]:
    """The first and the last bin on a coarser grid."""
    halvings = exponent - part.exponent
    return part.first >> halvings, (part.first + len(part.counts) - 1) >> halvings


def _joined(part: Histogram, exponent: int) -> NDArray[np.int64]:
    """The counts on a coarser grid."""
    bins = (np.arange(len(part.counts)) + part.first) >> (exponent - part.exponent)
    starts = np.flatnonzero(np.diff(bins, prepend=bins[0] - 1))
    joined: NDArray[np.int64] = np.add.reduceat(part.counts, starts)
    return joined


def _width(first: int, last: int) -> int:
    """Bins between two, zero's bin included: every quantized range holds zero."""
    return max(last, 0) - min(first, 0) + 1


def _exponent(low: float, high: float) -> int:
    """The smallest exponent at which a range, widened to zero, fits."""
    peak = max(abs(low), abs(high))
    exponent = max(math.frexp(peak)[1] - MAX_BINS.bit_length(), SMALLEST_EXPONENT) if peak else SMALLEST_EXPONENT
    while _width(_bin(low, exponent), _bin(high, exponent)) > MAX_BINS:
        exponent += 1
    return exponent


def _bin(value: float, exponent: int) -> int:
    return math.floor(math.ldexp(value, -exponent))


def _counted(values: NDArray[Any], low: float, high: float) -> Histogram:
    """In float64, where scaling a float32 by a power of two is exact, the smallest ones included."""
    exponent = _exponent(low, high)
    first, last = _bin(low, exponent), _bin(high, exponent)
    counts = np.zeros(last - first + 1, np.int64)
    scale = math.ldexp(1.0, -exponent)
    for block in _blocks(values.reshape(-1)):
        bins = np.multiply(block, scale, dtype=np.float64)
        np.floor(bins, out=bins)
        bins -= first
        found = np.bincount(bins.astype(np.intp))
        counts[: len(found)] += found
    return Histogram(exponent, first, counts)


def _blocks(values: NDArray[Any]) -> Iterator[NDArray[Any]]:
    for start in range(0, len(values), BLOCK_ELEMENTS):
        yield values[start : start + BLOCK_ELEMENTS]


@dataclass(frozen=True, eq=False)
class TensorStatistics:
    """One float tensor over all samples; values that are not finite are counted and left out of the rest.

    `low` and `high` are 0 where there was no finite value.
    """

    low: float = 0.0
    high: float = 0.0
    not_finite: int = 0
    histogram: Histogram = field(default_factory=Histogram)

    @staticmethod
    def of(array: NDArray[Any]) -> TensorStatistics:
        """Looks at floats of any shape, a scalar or nothing at all included."""
        if not array.size:
            return TensorStatistics()
        low, high = float(array.min()) + 0.0, float(array.max()) + 0.0  # -0.0 and 0.0 are the same value
        if math.isfinite(low) and math.isfinite(high):  # NaN would have come through as NaN
            return TensorStatistics(low, high, 0, _counted(array, low, high))
        finite = array[np.isfinite(array)]
        return TensorStatistics(not_finite=array.size - finite.size).merged(TensorStatistics.of(finite))

    def merged(self, other: TensorStatistics) -> TensorStatistics:
        """Of both: as if all values had been looked at once."""
        known = [part for part in (self, other) if part.histogram.counts.size]
        return TensorStatistics(
            min((part.low for part in known), default=0.0),
            max((part.high for part in known), default=0.0),
            self.not_finite + other.not_finite,
            self.histogram.merged(other.histogram),
        )


@dataclass(frozen=True, eq=False)
class ChannelStatistics:
    """One float tensor, channel by channel; arrays of shape (channels,). Zeros where there was no finite value."""

    low: NDArray[np.float32]
    high: NDArray[np.float32]
    mean: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Statistics:
    """Of every float activation of a graph, by value name."""

    samples: int
    tensors: Mapping[str, TensorStatistics]
    channels: Mapping[tuple[str, int], ChannelStatistics]
    """By (value name, axis): axis 1 of what convolutions read, axis -1 of what Gemm and MatMul with weights read."""
