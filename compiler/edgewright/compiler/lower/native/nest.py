"""Loop nests as data, between layers and C text: tiles, unrolled loops and remainders without string arithmetic.

A nest is lines of C and loops. Indices are affine sums that simplify themselves, so that the same builder writes a
rolled loop, an unrolled one and a remainder: it is called with an index that is a variable, or a number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Affine:
    """A sum of variables times whole numbers, and a number."""

    terms: tuple[tuple[str, int], ...] = ()
    constant: int = 0

    def __add__(self, other: Affine | int) -> Affine:
        right = other if isinstance(other, Affine) else Affine((), other)
        terms = dict(self.terms)
        for name, factor in right.terms:
            terms[name] = terms.get(name, 0) + factor
        kept = tuple((name, factor) for name, factor in terms.items() if factor)
        return Affine(kept, self.constant + right.constant)

    __radd__ = __add__

    def __sub__(self, other: Affine | int) -> Affine:
        return self + other * -1

    def __mul__(self, factor: int) -> Affine:
        return Affine(tuple((name, part * factor) for name, part in self.terms if factor), self.constant * factor)

    __rmul__ = __mul__

    def __str__(self) -> str:
        parts = [name if factor == 1 else f"{factor} * {name}" for name, factor in self.terms]
        if self.constant or not parts:
            parts.append(str(self.constant))
        return " + ".join(parts).replace("+ -", "- ")


def variable(name: str) -> Affine:
    """An index that a loop counts."""
    return Affine(((name, 1),))


def number(value: int) -> Affine:
    """An index that is known."""
    return Affine((), value)


@dataclass(frozen=True)
class Loop:
    """for (int64_t index = start; index < stop; index += step)."""

    index: str
    start: str
    stop: str
    step: int
    body: tuple[Node, ...]


@dataclass(frozen=True)
class Scope:
    """Lines with names of their own."""

    body: tuple[Node, ...]


Node = str | Loop | Scope
Builder = Callable[[Affine], Iterable[Node]]


def loop(index: str, extent: int, body: Builder, *, unroll: bool = False) -> list[Node]:
    """`body` once per value below `extent`: as a loop, or written out; a single value needs no loop."""
    if unroll or extent <= 1:
        return [Scope(tuple(body(number(value)))) for value in range(extent)]
    return [Loop(index, "0", str(extent), 1, tuple(body(variable(index))))]


def tiled(index: str, extent: int, tile: int, body: Callable[[Affine, int], Iterable[Node]]) -> list[Node]:
    """`body(start, size)` for every full tile of an extent, and once more for what is left over."""
    full, rest = divmod(extent, tile)
    nodes = loop(index, full, lambda count: body(count * tile, tile))
    if rest:
        nodes.append(Scope(tuple(body(number(full * tile), rest))))
    return nodes


def pieces(extent: int, widths: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """An extent in (start, width) pieces, widest first; the last may be narrower than every width: a partial vector."""
    found, start = [], 0
    for width in widths:
        while extent - start >= width:
            found.append((start, width))
            start += width
    if start < extent:
        found.append((start, extent - start))
    return tuple(found)


def render(nodes: Iterable[Node], depth: int = 1) -> str:
    """C text, indented."""
    return "".join(_render(node, depth) for node in nodes)


def _render(node: Node, depth: int) -> str:
    indent = "    " * depth
    if isinstance(node, str):
        return f"{indent}{node}\n"
    body = render(node.body, depth + 1)
    if isinstance(node, Scope):
        return f"{indent}{{\n{body}{indent}}}\n"
    step = f"{node.index}++" if node.step == 1 else f"{node.index} += {node.step}"
    head = f"for (int64_t {node.index} = {node.start}; {node.index} < {node.stop}; {step})"
    return f"{indent}{head} {{\n{body}{indent}}}\n"
