"""Sums, means and maxima of the layers that have an epilogue, in numpy."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping

import numpy as np

from .net import Array, Convolution, Dense, MatMul, Pool, Reduce, Tensor


def convolution_sums(layer: Convolution, buffer: Array) -> Array:
    """From the buffer of x, border included."""
    batch, height, width, channels = layer.y.shape
    groups, taken = layer.groups, layer.weight.shape[3]
    weight = _wide(layer.weight).reshape(groups, channels // groups, *layer.weight.shape[1:])
    sums = np.zeros((batch, height, width, groups, channels // groups), weight.dtype)
    window = (layer.weight.shape[1], layer.weight.shape[2])
    for row, column, seen in _windows(layer, window, layer.dilations, buffer):
        x = _wide(seen) - (layer.x_zero_point if weight.dtype == np.int64 else 0)
        x = x.reshape(batch, height, width, groups, taken)
        sums += np.einsum("bhwgc,gkc->bhwgk", x, weight[:, :, row, column])
    return sums.reshape(layer.y.shape)


def dense_sums(layer: Dense, x: Array) -> Array:
    """From x without its border."""
    weight = _wide(layer.weight)
    wide = _wide(x) - (layer.x_zero_point if weight.dtype == np.int64 else 0)
    return np.asarray(wide @ weight.T)


def matmul_sums(layer: MatMul, a: Array, b: Array) -> Array:
    """From both factors without borders."""
    left = a.swapaxes(-1, -2) if layer.a_transposed else a
    right = b.swapaxes(-1, -2) if layer.b_transposed else b
    return np.asarray(_wide(left) @ _wide(right))


def pool_sums(layer: Pool, buffer: Array) -> Array:
    """Maxima, means of floats, or sums of integers, from the buffer of x."""
    seen = np.stack([view for _, _, view in _windows(layer, layer.window, layer.dilations, buffer)])
    if layer.kind == "max":
        return np.asarray(seen.max(0))
    integers = layer.x.dtype not in ("f32", "f16")
    inside = np.ones_like(buffer, dtype=np.int64)
    if not layer.count_border:
        inside[...] = 0
        top, left = layer.x.border.top, layer.x.border.left
        inside[:, top : top + layer.x.shape[1], left : left + layer.x.shape[2]] = 1
    counted = np.stack([view for _, _, view in _windows(layer, layer.window, layer.dilations, inside)])
    total = np.where(counted != 0, _wide(seen) - (layer.x_zero_point if integers else 0), 0).sum(0)
    if integers:
        return np.asarray(total)
    return np.asarray(total / (counted.sum(0) if not layer.count_border else math.prod(layer.window)))


def reduced(layer: Reduce, x: Array) -> Array:
    """From x without its border."""
    if layer.kind in ("argmax", "argmin"):
        chosen = np.argmax if layer.kind == "argmax" else np.argmin
        kept = [axis for axis in range(x.ndim) if axis not in layer.axes]
        moved = x.transpose(*kept, *layer.axes).reshape(*(x.shape[axis] for axis in kept), -1)
        return np.asarray(chosen(moved, axis=-1)).reshape(layer.y.shape)
    integers = layer.x.dtype not in ("f32", "f16")
    if integers and layer.kind in ("sum", "mean"):
        return np.asarray((_wide(x) - layer.x_zero_point).sum(layer.axes, keepdims=True))
    return np.asarray(_REDUCTIONS[layer.kind](x, axis=layer.axes, keepdims=True))


def _sum_square(x: Array, axis: tuple[int, ...], keepdims: bool) -> Array:
    return np.asarray(np.sum(x * x, axis=axis, keepdims=keepdims))


_REDUCTIONS: Mapping[str, Callable[..., Array]] = {
    "sum": np.sum,
    "mean": np.mean,
    "max": np.max,
    "min": np.min,
    "prod": np.prod,
    "sum_square": _sum_square,
}


def _wide(array: Array) -> Array:
    return array.astype(np.float64 if array.dtype.kind == "f" else np.int64)


def _windows(
    layer: Convolution | Pool, window: tuple[int, int], dilations: tuple[int, int], buffer: Array
) -> Iterator[tuple[int, int, Array]]:
    """For every place in the window, what all outputs read there."""
    top, left = layer.x.border.top - layer.top, layer.x.border.left - layer.left
    for row in range(window[0]):
        for column in range(window[1]):
            rows = _line(top + row * dilations[0], layer.strides[0], layer.y.shape[1], buffer.shape[1], layer.x)
            columns = _line(left + column * dilations[1], layer.strides[1], layer.y.shape[2], buffer.shape[2], layer.x)
            yield row, column, buffer[:, rows][:, :, columns]


def _line(first: int, stride: int, count: int, size: int, x: Tensor) -> slice:
    last = first + stride * (count - 1)
    if first < 0 or last >= size:
        raise ValueError(f"a window reads rows or columns {first} to {last} of {x.name}, whose buffer has {size}")
    return slice(first, last + 1, stride)
