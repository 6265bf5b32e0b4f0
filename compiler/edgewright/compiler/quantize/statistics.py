"""What calibration knows of every float activation, in bounded memory and whatever the order of the samples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Histogram:
    """Counts on a grid that is fixed before any data: bin i covers [i, i + 1) * 2**exponent.

    Growing the range only joins neighbouring bins, so that the result does not depend on the order of the batches.
    """

    exponent: int
    first: int
    """Index of the first bin."""
    counts: NDArray[np.int64]


@dataclass(frozen=True)
class TensorStatistics:
    """One float tensor over all samples; values that are not finite are counted and left out of the rest."""

    low: float
    high: float
    not_finite: int
    histogram: Histogram


@dataclass(frozen=True)
class ChannelStatistics:
    """One float tensor, channel by channel; arrays of shape (channels,)."""

    low: NDArray[np.float32]
    high: NDArray[np.float32]
    mean: NDArray[np.float64]


@dataclass(frozen=True)
class Statistics:
    """Of every float activation of a graph, by value name."""

    samples: int
    tensors: Mapping[str, TensorStatistics]
    channels: Mapping[tuple[str, int], ChannelStatistics]
    """By (value name, axis): axis 1 of what convolutions read, axis -1 of what Gemm and MatMul with weights read."""
