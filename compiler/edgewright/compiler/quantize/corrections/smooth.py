"""Smoothing: moves the spread of activation channels into the weights that read them, where that lowers the error.

Source: Xiao, Lin, Seznec, Wu, Demouth, Han: SmoothQuant, 2022, arXiv:2211.10438, equation 4: factors
s_j = max|X_j|**alpha / max|W_j|**(1 - alpha). The paper takes one alpha for a model and starts at normalisations; here
every link (`links.py`) gets its own, by the error that rounding to 8 bits is expected to make at its consumers.

In front of a depthwise convolution this costs nothing: each of its weights has one input channel and a scale of its
own, so that alpha = 1 makes all channels of the activation equally wide and leaves the weights as exact as they were.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from ...graph import Graph
from ..calibration.statistics import ChannelStatistics, Statistics
from ..plan import Equalization
from ..weights import weight_array
from .equalize import LARGEST_FACTOR, SMALLEST_FACTOR, equalization
from .links import Link, find_links
from .weight_layout import by_channel

ALPHAS = tuple(float(alpha) for alpha in np.linspace(0.1, 1.0, 10))
ACTIVATION_STEPS = 255
WEIGHT_STEPS = 127
DEVIATIONS_IN_RANGE = 6.0
"""Standard deviations between the smallest and the largest value that a channel is taken to have."""
WORTHWHILE = 0.8
"""A link is smoothed where its expected error power falls below this share of what it was."""
MAX_ROWS = 512
"""Output channels that are looked at per group, evenly spread; more would change no choice and take minutes."""


@dataclass(frozen=True)
class _Activation:
    """What the expected error needs to know of one tensor, per channel."""

    low: NDArray[np.float64]
    high: NDArray[np.float64]
    power: NDArray[np.float64]
    """Mean of the squares."""

    @property
    def peak(self) -> NDArray[np.float64]:
        peak: NDArray[np.float64] = np.maximum(np.abs(self.low), np.abs(self.high))
        return peak


@dataclass(frozen=True)
class _Weight:
    """What the expected error needs to know of one weight that reads the tensor."""

    magnitudes: NDArray[np.float64]
    """(groups, outputs, inputs): the largest over the kernel's positions."""
    power: NDArray[np.float64]
    """(inputs of all groups,): sum of the squares over everything else."""
    positions: int

    @classmethod
    def of(cls, node: ir.Node) -> _Weight:
        weight = weight_array(node)
        if weight is None:
            raise TypeError(f"{node.name!r} has no constant weight")
        view = by_channel(node, weight)
        view = view[:, :: max(1, view.shape[1] // MAX_ROWS)].astype(np.float64)
        return cls(np.abs(view).max(axis=3), (view**2).sum(axis=(1, 3)).reshape(-1), view.shape[3])

    @property
    def peak(self) -> NDArray[np.float64]:
        """(inputs of all groups,)."""
        peak: NDArray[np.float64] = self.magnitudes.max(axis=1)
        return peak.reshape(-1)


def find_smoothings(
    graph: Graph, statistics: Statistics, *, worthwhile: float = WORTHWHILE
) -> tuple[Equalization, ...]:
    """Factors for every link whose expected error they lower enough, for weights that are rounded per channel.

    Args:
        graph: the float graph that the statistics were taken from.
        statistics: with the channels of what the consumers read; links without them are left alone.
        worthwhile: largest share of the expected error power that may be left for a link to be smoothed.
    """
    found = []
    for link in find_links(graph):
        best = _best_factors(link, statistics)
        if best is not None and best[1] < worthwhile:
            found.append(equalization(link, best[0]))
    return tuple(found)


def _best_factors(link: Link, statistics: Statistics) -> tuple[NDArray[np.float64], float] | None:
    """The best factors and the share of the error power that they leave; None where nothing is known."""
    activation = _activation(link, statistics)
    weights = [_Weight.of(consumer) for consumer in link.consumers]
    if activation is None or not all(np.isfinite(weight.power).all() for weight in weights):
        return None
    before = _expected_error(activation, weights, np.ones(link.channels))
    if not before > 0:
        return None
    candidates = [_factors(activation, weights, alpha) for alpha in ALPHAS]
    errors = [_expected_error(activation, weights, candidate) for candidate in candidates]
    best = int(np.argmin(errors))
    return candidates[best], errors[best] / before


def _activation(link: Link, statistics: Statistics) -> _Activation | None:
    read = [_channels_read(consumer, statistics) for consumer in link.consumers]
    known = [channels for channels in read if channels is not None]
    if len(known) < len(read):
        return None
    low = np.minimum.reduce([channels.low for channels in known]).astype(np.float64)
    high = np.maximum.reduce([channels.high for channels in known]).astype(np.float64)
    if low.shape != (link.channels,) or not np.isfinite([low, high]).all():
        return None
    power = ((high - low) / DEVIATIONS_IN_RANGE) ** 2 + known[0].mean.astype(np.float64) ** 2
    return _Activation(np.minimum(low, 0.0), np.maximum(high, 0.0), power)


def _channels_read(node: ir.Node, statistics: Statistics) -> ChannelStatistics | None:
    value = node.inputs[0]
    axis = 1 if node.op_type == "Conv" else -1
    return statistics.channels.get(((value.name or "") if value is not None else "", axis))


def _factors(activation: _Activation, weights: list[_Weight], alpha: float) -> NDArray[np.float64]:
    """Equation 4, scaled to a geometric mean of 1; 1 for channels that are dead on either side."""
    peaks = np.maximum.reduce([weight.peak for weight in weights])
    alive = (activation.peak > 0) & (peaks > 0)
    if not alive.any():
        return np.ones(len(peaks))
    logs = alpha * np.log(np.where(alive, activation.peak, 1.0)) - (1 - alpha) * np.log(np.where(alive, peaks, 1.0))
    logs = np.where(alive, logs - logs[alive].mean(), 0.0)
    return np.clip(np.exp(logs), SMALLEST_FACTOR, LARGEST_FACTOR)


def _expected_error(activation: _Activation, weights: list[_Weight], factors: NDArray[np.float64]) -> float:
    """Power of the rounding error at the consumers' outputs: of the activation, and of the weights, both uniform.

    The activation has one scale, the weights have one per output channel; E[error**2] = step**2 / 12.
    """
    step = float((activation.high / factors).max() - (activation.low / factors).min()) / ACTIVATION_STEPS
    power = activation.power / factors**2
    total = 0.0
    for weight in weights:
        groups = len(weight.magnitudes)
        weight_steps = (weight.magnitudes * factors.reshape(groups, 1, -1)).max(axis=2) / WEIGHT_STEPS
        read = power.reshape(groups, -1).sum(axis=1, keepdims=True) * weight.positions
        total += step**2 * float((weight.power * factors**2).sum()) + float((weight_steps**2 * read).sum())
    return total / 12
