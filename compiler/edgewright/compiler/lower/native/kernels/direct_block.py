"""The register block that direct and Winograd convolutions share: positions x channel vectors, summed over a window.

Every sum runs over the weights in their order, one fused multiply-add after the other, whatever the block: all blocks
and machines give the same bits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ..machine import Machine
from ..nest import Affine, Builder, Loop, Node, Scope, loop, number, variable
from ..net import Array

BlockBuilder = Callable[[Affine, int], Iterable[Node]]
"""Builds the nest of a piece from its start and its size."""


@dataclass(frozen=True)
class Vector:
    """Some neighbouring channels: how far from the first of the block, in how many lanes, how many of them are real."""

    offset: int
    lanes: int
    count: int


@dataclass(frozen=True)
class Reduction:
    """One loop of a sum: how often, how far x moves, and whether it is written out."""

    index: str
    extent: int
    x_step: int
    unroll: bool = False


@dataclass(frozen=True)
class ChannelBlock:
    """Output channels that are computed together."""

    start: int
    width: int
    """Of its packed weights: all of its vectors, unreal lanes included."""
    vectors: tuple[Vector, ...]


def channel_blocks(channels: int, vectors: int, machine: Machine) -> tuple[ChannelBlock, ...]:
    """Channels in blocks of that many of the widest vectors; what is left ends in the narrowest that holds it."""
    size = vectors * machine.lanes
    return tuple(
        _channel_block(start, min(size, channels - start), machine.widths()) for start in range(0, channels, size)
    )


def _channel_block(start: int, channels: int, widths: Sequence[int]) -> ChannelBlock:
    found: list[Vector] = []
    offset = 0
    while offset < channels:
        left = channels - offset
        lanes = min((width for width in widths if width >= left), default=widths[0])
        found.append(Vector(offset, lanes, min(lanes, left)))
        offset += lanes
    return ChannelBlock(start, offset, tuple(found))


def kinds(blocks: Sequence[ChannelBlock]) -> list[tuple[int, int]]:
    """Blocks that are alike and follow one another: the first, and how many."""
    last = len(blocks) - 1
    return [(0, last), (last, 1)] if last and blocks[-1].vectors != blocks[0].vectors else [(0, len(blocks))]


def pack(weight: Array, blocks: Sequence[ChannelBlock]) -> Array:
    """(K, depth) to one run of (depth, width) per block, zeros in lanes that are not real."""
    parts = []
    for block in blocks:
        part = weight[block.start : block.start + block.width]
        padded = np.zeros((block.width, weight.shape[1]), weight.dtype)
        padded[: len(part)] = part
        parts.append(padded.T.ravel())
    return np.concatenate(parts)


def sums(
    reductions: Sequence[Reduction], positions: Sequence[int], block: ChannelBlock, *, folded: bool = False
) -> list[Node]:
    """Declares and computes `s<position>_<vector>`: products of `x[place + …]` with the packed weights at `w`.

    `positions` are places of the first factor from the pointer `x`, in elements. The weights lie in the order of the
    reductions. `folded`: every turn of the first reduction is a sum of its own, which keeps rounding errors of long
    sums small.
    """
    declared = _zeros("s", positions, block)
    if not folded:
        return [*declared, *_reduce("s", reductions, number(0), number(0), positions, block)]
    first, *rest = reductions
    fold = [
        f"s{p}_{v} = ew_add_f32x{vector.lanes}(s{p}_{v}, t{p}_{v});"
        for p in range(len(positions))
        for v, vector in enumerate(block.vectors)
    ]

    def turn(index: Affine) -> list[Node]:
        part = _reduce("t", rest, index * first.x_step, index, positions, block)
        return [*_zeros("t", positions, block), *part, *fold]

    return [*declared, *loop(first.index, first.extent, turn, unroll=first.unroll)]


def _zeros(name: str, positions: Sequence[int], block: ChannelBlock) -> list[Node]:
    return [
        f"f32x{vector.lanes} {name}{p}_{v} = {{0}};"
        for p in range(len(positions))
        for v, vector in enumerate(block.vectors)
    ]


def _reduce(
    name: str,
    reductions: Sequence[Reduction],
    x: Affine,
    step: Affine,
    positions: Sequence[int],
    block: ChannelBlock,
) -> list[Node]:
    if not reductions:
        return list(_step(name, x, step, positions, block))
    first, *rest = reductions

    def body(index: Affine) -> list[Node]:
        return _reduce(name, rest, x + index * first.x_step, step * first.extent + index, positions, block)

    return loop(first.index, first.extent, body, unroll=first.unroll)


def _step(name: str, x: Affine, step: Affine, positions: Sequence[int], block: ChannelBlock) -> Iterator[Node]:
    for v, vector in enumerate(block.vectors):
        at = step * block.width + vector.offset
        yield f"const f32x{vector.lanes} w{v} = ew_load_f32x{vector.lanes}(w + {at});"
    # Without it compilers keep what neighbouring positions read in common, run out of registers, and spill.
    yield '__asm__ volatile("" ::: "memory");'
    for p, position in enumerate(positions):
        yield f"const float b{p} = x[{x + position}];"
        for v, vector in enumerate(block.vectors):
            kind, total = f"f32x{vector.lanes}", f"{name}{p}_{v}"
            yield f"{total} = ew_fma_{kind}(ew_splat_{kind}(b{p}), w{v}, {total});"


def balanced(extent: int, tile: int) -> tuple[tuple[int, int, int], ...]:
    """An extent in pieces of at most `tile` that differ by one at most: (start, size, count) of one or two kinds."""
    count = -(-extent // tile)
    small, larger = divmod(extent, count)
    kinds = ((0, small + 1, larger), (larger * (small + 1), small, count - larger))
    return tuple(kind for kind in kinds if kind[2])


def over(index: str, extent: int, tile: int, body: BlockBuilder) -> list[Node]:
    """`body(start, size)` for every balanced piece of an extent."""

    def kind(start: int, size: int) -> Builder:
        return lambda i: body(i * size + start, size)

    return [node for start, size, count in balanced(extent, tile) for node in loop(index, count, kind(start, size))]


def divided(index: str, parts: Sequence[tuple[int, Builder]]) -> list[Node]:
    """The outermost loop: units from `begin` to `end`, of several kinds that follow one another: (count, body)."""
    if sum(count for count, _ in parts) == 1:
        return [Scope(tuple(body(number(0)))) for count, body in parts if count]
    nodes: list[Node] = []
    first = 0
    for count, body in parts:
        last = first + count
        start = "begin" if first == 0 else f"begin > {first} ? begin : {first}"
        stop = "end" if last == sum(count for count, _ in parts) else f"(end < {last} ? end : {last})"
        nodes.append(Loop(index, start, stop, 1, tuple(body(variable(index) - first))))
        first = last
    return nodes
