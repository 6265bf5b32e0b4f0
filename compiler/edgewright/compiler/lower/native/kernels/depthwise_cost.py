"""Which blocks of rows x columns are worth trying: an estimate of cycles per picture and channel vector."""

from __future__ import annotations

from functools import lru_cache

from ..machine import Machine
from .window import Window

MAX_SIDE = 8
LOAD = 0.5
"""Cycles of a vector load beside a multiply-add of 1: two load ports and one or two multipliers are usual."""
BLOCK = 4.0
"""Cycles of a block besides: its loop, its addresses, the first latencies."""
STORE = 1.0


def block_shapes(window: Window, machine: Machine, weights: int) -> tuple[tuple[int, int], ...]:
    """Rows x columns per register block that the registers hold, the fewest expected cycles first.

    `weights` is the number of weight vectors of a channel vector: one per tap, or 0.
    """
    _, height, width, _ = window.y.shape
    sides = [
        (rows, columns)
        for rows in range(1, min(MAX_SIDE, height) + 1)
        for columns in range(1, min(MAX_SIDE, width) + 1)
        if rows * columns + 3 + _live_weights(window, machine, rows, weights) <= machine.registers
    ] or [(1, 1)]  # every weight is used once: none needs to stay
    return tuple(sorted(sides, key=lambda side: (_cycles(window, machine, weights, *side), side)))


def _live_weights(window: Window, machine: Machine, rows: int, weights: int) -> int:
    """Weight vectors that a block holds at once: all, or those of the kernel rows that meet one input row."""
    if resident(weights, machine):
        return weights
    return min(rows, window.size[0]) * window.size[1]


def resident(weights: int, machine: Machine) -> bool:
    """Whether all weight vectors of a channel vector stay in registers; else a block reads them again."""
    return weights + 4 < machine.registers


def _cycles(window: Window, machine: Machine, weights: int, rows: int, columns: int) -> float:
    _, height, width, _ = window.y.shape
    reread = 0 if resident(weights, machine) else weights
    total = 0.0
    for band, bands in ((rows, height // rows), (height % rows, 1)):
        if not band:
            continue
        total += bands * (weights - reread) * LOAD
        for size, count in ((columns, width // columns), (width % columns, 1)):
            if size:
                total += bands * count * _block_cycles(window, band, size, reread)
    return total


@lru_cache(maxsize=4096)
def _block_cycles(window: Window, rows: int, columns: int, reread: int) -> float:
    reads = len(window.reads(rows, columns)) + reread
    products = rows * columns * window.taps
    return max(products, reads) + LOAD * reads + STORE * rows * columns + BLOCK
