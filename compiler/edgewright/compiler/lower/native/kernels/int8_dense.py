"""Dense layers in int8: exact int32 sums, requantized as they are stored."""

from __future__ import annotations

import math

import numpy as np

from ..kernel import Family, Kernel, Tile
from ..machine import Machine
from ..net import Dense
from . import int8_blocks, int8_problem
from .int8_problem import Problem

NAME = "int8_dense"


def problem_of(layer: Dense) -> Problem:
    """Positions side by side where nothing has a border, else rows of pictures."""
    x, y = layer.x, layer.y
    channels = x.shape[-1]
    flat = not any(tensor.border for tensor in (x, y, *layer.epilogue.beside))
    images, rows, per_row = (1, 1, math.prod(x.shape[:-1])) if flat else (x.shape[0], x.shape[1], x.shape[2])
    return Problem(
        x=x,
        y=y,
        weight=layer.weight.reshape(layer.weight.shape[0], 1, channels),
        runs=(),
        step=channels,
        row_step=0 if flat else x.strides[1],
        image_step=0 if flat else x.strides[0],
        start=x.origin,
        images=images,
        rows=rows,
        per_row=per_row,
        groups=1,
        x_zero_point=layer.x_zero_point,
        epilogue=layer.epilogue,
    )


def tiles(layer: Dense, machine: Machine) -> tuple[Tile, ...]:
    """Register blocks."""
    if layer.weight.dtype != np.int8 or layer.x.dtype not in ("u8", "s8"):
        return ()
    return int8_problem.tiles(NAME, problem_of(layer), machine)


def kernel(layer: Dense, machine: Machine, tile: Tile) -> Kernel:
    """The function of a layer."""
    return int8_blocks.kernel(problem_of(layer), machine, tile)


FAMILY = Family(NAME, tiles, kernel)
