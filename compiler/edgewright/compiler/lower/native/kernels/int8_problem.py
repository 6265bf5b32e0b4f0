"""An int8 layer as products of windows and weights, and which register blocks are worth trying for it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from ..kernel import Tile
from ..machine import Machine
from ..net import Array, Epilogue, Tensor
from ..requantization import Requantization, requantization
from .int8_packing import GROUP, group_starts, largest_sum, parts_of, vectors_of

SHAPES = (
    (6, 4), (5, 4), (4, 4), (3, 4), (2, 4), (8, 2), (6, 2), (4, 2), (2, 2), (14, 1), (8, 1), (4, 1), (1, 8), (1, 4),
)  # fmt: skip
"""Positions x vectors per register block."""
BLOCK_COST, QUAD_COST, SINGLE_COST, LATENCY = 2.0, 1.5, 2.5, 4.0
"""In dot products: of beginning a register block, of requantizing a vector, and of waiting for a dot product. Fitted to
timings of 26 layers with VNNI; the block that they put first is within 11 % of the best, 2 % on average."""
MAX_TILES = 6


@dataclass(frozen=True, eq=False)
class Problem:
    """A layer as products of windows and weights."""

    x: Tensor
    y: Tensor
    weight: Array
    """(K, runs, length) int8: per group of channels, K counts all of them."""
    runs: tuple[tuple[int, int], ...]
    """(extent, bytes from one to the next) per loop over runs, outermost first."""
    step: int
    """Bytes of x from one position to the next."""
    row_step: int
    """Bytes of x from one row of positions to the next."""
    image_step: int
    start: int
    """Where the first window begins in x's buffer."""
    images: int
    rows: int
    """Of positions, per image."""
    per_row: int
    groups: int
    x_zero_point: int
    epilogue: Epilogue

    @cached_property
    def per_group(self) -> int:
        """Output channels of a group."""
        return int(self.weight.shape[0]) // self.groups

    @cached_property
    def depth(self) -> int:
        """Bytes of packed weight per output channel."""
        return int(self.weight.shape[1]) * len(group_starts(self.weight.shape[2])) * GROUP

    @cached_property
    def fast(self) -> Requantization | None:
        """The epilogue, where it is requantization and no more."""
        bound = largest_sum(self.weight, self.x_zero_point, self.x.dtype)
        if self.y.dtype not in ("u8", "s8"):
            return None
        return requantization(self.epilogue, int(self.weight.shape[0]), self.y.dtype, bound)


def tiles(name: str, problem: Problem, machine: Machine) -> tuple[Tile, ...]:
    """Blocks that the registers hold, those that should be fastest first.

    Of every width there is one: whoever needs weights packed as another batch size packs them finds it.
    """
    vectors = -(-problem.per_group // machine.lanes)
    shapes = {
        (min(positions, problem.per_row), min(wide, vectors))
        for positions, wide in SHAPES
        if _registers(positions, wide, machine) <= machine.registers
    }
    ranked = sorted(shapes, key=lambda shape: (_cost(problem, machine, *shape), shape))
    best = ranked[:MAX_TILES]
    of_each_width = {wide: (positions, wide) for positions, wide in reversed(ranked)}
    rest = [shape for wide, shape in sorted(of_each_width.items()) if wide not in {v for _, v in best}]
    return tuple(Tile(name, (("positions", p), ("vectors", v))) for p, v in (*best, *rest))


def _registers(positions: int, vectors: int, machine: Machine) -> int:
    if machine.dot == "pairs" and machine.arch == "x86_64":
        return positions * vectors + 2 * positions + 3
    return positions * vectors + min(positions, vectors) + 1


def _cost(problem: Problem, machine: Machine, positions: int, vectors: int) -> float:
    """Dot products and loads of the whole layer, roughly."""
    groups = problem.depth // GROUP
    cost = 0.0
    for size, times in split(problem.per_group, vectors * machine.lanes):
        parts = parts_of(size, machine.lanes, quads=problem.fast is not None)
        wide = len(vectors_of(parts))
        finish = sum(len(part.vectors) * (QUAD_COST if part.is_quad else SINGLE_COST) for part in parts)
        for count, often in split(problem.per_row, positions):
            dots = max(float(count * wide), LATENCY, 0.5 * (count + wide) + 0.7 * count * wide)
            cost += times * often * (groups * dots + BLOCK_COST + count * finish)
    return cost


def split(extent: int, size: int) -> list[tuple[int, int]]:
    """Sizes of blocks, and how many of each there are."""
    full, rest = divmod(extent, size)
    return [(width, times) for width, times in ((size, full), (rest, 1)) if width and times]
