"""Convolutions over pictures."""

from __future__ import annotations

from ..orders import CHANNELS_FIRST
from ..step import Step
from ..windows import transposed_window, window
from .row import Row

FILTERS = (0, 3, 1, 2)
"""(out, height, width, in) as (out, in, height, width)."""
INPUT_FIRST = (3, 0, 1, 2)
"""(1, height, width, out) as (out, 1, height, width), and (out, height, width, in) as (in, out, height, width)."""


def conv_2d(step: Step) -> None:
    """Conv, with groups where the filters have fewer channels than the picture."""
    channels, filters = step.picture()[3], step.picture(1)
    per_group = filters[3]
    groups = channels // per_group if per_group else 0
    if not groups or groups * per_group != channels or filters[0] % groups:
        step.wrong(f"its filters {filters} do not fit a picture of {channels} channels")
    _conv(step, step.weights(1, FILTERS), (filters[1], filters[2]), filters[0], groups)


def depthwise_conv_2d(step: Step) -> None:
    """Conv with a group for each channel."""
    channels, filters = step.picture()[3], step.picture(1)
    if filters[0] != 1 or not channels or filters[3] % channels or not filters[3]:
        step.wrong(f"its filters {filters} do not fit a picture of {channels} channels")
    _conv(step, step.weights(1, INPUT_FIRST), (filters[1], filters[2]), filters[3], channels)


def _conv(step: Step, weights: str, kernel: tuple[int, int], channels: int, groups: int) -> None:
    x = step.real(0, CHANNELS_FIRST)
    inputs = (x, weights, *_bias(step, 2, channels))
    attributes = window(step, kernel, dilated=True)
    y = step.node("Conv", *inputs, group=groups, kernel_shape=kernel, **attributes)
    step.finish(step.activated(y), CHANNELS_FIRST)


def transpose_conv(step: Step) -> None:
    """ConvTranspose; the shape that is asked for says what it pads."""
    filters, picture = step.picture(1), step.picture(2)
    if filters[3] != picture[3] or not all(filters):
        step.wrong(f"its filters {filters} do not fit a picture of {picture[3]} channels")
    shape = step.numbers(0)
    if len(shape) != len(picture) or shape[3] != filters[0]:
        step.wrong(f"it asks for the shape {shape} of filters {filters}")
    inputs = (step.real(2, CHANNELS_FIRST), step.weights(1, INPUT_FIRST), *_bias(step, 3, filters[0]))
    attributes = transposed_window(step, (filters[1], filters[2]), (picture[1], picture[2]), (shape[1], shape[2]))
    y = step.node("ConvTranspose", *inputs, kernel_shape=filters[1:3], **attributes)
    step.finish(step.activated(y), CHANNELS_FIRST)


def _bias(step: Step, index: int, channels: int) -> tuple[str, ...]:
    if not step.has(index):
        return ()
    if step.shape(index) != (channels,):
        step.wrong(f"its bias has shape {step.shape(index)}, expected {(channels,)}")
    return (step.reading.bias(step.input(index)),)


TABLE = {
    "CONV_2D": Row(conv_2d, 2, 3),
    "DEPTHWISE_CONV_2D": Row(depthwise_conv_2d, 2, 3),
    "TRANSPOSE_CONV": Row(transpose_conv, 3, 4),
}
