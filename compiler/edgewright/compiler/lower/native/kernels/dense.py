"""Dense layers: register blocks of positions x channel vectors, weights packed by panel of channels.

The loops around a register block come in two orders: panels of channels outermost, so that weights are read once, or
groups of positions outermost, so that positions are; a group is as many positions as pass over the same weights.
float16 and int8 weights are converted when they are read; the scales of the latter are a row of the epilogue.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ..kernel import Family, Kernel, Tile
from ..machine import Machine
from ..nest import Affine, Node, loop
from ..net import Dense, Tensor
from .epilogue import STORED, finish, row_constants
from .panels import (
    Body,
    Line,
    Panel,
    Parts,
    Run,
    Vector,
    divided,
    even,
    line_at,
    lines_of,
    over,
    pack_panels,
    panel_width,
    panels,
)
from .product import DEPTH, Operands, Sweep, block_shapes, folds, totals_bytes

NAME = "dense"
SHAPES = 3
"""Register blocks to try."""
LOADS = {np.dtype(np.float32): "f32", np.dtype(np.float16): "f16_as_f32", np.dtype(np.int8): "s8_as_f32"}
"""How weights of a type become a vector of floats."""
FEW_POSITIONS = 4
"""Up to here, reading weights takes the time."""


def tiles(layer: Dense, machine: Machine) -> tuple[Tile, ...]:
    """Blocks that the registers hold, in both orders of loops."""
    if not computes(layer):
        return ()
    lines, per_line = lines_of(tensors_of(layer))
    # With so few positions weights that are read once are what counts: another family is tried first.
    most = SHAPES if lines * per_line > FEW_POSITIONS else SHAPES - 1
    shapes = block_shapes(per_line, layer.weight.shape[0], machine, most)
    return tuple(
        Tile(NAME, (("positions", positions), ("vectors", vectors), ("group", group), ("panels_outermost", outermost)))
        for positions, vectors in shapes
        for group, outermost in _orders(layer, positions, vectors * machine.lanes)
    )


def computes(layer: Dense) -> bool:
    """Whether it is a float layer with weights that these families read."""
    floats = layer.x.dtype == "f32" and layer.y.dtype in STORED and layer.weight.dtype in LOADS
    return isinstance(layer, Dense) and floats


def tensors_of(layer: Dense) -> tuple[Tensor, ...]:
    """Everything that is addressed by position."""
    return layer.x, layer.y, *layer.epilogue.beside


def _orders(layer: Dense, positions: int, width: int) -> list[tuple[int, int]]:
    """Positions of a group, and whether panels are outermost: the best guess first."""
    _, per_line = lines_of(tensors_of(layer))
    channels, depth = layer.weight.shape
    if channels <= width and depth <= DEPTH:
        return [(positions, 0)]
    group = min(8 * positions, per_line)
    return [(group, 0), (group, 1)]


def kernel(layer: Dense, machine: Machine, tile: Tile) -> Kernel:
    """Its units are panels of channels, or groups of positions."""
    channels, depth = layer.weight.shape
    lines, per_line = lines_of(tensors_of(layer))
    rows = layer.x.shape[1] if lines > 1 else 1
    parts = panels(channels, tile["vectors"], machine)
    groups = even(per_line, tile["group"])
    width = max(panel_width(panel) for _, panel in parts)

    def block(line: Line, start: Affine, size: int, channel: Affine, panel: Panel) -> list[Node]:
        operands = dense_operands(layer, machine, line, channel, panel)
        return Sweep(operands, panel, depth, tile["positions"]).nodes(start, size)

    nest = _Nest(parts, groups, lines, rows, block)
    body, units = divided("u", nest.by_panel() if tile["panels_outermost"] else nest.by_group())
    constants = {"weight": pack_panels(layer.weight, parts), **row_constants(layer.epilogue, machine.lanes)}
    return Kernel(tuple(body), constants, totals_bytes(depth, groups[0].size, width), units)


@dataclass(frozen=True)
class _Nest:
    """The loops around what is computed at once."""

    parts: Parts
    groups: Sequence[Run]
    lines: int
    rows: int
    block: Callable[[Line, Affine, int, Affine, Panel], list[Node]]
    """Of a line, the first position and the number of positions, the first channel, and its panel."""

    def by_panel(self) -> list[tuple[Run, Body]]:
        """Panels of channels outermost."""

        def of(panel: Panel) -> Body:
            return lambda channel, _: loop("r", self.lines, lambda index: self._line(index, [(channel, panel)]))

        return [(run, of(panel)) for run, panel in self.parts]

    def by_group(self) -> list[tuple[Run, Body]]:
        """Lines outermost, or groups of positions where there is one line."""
        if self.lines > 1:
            return [(Run(0, 1, self.lines), lambda index, _: self._line(index, None))]
        return [(run, lambda start, size: self._panels(Line(), start, size)) for run in self.groups]

    def _line(self, index: Affine, only: list[tuple[Affine, Panel]] | None) -> list[Node]:
        found, line = line_at(index, self.lines, self.rows)

        def group(start: Affine, size: int) -> list[Node]:
            if only is None:
                return self._panels(line, start, size)
            return [node for channel, panel in only for node in self.block(line, start, size, channel, panel)]

        return found + over(self.groups, "g", group)

    def _panels(self, line: Line, start: Affine, size: int) -> list[Node]:
        def of(panel: Panel) -> Body:
            return lambda channel, _: self.block(line, start, size, channel, panel)

        return [node for run, panel in self.parts for node in over([run], "k", of(panel))]


def dense_operands(layer: Dense, machine: Machine, line: Line, channel: Affine, panel: Panel) -> Operands:
    """What a panel of a layer reads and writes; `channel` is its first."""
    depth = layer.weight.shape[1]
    width = panel_width(panel)
    load = LOADS[layer.weight.dtype]

    def weight(c: Affine, vector: Vector) -> str:
        return f"ew_load_{load}x{vector.lanes}(weight + {channel * depth + c * width + vector.offset})"

    def ends(sums: str, position: Affine, vector: Vector) -> list[str]:
        at = channel + vector.offset

        def address(tensor: Tensor) -> str:
            return str(line.place(tensor, position, at))

        return finish(layer.epilogue, layer.y, sums, address, str(at), vector.lanes, vector.count)

    return Operands(lambda position, c: f"x0[{line.place(layer.x, position, c)}]", weight, ends, folds(machine))


FAMILY = Family(NAME, tiles, kernel)
