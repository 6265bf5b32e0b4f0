"""Sixteen partial results, whatever the width of a vector: reductions along rows come out the same on every machine.

Element i of a row belongs to partial result i mod 16; at the end halves are joined, 8, 4, 2 and 1 apart.
"""

from __future__ import annotations

from collections.abc import Callable

from ..machine import Machine
from ..nest import Affine, Node, loop, number

PARTS = 16
WRITTEN_OUT = 4
"""Steps of sixteen that are written one after the other instead of in a loop."""

Step = Callable[[int, Affine, int, int], list[Node]]
"""Lines for vector `v` of the sixteen, at an element of the row: lanes, and how many of them the row fills."""


def vectors(machine: Machine) -> int:
    """Vectors that hold sixteen lanes."""
    return PARTS // machine.lanes


def declare(names: str, kind: str, start: str, machine: Machine) -> list[Node]:
    """Sixteen partial results `<names>0`, `<names>1`, … that begin as one number."""
    lanes = machine.lanes
    return [f"{kind}x{lanes} {names}{v} = ew_splat_{kind}x{lanes}({start});" for v in range(vectors(machine))]


def along(extent: int, machine: Machine, step: Step, index: str = "i") -> list[Node]:
    """Every element of a row, sixteen at a time; the last vectors may be parts of one."""
    lanes, count = machine.lanes, vectors(machine)
    full, rest = divmod(extent, PARTS)

    def sixteen(i: Affine) -> list[Node]:
        return [line for v in range(count) for line in step(v, i * PARTS + v * lanes, lanes, lanes)]

    nodes = loop(index, full, sixteen, unroll=full <= WRITTEN_OUT)
    for v in range(-(-rest // lanes)):
        nodes += step(v, number(full * PARTS + v * lanes), lanes, min(lanes, rest - v * lanes))
    return nodes


def total(names: str, operation: str, kind: str, machine: Machine) -> str:
    """C text: the sixteen partial results as one number."""
    parts = [f"{names}{v}" for v in range(vectors(machine))]
    suffix = f"{kind}x{machine.lanes}"
    while len(parts) > 1:
        half = len(parts) // 2
        parts = [f"ew_{operation}_{suffix}({parts[v]}, {parts[v + half]})" for v in range(half)]
    return f"ew_total_{operation}_{suffix}({parts[0]})"


def only(value: str, other: str, kind: str, lanes: int, count: int) -> str:
    """C text: the first `count` lanes of a vector, the other number in the rest."""
    if count == lanes:
        return value
    mask = ", ".join("-1" if lane < count else "0" for lane in range(lanes))
    select = "select_f32" if kind == "f32" else "iselect_s32"
    return f"ew_{select}x{lanes}((s32x{lanes}){{{mask}}}, {value}, ew_splat_{kind}x{lanes}({other}))"
