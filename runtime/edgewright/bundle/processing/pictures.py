"""Where height, width and channels are in a batch of pictures."""

from __future__ import annotations

from ..steps import PictureLayout
from ..tensor_spec import TensorSpec
from .bound import ProcessingError, sample_shape

MAX_SIDE = 8192


def sides(tensor: TensorSpec, layout: PictureLayout) -> tuple[int, int, int]:
    """Height, width, channels.

    Raises:
        ProcessingError: not pictures, declared with the other layout, or too large.
    """
    shape = sample_shape(tensor, 4)
    if tensor.layout not in {None, layout}:
        raise ProcessingError(f"{tensor.name!r} is {tensor.layout}; the step says {layout}")
    height, width, channels = shape if layout == "NHWC" else (shape[1], shape[2], shape[0])
    if max(height, width) > MAX_SIDE:
        raise ProcessingError(f"{tensor.name!r} is {height} x {width} pixels; at most {MAX_SIDE} a side")
    return height, width, channels


def shape_of(batch: int, height: int, width: int, channels: int, layout: PictureLayout) -> tuple[int, ...]:
    """The shape of pictures in a layout."""
    return (batch, height, width, channels) if layout == "NHWC" else (batch, channels, height, width)


def height_axis(layout: PictureLayout) -> int:
    """The width is the axis after it."""
    return 1 if layout == "NHWC" else 2
