"""What 16-bit saturation takes from sums of u8*s8 products: `vpmaddubsw`, pair by pair.

Source: Intel 64 and IA-32 Architectures Software Developer's Manual, PMADDUBSW.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray

LOWEST, HIGHEST = -32768, 32767
Integers = NDArray[np.int32]
Column = Callable[[int], Integers]
"""Activations that meet weight k of every output channel, as raw u8 values: shape (positions,)."""


def subtract_excess(
    sums: Integers, column: Column, weights: Integers, pairs: Iterable[tuple[int, int]], peaks: Integers
) -> None:
    """Takes from exact sums what saturating kernels lose; alters `sums`.

    Args:
        sums: int32 (positions, channels), contiguous.
        column: raw activations by index of the reduced axis.
        weights: int32 (reduced, channels), raw s8 values.
        pairs: which rows of `weights` share a 16-bit sum.
        peaks: int32 (reduced,), the largest activation that each weight meets.
    """
    firsts, seconds = np.array(list(pairs), dtype=np.intp).reshape(-1, 2).T
    for first, second, channels in _risky(weights, firsts, seconds, peaks):
        _subtract(sums, column(first), column(second), weights[first, channels], weights[second, channels], channels)


def _risky(
    weights: Integers, firsts: NDArray[np.intp], seconds: NDArray[np.intp], peaks: Integers
) -> Iterable[tuple[int, int, NDArray[np.intp]]]:
    """Pairs that can overflow at all with such activations, and in which channels."""
    products_first = weights[firsts] * peaks[firsts, None]
    products_second = weights[seconds] * peaks[seconds, None]
    highest = np.maximum(products_first, 0) + np.maximum(products_second, 0)
    lowest = np.minimum(products_first, 0) + np.minimum(products_second, 0)
    risky = (highest > HIGHEST) | (lowest < LOWEST)
    for index in np.flatnonzero(risky.any(axis=1)):
        yield int(firsts[index]), int(seconds[index]), np.flatnonzero(risky[index])


def _subtract(
    sums: Integers,
    first: Integers,
    second: Integers,
    first_weights: Integers,
    second_weights: Integers,
    channels: NDArray[np.intp],
) -> None:
    largest = first * np.abs(first_weights).max() + second * np.abs(second_weights).max()
    positions = np.flatnonzero(largest > HIGHEST)
    if not positions.size:
        return
    pair = first[positions, None] * first_weights + second[positions, None] * second_weights
    sums[positions[:, None], channels] -= pair - np.clip(pair, LOWEST, HIGHEST)
