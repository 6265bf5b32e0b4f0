"""Convolutions in int8 with any groups: windows are read where they lie, a row of one as a run of bytes.

Channels of neighbouring columns are neighbouring bytes, so that few channels (a first layer) waste little: groups of
four products cross columns.
"""

from __future__ import annotations

import numpy as np

from ..kernel import Family, Kernel, Tile
from ..machine import Machine
from ..net import Convolution
from . import int8_blocks, int8_depthwise, int8_problem
from .int8_problem import Problem

NAME = "int8_direct"


def problem_of(layer: Convolution) -> Problem:
    """Rows of the window are runs where its columns lie side by side, else every column is one."""
    x, y = layer.x, layer.y
    count, height, width, channels = layer.weight.shape
    image, row, column, _ = x.strides
    together = layer.groups == 1 and (layer.dilations[1] == 1 or width == 1)
    rows = (height, layer.dilations[0] * row)
    runs = (rows,) if together else (rows, (width, layer.dilations[1] * column))
    shape = (count, height, width * channels) if together else (count, height * width, channels)
    return Problem(
        x=x,
        y=y,
        weight=layer.weight.reshape(shape),
        runs=runs,
        step=layer.strides[1] * column,
        row_step=layer.strides[0] * row,
        image_step=image,
        start=x.origin - layer.top * row - layer.left * column,
        images=y.shape[0],
        rows=y.shape[1],
        per_row=y.shape[2],
        groups=layer.groups,
        x_zero_point=layer.x_zero_point,
        epilogue=layer.epilogue,
    )


def tiles(layer: Convolution, machine: Machine) -> tuple[Tile, ...]:
    """Register blocks; none for what the depthwise family computes, ten times as fast."""
    if layer.weight.dtype != np.int8 or layer.x.dtype not in ("u8", "s8"):
        return ()
    if int8_depthwise.tiles(layer, machine):
        return ()
    return int8_problem.tiles(NAME, problem_of(layer), machine)


def kernel(layer: Convolution, machine: Machine, tile: Tile) -> Kernel:
    """The function of a layer."""
    return int8_blocks.kernel(problem_of(layer), machine, tile)


FAMILY = Family(NAME, tiles, kernel)
