"""Dense layers of one to four positions: bound by how fast weights come from memory, not by arithmetic.

Every weight is read once, in the order in which it lies; wide panels and blocks of the sum that are under way together
hide the latency of multiply-adds and memory. The order of summation is that of `product.py`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..kernel import Family, Kernel, Tile
from ..machine import Machine
from ..nest import Affine, Node, Scope, number, tiled
from ..net import Dense
from .dense import FEW_POSITIONS, computes, dense_operands
from .epilogue import row_constants
from .panels import ZERO, Body, Line, Panel, Run, divided, pack_panels, panels
from .product import DEPTH, Operands, finished, products

NAME = "gemv"
VECTORS = (4, 8, 2, 1)
"""Of a panel: enough to keep sums under way, few enough that memory is read in one stream."""
SUMS_UNDER_WAY = 4
"""Below that, multiply-adds wait for one another longer than for memory."""


def tiles(layer: Dense, machine: Machine) -> tuple[Tile, ...]:
    """Wide panels first; with blocks of the sum side by side where a panel alone is too narrow."""
    if not computes(layer) or _positions(layer) > FEW_POSITIONS:
        return ()
    if any(tensor.border for tensor in (layer.x, layer.y, *layer.epilogue.beside)):
        return ()
    channels, depth = layer.weight.shape
    positions = _positions(layer)
    all_vectors = -(-channels // machine.lanes)
    found = [
        (vectors, chains)
        for vectors in dict.fromkeys(min(wanted, all_vectors) for wanted in VECTORS)
        for chains in dict.fromkeys((min(-(-SUMS_UNDER_WAY // (vectors * positions)), max(1, depth // DEPTH)), 1))
        if (chains * positions + 1) * vectors + 1 <= machine.registers
    ]
    return tuple(Tile(NAME, (("vectors", v), ("chains", c))) for v, c in found[:4])


def kernel(layer: Dense, machine: Machine, tile: Tile) -> Kernel:
    """Its units are panels."""
    channels, depth = layer.weight.shape
    parts = panels(channels, tile["vectors"], machine)
    positions = [number(position) for position in range(_positions(layer))]

    def of(panel: Panel) -> Body:
        def body(channel: Affine, _: int) -> list[Node]:
            operands = dense_operands(layer, machine, Line(), channel, panel)
            return _panel(operands, positions, panel, depth, tile["chains"])

        return body

    segments: list[tuple[Run, Body]] = [(run, of(panel)) for run, panel in parts]
    body, units = divided("k", segments)
    constants = {"weight": pack_panels(layer.weight, parts), **row_constants(layer.epilogue, machine.lanes)}
    return Kernel(tuple(body), constants, units=units)


def _panel(operands: Operands, positions: Sequence[Affine], panel: Panel, depth: int, chains: int) -> list[Node]:
    if depth <= DEPTH:
        return [*products(operands, positions, panel, {"s": ZERO}, depth), *finished(operands, positions, panel)]
    sums = [(f"{p}_{v}", vector.kind) for p in range(len(positions)) for v, vector in enumerate(panel)]

    def side_by_side(first: Affine, count: int, length: int = DEPTH) -> list[Node]:
        starts = {f"s{chain}_": (first + chain) * DEPTH for chain in range(count)}
        adding = [f"t{name} = ew_add_{kind}(t{name}, {start}{name});" for start in starts for name, kind in sums]
        return [Scope((*products(operands, positions, panel, starts, length), *adding))]

    whole, rest = divmod(depth, DEPTH)
    declared = [f"{kind} t{name} = {{0}};" for name, kind in sums]
    ends = side_by_side(number(whole), 1, rest) if rest else []
    return [*declared, *tiled("d", whole, chains, side_by_side), *ends, *finished(operands, positions, panel, "t")]


def _positions(layer: Dense) -> int:
    return math.prod(layer.x.shape[:-1])


FAMILY = Family(NAME, tiles, kernel)
