"""Random int8 layers, and what they give in int64."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from edgewright.compiler.lower.native.expression import Accumulator, Row, Scalar, call
from edgewright.compiler.lower.native.net import NUMPY, Array, Border, Convolution, Dense, Dtype, Epilogue, Tensor
from edgewright.compiler.lower.native.requantization import LIMITS, requantized

ZERO_POINTS: Mapping[Dtype, tuple[int, ...]] = {"u8": (0, 255, 128, 3), "s8": (-128, 127, 0, -5)}


def integers(random: np.random.Generator, shape: tuple[int, ...], dtype: Dtype, *, extreme: bool) -> Array:
    """Any values of a type, or its ends only."""
    low, high = LIMITS[dtype]
    if extreme:
        return random.choice(np.array([low, high], NUMPY[dtype]), shape)
    return random.integers(low, high + 1, shape).astype(NUMPY[dtype])


def epilogue(
    random: np.random.Generator, channels: int, dtype: Dtype, terms: int, *, per_channel: bool, extreme: bool
) -> tuple[Epilogue, Array, Array, int]:
    """Bias and requantization; with its numbers."""
    zero_point = int(random.choice(ZERO_POINTS[dtype]))
    bias = random.integers(-(2**31) + 1 if extreme else -5000, 2**31 if extreme else 5000, channels).astype(np.int32)
    scale = (1e-3 if extreme else 2.0) / np.sqrt(terms) / 100
    factor = (random.uniform(0.5, 2, channels if per_channel else 1) * scale).astype(np.float32)
    total = call("iadd", Accumulator("s32"), Row(0, "s32"))
    if per_channel:
        return Epilogue(requantized(total, Row(1), zero_point, dtype), (bias, factor)), bias, factor, zero_point
    value = requantized(total, Scalar(float(factor[0])), zero_point, dtype)
    return Epilogue(value, (bias,)), bias, factor, zero_point


def expected(sums: Array, bias: Array, factor: Array, zero_point: int, dtype: Dtype) -> Array:
    """As MLAS requantizes."""
    low, high = LIMITS[dtype]
    wrapped = (sums + bias).astype(np.uint64).astype(np.uint32).view(np.int32)
    steps = np.clip(wrapped.astype(np.float32) * factor, np.float32(low - zero_point), np.float32(high - zero_point))
    return (np.rint(steps) + np.float32(zero_point)).astype(NUMPY[dtype])


def convolved(layer: Convolution, x: Array) -> Array:
    """Sums in int64; `x` without its border."""
    border = layer.x.border
    padding = ((0, 0), (border.top, border.bottom), (border.left, border.right), (0, 0))
    wide = np.pad(x.astype(np.int64), padding, constant_values=int(border.value)) - layer.x_zero_point
    batch, rows, columns, channels = layer.y.shape
    groups = layer.groups
    weight = layer.weight.astype(np.int64).reshape(groups, channels // groups, *layer.weight.shape[1:])
    sums = np.zeros((batch, rows, columns, groups, channels // groups), np.int64)
    for i in range(layer.weight.shape[1]):
        for j in range(layer.weight.shape[2]):
            top = border.top - layer.top + i * layer.dilations[0]
            left = border.left - layer.left + j * layer.dilations[1]
            part = wide[
                :,
                top : top + (rows - 1) * layer.strides[0] + 1 : layer.strides[0],
                left : left + (columns - 1) * layer.strides[1] + 1 : layer.strides[1],
            ]
            split = part.reshape(batch, rows, columns, groups, -1)
            sums += np.einsum("nhwgc,gkc->nhwgk", split, weight[:, :, i, j])
    return sums.reshape(layer.y.shape)


def dense(
    random: np.random.Generator, leading: tuple[int, ...], depth: int, channels: int, x: Dtype, y: Dtype, *,
    per_channel: bool = True, extreme: bool = False,
) -> tuple[Dense, Array, Array]:  # fmt: skip
    """A layer, its input and its output."""
    weight = integers(random, (channels, depth), "s8", extreme=extreme)
    zero_point = int(random.choice(ZERO_POINTS[x]))
    done, bias, factor, y_zero = epilogue(random, channels, y, depth, per_channel=per_channel, extreme=extreme)
    layer = Dense(
        x=Tensor("x", (*leading, depth), x), y=Tensor("y", (*leading, channels), y), weight=weight,
        x_zero_point=zero_point, epilogue=done,
    )  # fmt: skip
    values = integers(random, (*leading, depth), x, extreme=extreme)
    sums = (values.astype(np.int64) - zero_point) @ weight.astype(np.int64).T
    return layer, values, expected(sums, bias, factor, y_zero, y)


def convolution(
    random: np.random.Generator, size: tuple[int, int, int, int], channels: int, kernel: tuple[int, int], x: Dtype,
    y: Dtype, *, strides: tuple[int, int] = (1, 1), dilations: tuple[int, int] = (1, 1), groups: int = 1,
    pads: tuple[int, int, int, int] = (0, 0, 0, 0), y_border: Border | None = None, extreme: bool = False,
) -> tuple[Convolution, Array, Array]:  # fmt: skip
    """A layer with its padding in the border of x, its input and its output."""
    batch, height, width, depth = size
    top, left, bottom, right = pads
    rows = (height + top + bottom - dilations[0] * (kernel[0] - 1) - 1) // strides[0] + 1
    columns = (width + left + right - dilations[1] * (kernel[1] - 1) - 1) // strides[1] + 1
    zero_point = int(random.choice(ZERO_POINTS[x]))
    weight = integers(random, (channels, *kernel, depth // groups), "s8", extreme=extreme)
    terms = kernel[0] * kernel[1] * depth // groups
    done, bias, factor, y_zero = epilogue(random, channels, y, terms, per_channel=True, extreme=extreme)
    layer = Convolution(
        x=Tensor("x", size, x, Border(top, left, bottom, right, zero_point)),
        y=Tensor("y", (batch, rows, columns, channels), y, y_border or Border()),
        weight=weight, strides=strides, dilations=dilations, top=top, left=left, groups=groups,
        x_zero_point=zero_point, epilogue=done,
    )  # fmt: skip
    values = integers(random, size, x, extreme=extreme)
    return layer, values, expected(convolved(layer, values), bias, factor, y_zero, y)
