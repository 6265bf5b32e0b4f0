"""Which register blocks are worth trying for a direct convolution, by a rough count of cycles."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from ..machine import Machine
from ..net import Convolution
from . import depthwise
from .direct_block import balanced, channel_blocks
from .epilogue import STORED

SHORT_RUN = 16
"""A row of a window of that many products is written out."""


def is_direct(layer: Convolution) -> bool:
    """Whether it is a float32 convolution that sums over channels, over groups of several, or over large windows."""
    return (
        isinstance(layer, Convolution)
        and layer.weight.dtype == np.float32
        and layer.x.dtype == "f32"
        and layer.y.dtype in STORED
        and not (layer.is_depthwise and math.prod(layer.weight.shape[1:3]) <= depthwise.WRITTEN_OUT)
    )


def tile_sizes(layer: Convolution, machine: Machine) -> Iterator[dict[str, int]]:
    """At most ten, the best guess first."""
    shapes = sorted(_shapes(layer, machine), key=lambda shape: cycles(layer, machine, *shape))
    run = math.prod(layer.weight.shape[2:])
    unroll = run if run <= SHORT_RUN else 1
    outside = int(_rows_outside(layer, machine))
    for rows, columns, vectors in shapes[:7]:
        yield _sizes(rows, columns, vectors, outside, unroll)
    for rows, columns, vectors in shapes[:2]:
        yield _sizes(rows, columns, vectors, 1 - outside, unroll)


def _sizes(rows: int, columns: int, vectors: int, outside: int, unroll: int) -> dict[str, int]:
    return {"rows": rows, "columns": columns, "vectors": vectors, "rows_outside": outside, "unroll": unroll}


def _rows_outside(layer: Convolution, machine: Machine) -> bool:
    """Rows outermost read all weights per block of rows: good while they stay in the second cache and x does not."""
    return layer.weight.nbytes <= machine.l2_bytes // 2 < layer.x.size_bytes


def _shapes(layer: Convolution, machine: Machine) -> Iterator[tuple[int, int, int]]:
    height, width = layer.y.shape[1:3]
    vectors = -(-layer.weight.shape[0] // layer.groups // machine.lanes)
    seen = set()
    for wide in range(1, min(vectors, 6) + 1):
        most = (machine.registers - wide - 1) // wide
        for rows in range(1, min(height, 4) + 1):
            for columns in range(1, min(width, most // rows) + 1):
                # What stands for the same pieces is the same tile.
                shape = (max(r for _, r, _ in balanced(height, rows)), max(c for _, c, _ in balanced(width, columns)))
                if (*shape, wide) not in seen:
                    seen.add((*shape, wide))
                    yield *shape, wide


def best_cycles(layer: Convolution, machine: Machine) -> float:
    """Of the best block that is known."""
    return min(cycles(layer, machine, *shape) for shape in _shapes(layer, machine))


def cycles(layer: Convolution, machine: Machine, rows: int, columns: int, vectors: int) -> float:
    """Of one picture and one group, if a vector is multiplied per cycle."""
    depth = math.prod(layer.weight.shape[1:])
    heights = balanced(layer.y.shape[1], rows)
    widths = balanced(layer.y.shape[2], columns)
    clash = _clash(layer, machine)
    total = 0.0
    for block in channel_blocks(layer.weight.shape[0] // layer.groups, vectors, machine):
        wide = sum(max(vector.lanes, machine.lanes // 2) for vector in block.vectors) / machine.lanes
        for _, high, many in heights:
            for _, broad, count in widths:
                each = block_cycles(high * broad, wide, depth, machine, block.width * depth * 4)
                total += many * count * each * (1.5 if high * broad >= clash else 1.0)
    return total


def _clash(layer: Convolution, machine: Machine) -> int:
    """How many positions push one another out of the first cache, if its ways are 4 KiB (a page) each."""
    step = layer.x.strides[2] * layer.strides[1] * 4
    return machine.l1_bytes // max(math.gcd(step, 4096), 64)


def block_cycles(
    positions: int, vectors: float, depth: int, machine: Machine, weight_bytes: int, end: float = 4.0
) -> float:
    """Of one register block: products or loads, whatever takes longer, and what is paid once per block and vector."""
    # Wide vectors are multiplied one per cycle or less; two numbers of x and of the weights are loaded meanwhile.
    per_load = 0.5 if machine.vector_bytes == 64 else 1.0
    from_cache = 0.25 if weight_bytes <= machine.l1_bytes // 2 else 1.0
    products = max(positions * vectors, 8.0, (positions + vectors) * per_load)
    return depth * (products + from_cache * vectors) + 12 + end * positions * vectors
