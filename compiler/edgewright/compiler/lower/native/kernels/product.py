"""What products of matrices share: register blocks, and one order of summation.

Every output is the sum over `DEPTH` inputs at a time, in their order, one fused multiply-add after the other from
zero; the sums of such blocks are added in order. No tile and no vector width changes that, so all families of
products, batch sizes and machines with FMA give the same bits, and the error of a long sum stays that of a short one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from ..machine import Machine
from ..nest import Affine, Node, Scope, loop, number
from .panels import Panel, Vector, even, over, panel_width

DEPTH = 128
"""Products that are summed before their sum is added to those before; a constant, as results depend on it."""
MOST_POSITIONS = 12
"""Of a register block: each may need a pointer, and where those run out they are read from the stack."""


@dataclass(frozen=True)
class Operands:
    """How a register block reads and writes, as C text."""

    x: Callable[[Affine, Affine], str]
    """A float by position and input channel."""
    weight: Callable[[Affine, Vector], str]
    """A vector of floats by input channel."""
    finish: Callable[[str, Affine, Vector], list[str]]
    """Lines that store a vector of sums (its name) of a position."""
    fold: bool = False
    """Whether x lies side by side along the input channels and the machine multiplies by a lane of a vector."""


def folds(machine: Machine) -> bool:
    """Whether a multiply-add can take one lane of a vector as its factor: half the loads of a register block."""
    return machine.arch == "aarch64"


def products(
    operands: Operands, positions: Sequence[Affine], panel: Panel, starts: Mapping[str, Affine], depth: int
) -> list[Node]:
    """Sums over `depth` input channels from each of some starts, side by side: `<name of start><position>_<vector>`."""
    declared: list[Node] = [
        f"{vector.kind} {name}{p}_{v} = {{0}};"
        for name in starts
        for p in range(len(positions))
        for v, vector in enumerate(panel)
    ]

    def step(c: Affine) -> list[Node]:
        return [
            Scope(
                tuple(
                    _step(operands, [operands.x(position, start + c) for position in positions], panel, start + c, name)
                )
            )
            for name, start in starts.items()
        ]

    def four(c: Affine) -> list[Node]:
        return [Scope(tuple(_four(operands, positions, panel, start + c * 4, name))) for name, start in starts.items()]

    if not operands.fold:
        return [*declared, *loop("c", depth, step)]
    rest = [node for c in range(depth // 4 * 4, depth) for node in step(number(c))]
    return [*declared, *loop("c", depth // 4, four), *rest]


def _four(operands: Operands, positions: Sequence[Affine], panel: Panel, c: Affine, name: str) -> list[Node]:
    lines: list[Node] = [
        f"const f32x4 q{p} = ew_load_f32x4(&{operands.x(position, c)});" for p, position in enumerate(positions)
    ]
    for lane in range(4):
        x = [f"q{p}[{lane}]" for p in range(len(positions))]
        lines.append(Scope(tuple(_step(operands, x, panel, c + lane, name))))
    return lines


def _step(operands: Operands, x: Sequence[str], panel: Panel, c: Affine, name: str) -> list[Node]:
    lines: list[Node] = [f"const {vector.kind} w{v} = {operands.weight(c, vector)};" for v, vector in enumerate(panel)]
    for p, factor in enumerate(x):
        lines.append(f"const float b{p} = {factor};")
        for v, vector in enumerate(panel):
            sums = f"{name}{p}_{v}"
            lines.append(f"{sums} = ew_fma_{vector.kind}(ew_splat_{vector.kind}(b{p}), w{v}, {sums});")
    return lines


def totals_bytes(depth: int, positions: int, width: int) -> int:
    """Scratch for sums of sums that `swept` needs; none for short sums. `width` in floats."""
    return 4 * positions * width if depth > DEPTH else 0


@dataclass(frozen=True)
class Sweep:
    """Register blocks over some positions of a panel, depth block after depth block.

    Weights of a depth block stay near while all positions pass; sums of sums wait in scratch, a `float *`.
    """

    operands: Operands
    panel: Panel
    depth: int
    block: int
    """Positions of a register block, at most."""

    def nodes(self, start: Affine, size: int) -> list[Node]:
        """For `size` positions from `start`."""
        runs = even(size, self.block)
        last = (self.depth - 1) // DEPTH

        def middle(d: Affine) -> list[Node]:
            return over(runs, "p", lambda p, count: self._add(start + p, count, d * DEPTH, p))

        ends = over(runs, "p", lambda p, count: self._end(start + p, count, number(last * DEPTH), p))
        if not last:
            return ends
        zeros = f"__builtin_memset(scratch, 0, {4 * size * panel_width(self.panel)});"
        return [zeros, *loop("d", last, middle), *ends]

    def _add(self, position: Affine, count: int, c: Affine, place: Affine) -> list[Node]:
        return [
            *products(self.operands, _positions(position, count), self.panel, {"s": c}, DEPTH),
            *(
                f"ew_store_{kind}({at}, ew_add_{kind}(ew_load_{kind}({at}), {name}));"
                for name, kind, at in self._totals(count, place)
            ),
        ]

    def _end(self, position: Affine, count: int, c: Affine, place: Affine) -> list[Node]:
        positions = _positions(position, count)
        nodes = products(self.operands, positions, self.panel, {"s": c}, self.depth - c.constant)
        if c.constant:
            nodes += [
                f"{name} = ew_add_{kind}(ew_load_{kind}({at}), {name});"
                for name, kind, at in self._totals(count, place)
            ]
        return [*nodes, *finished(self.operands, positions, self.panel)]

    def _totals(self, count: int, place: Affine) -> Iterable[tuple[str, str, str]]:
        """Name, type and place of every sum of a register block; `place` counts positions from the sweep's first."""
        width = panel_width(self.panel)
        for p in range(count):
            for v, vector in enumerate(self.panel):
                yield f"s{p}_{v}", vector.kind, f"(float *)scratch + {(place + p) * width + vector.offset}"


def finished(operands: Operands, positions: Sequence[Affine], panel: Panel, name: str = "s") -> list[Node]:
    """Stores all sums of a register block."""
    return [
        line
        for p, position in enumerate(positions)
        for v, vector in enumerate(panel)
        for line in operands.finish(f"{name}{p}_{v}", position, vector)
    ]


def _positions(start: Affine, count: int) -> list[Affine]:
    return [start + index for index in range(count)]


def block_shapes(positions: int, channels: int, machine: Machine, most: int) -> tuple[tuple[int, int], ...]:
    """Positions x vectors of register blocks that the registers hold, the least work for the layer first."""
    all_vectors = -(-channels // machine.lanes)
    found = []
    by_lane = folds(machine)
    for vectors in range(1, min(all_vectors, machine.registers // 2) + 1):
        for count in range(1, min(positions, MOST_POSITIONS) + 1):
            alike = even(positions, count)[0].size == count and even(all_vectors, vectors)[0].size == vectors
            if alike and count * vectors + vectors + (count if by_lane else 1) <= machine.registers:
                found.append((_work(positions, all_vectors, count, vectors), -count, vectors))
    return tuple((-count, vectors) for _, count, vectors in sorted(found)[:most])


def _work(positions: int, all_vectors: int, count: int, vectors: int) -> float:
    return sum(
        rows.count * columns.count * _step_cost(rows.size, columns.size)
        for rows in even(positions, count)
        for columns in even(all_vectors, vectors)
    )


def _step_cost(positions: int, vectors: int) -> float:
    """Of a step over one input channel, in halves of a cycle: two multiply-adds or two loads run in one.

    A multiply-add takes four cycles, so that eight sums must be under way. Weights come from the second-level cache:
    a vector of theirs costs more than a float of x, which lies in the first.
    """
    return max(positions * vectors, positions + vectors, 8) + 0.5 * vectors + 0.25 * positions
