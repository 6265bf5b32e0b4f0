"""Numbers per sample: how a tensor becomes what the histograms count. Compiler and device run this very code."""

from __future__ import annotations

from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

ChannelStatistic = Literal["mean", "std", "min", "max", "nonfinite"]
CHANNEL_STATISTICS: tuple[ChannelStatistic, ...] = ("mean", "std", "min", "max", "nonfinite")


class Sampling(msgspec.Struct, frozen=True):
    """Which values of a tensor make one number: all of a sample, or each channel of an axis; every `stride`-th."""

    axis: int | None
    stride: int


def is_numeric(array: NDArray[Any]) -> bool:
    """Whether a tensor can be counted at all (text cannot)."""
    return array.dtype.kind in "biuf" and array.ndim >= 1


def channel_statistics(array: NDArray[Any], sampling: Sampling) -> Array:
    """Shape [samples, channels, 5], the last axis in the order of `CHANNEL_STATISTICS`."""
    values = _by_channel(array, sampling)
    count = values.shape[2]
    total = np.add.reduce(values, axis=2)
    result = np.empty((*total.shape, 5))
    mean = np.divide(total, count, out=result[..., 0])
    spread = np.einsum("ncp,ncp->nc", values, values)
    spread /= count
    spread -= mean * mean
    np.maximum(spread, 0.0, out=spread)  # rounding can make the variance of a constant slightly negative
    np.sqrt(spread, out=result[..., 1])
    np.minimum.reduce(values, axis=2, out=result[..., 2])
    np.maximum.reduce(values, axis=2, out=result[..., 3])
    if np.isfinite(total).all():
        result[..., 4] = 0.0
    else:
        result[..., 4] = 1.0 - np.isfinite(values).mean(axis=2)
    return result


def _by_channel(array: NDArray[Any], sampling: Sampling) -> Array:
    samples, axis = array.shape[0], sampling.axis
    if axis is None:
        return array.reshape(samples, 1, -1)[:, :, :: sampling.stride].astype(np.float64)
    if axis == array.ndim - 1:  # thin out before anything is copied
        values = array.reshape(samples, -1, array.shape[axis])[:, :: sampling.stride]
        return values.transpose(0, 2, 1).astype(np.float64, order="C")
    channels_first = np.moveaxis(array, axis, 1)
    return channels_first.reshape(samples, array.shape[axis], -1)[:, :, :: sampling.stride].astype(np.float64)


def classify(scores: NDArray[Any], softmax: bool) -> tuple[NDArray[np.intp], Array]:
    """The column of the largest score of each row, and its probability."""
    classes = scores.argmax(axis=1)
    largest = np.maximum.reduce(scores, axis=1, keepdims=True).astype(np.float64)
    if not softmax:
        return classes, largest[:, 0]
    shifted = np.subtract(scores, largest)
    np.exp(shifted, out=shifted)
    return classes, 1.0 / np.add.reduce(shifted, axis=1)


def are_probabilities(scores: NDArray[Any]) -> bool:
    """Whether every row is a distribution already."""
    wide = scores.astype(np.float64)
    return bool((wide >= 0).all() and np.allclose(wide.sum(axis=1), 1.0, atol=1e-2))
