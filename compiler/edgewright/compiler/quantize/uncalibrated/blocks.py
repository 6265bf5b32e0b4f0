"""Blocked weights: weights that stand beside each other along the reduced axis share a scale.

The layout is that of DequantizeLinear with `block_size` (ONNX opset 21): for a weight [K, N] in blocks of B along K the
scales are [ceil(K / B), N]; the last block may be short. int4 has 15 levels, so where the range ends matters: the
scale of each block is searched for the least squared error, which clips a lone outlier where that pays.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ..plan import INTEGER_RANGES, WeightEncoding
from ..scheme import WeightType
from ..weights import CHUNK_ELEMENTS, LARGEST_INTEGER, SMALLEST_SCALE

SHRINK_FACTORS: Final = tuple(float(factor) for factor in np.linspace(1.0, 0.6, 17))
"""Of the scale that holds the largest weight. 0.875 = 7/8 is among them: there a negative peak becomes -8 exactly."""


def blocked_encoding(weight: NDArray[np.float32], kind: WeightType, axis: int, block_size: int) -> WeightEncoding:
    """The scales with the least squared rounding error, block by block.

    Args:
        weight: a finite matrix.
        kind: "int4" or "int8".
        axis: of its output channels; blocks lie along the other one.
        block_size: weights in a block, at least 1.
    """
    found = [
        _best_scales(as_blocks(part, block_size), kind) for part in _parts(_reduced_first(weight, axis), block_size)
    ]
    by_channel = np.concatenate(found).T.reshape(-1)
    return WeightEncoding(type=kind, axis=axis, scale=tuple(by_channel.tolist()), block_size=block_size)


def _best_scales(blocks: NDArray[np.float32], kind: WeightType) -> NDArray[np.float32]:
    """[blocks, N] of [blocks, block_size, N]."""
    peaks = np.abs(blocks).max(axis=1)
    widest = np.maximum(peaks / LARGEST_INTEGER[kind], SMALLEST_SCALE).astype(np.float32)
    best: NDArray[np.float32] = widest
    least = np.full(widest.shape, np.inf)
    for factor in SHRINK_FACTORS:
        scales = np.maximum(widest * np.float32(factor), np.float32(SMALLEST_SCALE))
        steps = _round(blocks, scales, kind)
        steps *= scales[:, None]
        steps -= blocks
        errors = np.square(steps, out=steps).sum(axis=1, dtype=np.float64)
        better = errors < least
        best, least = np.where(better, scales, best), np.where(better, errors, least)
    return best


def blocked_integers(weight: NDArray[np.float32], encoding: WeightEncoding) -> NDArray[np.int8]:
    """The integers of a matrix as [K, N], whichever way round it is."""
    axis, block_size = _layout(encoding)
    ordered = _reduced_first(weight, axis)
    scales, done = block_scales(encoding, ordered.shape[1]), 0
    integers = np.empty(ordered.shape, np.int8)
    for part in _parts(ordered, block_size):
        blocks = as_blocks(part, block_size)
        first = done // block_size
        steps = _round(blocks, scales[first : first + len(blocks)], encoding.type)
        integers[done : done + len(part)] = steps.reshape(-1, ordered.shape[1])[: len(part)]
        done += len(part)
    return integers


def block_scales(encoding: WeightEncoding, channels: int) -> NDArray[np.float32]:
    """The scales as DequantizeLinear takes them: [blocks, N]."""
    return np.ascontiguousarray(np.asarray(encoding.scale, dtype=np.float32).reshape(channels, -1).T)


def blocked_weights(integers: NDArray[np.int8], encoding: WeightEncoding) -> NDArray[np.float32]:
    """The float weights [K, N] that the integers [K, N] stand for."""
    _, block_size = _layout(encoding)
    scales = np.repeat(block_scales(encoding, integers.shape[1]), block_size, axis=0)[: len(integers)]
    return integers.astype(np.float32) * scales


def as_blocks(ordered: NDArray[Any], block_size: int) -> NDArray[Any]:
    """[K, N] as [blocks, block_size, N], zeros behind the end."""
    missing = -len(ordered) % block_size
    padded = np.pad(ordered, ((0, missing), (0, 0)))
    return padded.reshape(-1, block_size, ordered.shape[1])


def _round(blocks: NDArray[np.float32], scales: NDArray[np.float32], kind: WeightType) -> NDArray[np.float32]:
    low, high = INTEGER_RANGES[kind]
    steps: NDArray[np.float32] = blocks / scales[:, None]
    np.rint(steps, out=steps)
    return np.clip(steps, low, high, out=steps)


def _reduced_first(weight: NDArray[np.float32], axis: int) -> NDArray[np.float32]:
    return weight if axis == 1 else weight.T


def _parts(ordered: NDArray[np.float32], block_size: int) -> Iterator[NDArray[np.float32]]:
    """Whole blocks of [K, N], so few that what is made of them stays in the processor's caches."""
    rows = block_size * max(1, CHUNK_ELEMENTS // (block_size * max(1, ordered.shape[1])))
    for start in range(0, len(ordered), rows):
        yield np.ascontiguousarray(ordered[start : start + rows])


def _layout(encoding: WeightEncoding) -> tuple[int, int]:
    if encoding.axis is None or encoding.block_size is None:
        raise ValueError("a blocked encoding has an axis and a block size")
    return encoding.axis, encoding.block_size
