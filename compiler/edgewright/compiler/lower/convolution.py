"""Convolutions of 8-bit integers: exact int32 sums, or those of kernels whose pairs saturate.

Exact sums come from ONNX Runtime's float32 Conv on integer values: no sum of a part of the input channels passes 2**24,
below which float32 holds every integer, in whatever order it is added.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import helper

from edgewright.targets.accumulation import neighbours

from .matrices import as_unsigned
from .pairs import subtract_excess

Array = NDArray[Any]
EXACT_BELOW = 2**24
SEVERITY_FATAL = 4


@dataclass(frozen=True)
class Window:
    """Where a convolution looks; one entry per spatial axis."""

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    before: tuple[int, ...]
    """Padding."""
    after: tuple[int, ...]
    groups: int

    @classmethod
    def of(cls, node: onnx.NodeProto, x_shape: tuple[int, ...], w_shape: tuple[int, ...]) -> Window:
        """From a node's attributes and the shapes of its input and weight, both channels first."""
        found = {item.name: helper.get_attribute_value(item) for item in node.attribute}
        rank = len(w_shape) - 2
        strides = tuple(found.get("strides", (1,) * rank))
        dilations = tuple(found.get("dilations", (1,) * rank))
        spans = tuple((size - 1) * step + 1 for size, step in zip(w_shape[2:], dilations, strict=True))
        pads = tuple(found.get("pads", (0,) * 2 * rank))
        automatic = found.get("auto_pad", b"NOTSET")
        if automatic in (b"SAME_UPPER", b"SAME_LOWER"):
            pads = _same(x_shape[2:], spans, strides, upper=automatic == b"SAME_UPPER")
        elif automatic == b"VALID":
            pads = (0,) * 2 * rank
        return cls(w_shape[2:], strides, dilations, pads[:rank], pads[rank:], int(found.get("group", 1)))


def _same(sizes: tuple[int, ...], spans: tuple[int, ...], strides: tuple[int, ...], *, upper: bool) -> tuple[int, ...]:
    totals = [
        max((-(-size // stride) - 1) * stride + span - size, 0)
        for size, span, stride in zip(sizes, spans, strides, strict=True)
    ]
    small, large = [total // 2 for total in totals], [total - total // 2 for total in totals]
    return (*small, *large) if upper else (*large, *small)


def convolve(
    x: Array, x_zero: Array, w: Array, w_zero: Array, window: Window, *, saturating: bool
) -> NDArray[np.int32]:
    """Sums of `(x - x_zero) * (w - w_zero)` over the window; padding holds the zero point.

    Args:
        x: (batch, channels, *spatial), uint8 or int8.
        x_zero: One value.
        w: (channels out, channels in / groups, *window), uint8 or int8.
        w_zero: One value, or one per output channel.
        window: Where the convolution looks.
        saturating: Whether neighbouring products share a 16-bit sum.
    """
    steps = w.astype(np.float32) - w_zero.astype(np.float32).reshape((-1,) + (1,) * (w.ndim - 1))
    values = x.astype(np.float32) - np.float32(x_zero.reshape(-1)[0])
    sums = _exact(values, steps, window)
    if saturating and sums.size:
        sums = _saturated(sums, as_unsigned(x), int(as_unsigned(x_zero).reshape(-1)[0]), w.astype(np.int32), window)
    return sums


def _exact(values: NDArray[np.float32], steps: NDArray[np.float32], window: Window) -> NDArray[np.int32]:
    """In as many parts of the input channels as keep the sums below 2**24."""
    peak = float(np.abs(values).max(initial=0))
    bounds = np.abs(steps).sum(axis=tuple(range(2, steps.ndim)), dtype=np.float64) * peak
    parts = _parts(bounds)
    if len(parts) == 1 or window.groups > 1:
        return _float_conv(values, steps, window).astype(np.int32)
    total: NDArray[np.int32] | None = None
    for start, end in parts:
        part = _float_conv(values[:, start:end], steps[:, start:end], window).astype(np.int32)
        total = part if total is None else total + part
    return np.zeros(0, np.int32) if total is None else total


def _parts(bounds: NDArray[np.float64]) -> list[tuple[int, int]]:
    """Ranges of input channels; `bounds` is (channels out, channels in): what each can add in absolute value."""
    parts, start, running = [], 0, np.zeros(len(bounds))
    for channel in range(bounds.shape[1]):
        running = running + bounds[:, channel]
        if channel > start and running.max() >= EXACT_BELOW:
            parts.append((start, channel))
            start, running = channel, bounds[:, channel]
    return [*parts, (start, bounds.shape[1])]


def _float_conv(values: NDArray[np.float32], steps: NDArray[np.float32], window: Window) -> NDArray[np.float32]:
    session = _conv_session(window)
    result: NDArray[np.float32] = session.run(
        ["y"], {"x": np.ascontiguousarray(values), "w": np.ascontiguousarray(steps)}
    )[0]
    return result


@lru_cache(maxsize=256)
def _conv_session(window: Window) -> onnxruntime.InferenceSession:
    """A float convolution whose weights are an input."""
    node = helper.make_node(
        "Conv", ["x", "w"], ["y"], strides=window.strides, dilations=window.dilations,
        pads=[*window.before, *window.after], group=window.groups,
    )  # fmt: skip
    shape = [None] * (len(window.shape) + 2)
    values = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape) for name in ("x", "w", "y")]
    graph = helper.make_graph([node], "conv", values[:2], values[2:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = SEVERITY_FATAL
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _saturated(
    sums: NDArray[np.int32], x: NDArray[np.int32], x_zero: int, w: NDArray[np.int32], window: Window
) -> NDArray[np.int32]:
    """The sums with what saturation takes; one group after the other."""
    batch, outputs, *spatial = sums.shape
    padding = [(0, 0), (0, 0), *zip(window.before, window.after, strict=True)]
    padded = np.pad(x, padding, constant_values=x_zero)
    positions = [np.unravel_index(index, window.shape) for index in range(int(np.prod(window.shape)))]
    inside, outside = w.shape[1], outputs // window.groups
    rows = np.ascontiguousarray(np.moveaxis(sums, 1, -1).reshape(-1, outputs))
    for group in range(window.groups):
        channels = padded[:, group * inside : (group + 1) * inside]

        def column(index: int, channels: NDArray[np.int32] = channels) -> NDArray[np.int32]:
            channel, position = divmod(index, len(positions))
            return _looked_at(channels[:, channel], positions[position], window, tuple(spatial)).reshape(-1)

        part = slice(group * outside, (group + 1) * outside)
        weights = np.ascontiguousarray(w[part].reshape(outside, -1).T)
        peaks = np.repeat(channels.max(axis=(0, *range(2, channels.ndim))), len(positions))
        own = np.ascontiguousarray(rows[:, part])
        subtract_excess(own, column, weights, neighbours(inside, len(positions)), peaks)
        rows[:, part] = own
    return np.ascontiguousarray(np.moveaxis(rows.reshape(batch, *spatial, outputs), -1, 1))


def _looked_at(
    plane: NDArray[np.int32], position: tuple[Any, ...], window: Window, spatial: tuple[int, ...]
) -> NDArray[np.int32]:
    """What one position of the window meets, of (batch, *padded): (batch, *spatial)."""
    slices = [
        slice(int(at) * dilation, int(at) * dilation + (size - 1) * stride + 1, stride)
        for at, dilation, stride, size in zip(position, window.dilations, window.strides, spatial, strict=True)
    ]
    return plane[(slice(None), *slices)]
