"""From what a tensor held to the range that its integers cover: four ways, all on the histogram alone.

Every range holds zero, which integers must be able to say exactly: padding and ReLU make it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..scheme import Calibrator
from .statistics import Histogram, TensorStatistics

PERCENTILE = 99.99
"""Per cent of all values that the range covers; half of the rest is cut off at either end."""
CANDIDATES = 96
"""Ends of the range that are tried on each side of zero, half of them evenly spaced, half of them by equal factors."""
ENTROPY_CANDIDATES = 128
SMOOTHING_COUNT = 1e-4
"""Stands for a count of zero where only outliers fell, so that its logarithm is finite; ONNX Runtime's number."""

Range = tuple[float, float]
Floats = NDArray[np.float64]


def value_range(tensor: TensorStatistics, calibrator: Calibrator, levels: int, symmetric: bool = False) -> Range:
    """The range (low, high) to encode, inside of the values seen and zero; (0, 0) where there was only zero.

    Args:
        tensor: what was seen.
        calibrator: `min-max` takes all of it; `percentile` cuts off the rarest values; `entropy` loses the least
            information (Migacz, 8-bit inference with TensorRT, GTC 2017); `mse` makes the smallest squared error.
        levels: integers that the type has, such as 256; 255 for int8 without -128.
        symmetric: whether the range has to reach as far below zero as above it.
    """
    low, high = min(tensor.low, 0.0), max(tensor.high, 0.0)
    if low == high:
        return 0.0, 0.0
    if calibrator != "min-max":
        below, above = _SEARCH[calibrator](_sides(tensor.histogram), levels, symmetric)
        low, high = max(low, -below), min(high, above)
    if symmetric:
        peak = max(-low, high)
        return -peak, peak
    return low, high


def expected_error(tensor: TensorStatistics, low: float, high: float, levels: int) -> float:
    """Mean squared error of a range that holds zero: of rounding inside of it, of clipping outside.

    Values are taken to lie evenly in their bin, and steps to be wider than bins: rounding then costs a twelfth of the
    squared step. The bin at zero costs nothing, because zero is exact.
    """
    histogram = tensor.histogram
    if not histogram.total:
        return 0.0
    below, above = _sides(histogram)
    unit = math.ldexp(1.0, histogram.exponent)
    lowest = np.array([len(below.counts) if low <= tensor.low else -low / unit])
    highest = np.array([len(above.counts) if high >= tensor.high else high / unit])
    step = (high - low) / unit / (levels - 1)
    error = float(below.clipping(lowest)[0] + above.clipping(highest)[0])
    error += step * step / 12 * float(below.kept(lowest)[0] + above.kept(highest)[0])
    return error / histogram.total * unit * unit


@dataclass(frozen=True)
class _Side:
    """The values on one side of zero, as distances from zero in bins. Bin 0 touches zero."""

    counts: Floats
    unit: float

    def ends(self) -> Floats:
        """Candidates for the end of the range, in bins; 0 alone where the side is empty."""
        size = len(self.counts)
        if not size:
            return np.zeros(1)
        even = np.linspace(size / (CANDIDATES // 2), size, CANDIDATES // 2)
        return np.unique(np.rint(np.concatenate([even, np.geomspace(1, size, CANDIDATES // 2)])))

    def clipping(self, ends: Floats) -> Floats:
        """Sum of squared distances, in bins, of the values beyond each end, of which each lies on a bin's edge."""
        centers = np.arange(len(self.counts)) + 0.5
        weights = np.stack([self.counts, self.counts * centers, self.counts * (centers**2 + 1 / 12)])
        tails = np.concatenate([np.cumsum(weights[:, ::-1], axis=1)[:, ::-1], np.zeros((3, 1))], axis=1)
        count, first, second = tails[:, self._bins(ends)]
        found: Floats = np.maximum(second - 2 * ends * first + ends**2 * count, 0.0)
        return found

    def kept(self, ends: Floats) -> Floats:
        """How many values each end leaves inside; those in the bin at zero are exact and not counted."""
        inside = np.concatenate([[0.0, 0.0], np.cumsum(self.counts[1:])])[: len(self.counts) + 1]
        found: Floats = inside[self._bins(ends)]
        return found

    def _bins(self, ends: Floats) -> NDArray[np.intp]:
        return np.minimum(np.ceil(ends), len(self.counts)).astype(np.intp)


def _sides(histogram: Histogram) -> tuple[_Side, _Side]:
    """Below and above zero."""
    counts, first = histogram.counts, histogram.first
    unit = math.ldexp(1.0, histogram.exponent)
    negative = counts[: max(0, -first)][::-1].astype(np.float64)
    positive = counts[max(0, -first) :].astype(np.float64)
    return (
        _Side(np.concatenate([np.zeros(max(0, -first - len(counts))), negative]), unit),
        _Side(np.concatenate([np.zeros(max(0, first)), positive]), unit),
    )


def _folded(below: _Side, above: _Side) -> _Side:
    """Distances from zero on both sides together."""
    counts = np.zeros(max(len(below.counts), len(above.counts)))
    counts[: len(below.counts)] += below.counts
    counts[: len(above.counts)] += above.counts
    return _Side(counts, above.unit)


def _percentile(sides: tuple[_Side, _Side], levels: int, symmetric: bool) -> Range:
    del levels
    total = sum(float(side.counts.sum()) for side in sides)
    rest = (1 - PERCENTILE / 100) * total
    if symmetric:
        end = _quantile(_folded(*sides), rest)
        return end, end
    return _quantile(sides[0], rest / 2), _quantile(sides[1], rest / 2)


def _quantile(side: _Side, beyond: float) -> float:
    """The distance from zero beyond which so many values lie; inside of a bin they lie evenly."""
    reached = np.cumsum(side.counts[::-1])
    index = int(np.searchsorted(reached, beyond, side="right"))
    if index >= len(reached):
        return 0.0
    past = reached[index] - side.counts[::-1][index]
    return float(len(reached) - index - (beyond - past) / side.counts[::-1][index]) * side.unit


def _least_squares(sides: tuple[_Side, _Side], levels: int, symmetric: bool) -> Range:
    if symmetric:
        side = _folded(*sides)
        ends = side.ends()
        errors = side.clipping(ends) + (2 * ends / (levels - 1)) ** 2 / 12 * side.kept(ends)
        best = float(ends[np.argmin(errors)]) * side.unit
        return best, best
    below, above = sides
    lows, highs = below.ends()[:, None], above.ends()[None, :]
    steps = (lows + highs) / (levels - 1)
    kept = below.kept(lows) + above.kept(highs)
    errors = below.clipping(lows[:, 0])[:, None] + above.clipping(highs[0])[None, :] + steps**2 / 12 * kept
    row, column = np.unravel_index(np.argmin(errors), errors.shape)
    return float(lows[row, 0]) * below.unit, float(highs[0, column]) * above.unit


def _entropy(sides: tuple[_Side, _Side], levels: int, symmetric: bool) -> Range:
    """One end for both sides, as in TensorRT and ONNX Runtime: the distances from zero are what is coded.

    For each candidate end, the values inside (with what lies outside added to the last bin) are compared with the same
    values spread evenly over their quantized bins. Zero is exact, so its bin takes its neighbour's count instead of its
    own, as in NVIDIA's pytorch-quantization: else ReLU's zeros would decide alone.
    """
    two_sided = symmetric or all(side.counts.size for side in sides)
    side = _folded(*sides)
    size = len(side.counts)
    quantized = levels // 2 if two_sided else levels
    if size <= quantized:
        return size * side.unit, size * side.unit
    counts = side.counts.copy()
    counts[0] = counts[1]
    if not counts.any():
        return size * side.unit, size * side.unit
    ends = np.unique(np.linspace(quantized, size, ENTROPY_CANDIDATES).astype(np.intp))
    end = float(ends[np.argmin(_divergences(counts, ends, quantized))]) * side.unit
    return end, end


def _divergences(counts: Floats, ends: NDArray[np.intp], quantized: int) -> Floats:
    """Kullback-Leibler divergence for each end, in bins; sums over ranges of bins are differences of running sums.

    With P the reference (n values, the last bin holding the outliers too) and Q the values inside (m of them) spread
    over the used bins of their group, D = sum p/n log(p/n) - sum over groups P/n log(Q/(m * used bins)).
    """
    running = np.concatenate([[0.0], np.cumsum(counts)])
    used = np.concatenate([[0], np.cumsum(counts > 0)])
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.where(counts > 0, counts * np.log(counts), 0.0)
        own = np.concatenate([[0.0], np.cumsum(logs)])
        total, inside = running[-1], running[ends]
        last = counts[ends - 1]
        outside = total - inside
        with_outliers = last + outside
        entropy = own[ends - 1] + np.where(with_outliers > 0, with_outliers * np.log(with_outliers), 0.0)
        edges = ends[:, None] * np.arange(quantized + 1) // quantized
        spread = np.diff(running[edges], axis=1)
        bins = np.diff(used[edges], axis=1).astype(np.float64)
        bins[:, -1] += (last == 0) & (outside > 0)
        reference = spread.copy()
        reference[:, -1] += outside
        evenly = np.where(spread > 0, spread / bins, SMOOTHING_COUNT)
        cross = np.where(reference > 0, reference * np.log(evenly), 0.0).sum(axis=1)
        divergence = (entropy - cross) / total - np.log(total) + np.log(inside)
    return np.where(np.isfinite(divergence), divergence, np.inf)


_SEARCH = {"percentile": _percentile, "entropy": _entropy, "mse": _least_squares}
