"""Where int8 weights and per-channel rows lie: channels by block and vector, input channels in groups of four.

Sums are exact, so packing, tiles and instruction sets may differ: results do not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..machine import Machine
from ..net import Array, Dtype

GROUP = 4
"""Bytes of a lane: four products per int32 sum."""


@dataclass(frozen=True)
class Vector:
    """Sums that share a register: which output channels of the layer its lanes are, -1 for none."""

    channels: tuple[int, ...]

    @property
    def lanes(self) -> int:
        return len(self.channels)

    @property
    def count(self) -> int:
        """Lanes that are channels."""
        return sum(1 for channel in self.channels if channel >= 0)


@dataclass(frozen=True)
class Part:
    """One vector, or four that share one vector of bytes (a quad); stored at its first channel."""

    vectors: tuple[Vector, ...]
    start: int
    """First channel, counted from the block's."""

    @property
    def is_quad(self) -> bool:
        return len(self.vectors) == GROUP


def quad_order(lanes: int) -> tuple[tuple[int, ...], ...]:
    """Per vector of a quad the byte of each lane: instructions that pack work within 16 bytes."""
    return tuple(tuple(16 * (lane // 4) + 4 * vector + lane % 4 for lane in range(lanes)) for vector in range(GROUP))


def parts_of(size: int, lanes: int, *, quads: bool, narrowest: int = 4) -> tuple[Part, ...]:
    """A block of channels in quads as long as they are full, then vectors, the last ones as narrow as will do."""
    parts: list[Part] = []
    start = 0
    while start < size:
        rest = size - start
        if quads and rest >= GROUP * lanes:
            vectors = tuple(Vector(tuple(start + byte for byte in order)) for order in quad_order(lanes))
            parts.append(Part(vectors, start))
            start += GROUP * lanes
            continue
        width = lanes
        while width > narrowest and width // 2 >= rest:
            width //= 2
        channels = tuple(channel if channel < size else -1 for channel in range(start, start + width))
        parts.append(Part((Vector(channels),), start))
        start += width
    return tuple(parts)


def vectors_of(parts: Sequence[Part]) -> tuple[Vector, ...]:
    """All vectors of a block, in order."""
    return tuple(vector for part in parts for vector in part.vectors)


def pack_rows(row: Array, first: int, parts: Sequence[Part]) -> Array:
    """A number per channel in the order of the block's lanes; 0 where a lane is no channel."""
    return np.concatenate([_picked(row, first, vector) for vector in vectors_of(parts)])


def pack_weight(weight: Array, first: int, parts: Sequence[Part]) -> Array:
    """(K, runs, length) of int8 to (runs, groups, vectors, lanes, 4), flat, for the block that begins at `first`.

    Runs of four and more end with the group of their last four bytes, in which what the group before has is 0: nothing
    behind a run is read. Shorter runs are one group.
    """
    vectors = vectors_of(parts)
    block = weight[first : first + 1 + max(channel for vector in vectors for channel in vector.channels)]
    channels, runs, length = block.shape
    starts, full = group_starts(length), length // GROUP
    grouped = np.zeros((channels, runs, len(starts), GROUP), np.int8)
    grouped[:, :, :full] = block[:, :, : full * GROUP].reshape(channels, runs, full, GROUP)
    for start in starts[full:]:
        for place in range(GROUP):
            if full * GROUP <= start + place < length:
                grouped[:, :, full, place] = block[:, :, start + place]
    picked = [_picked(grouped, 0, vector) for vector in vectors]
    return np.ascontiguousarray(np.concatenate(picked).transpose(1, 2, 0, 3)).reshape(-1)


def group_starts(length: int) -> tuple[int, ...]:
    """Where the groups of a run begin."""
    full, rest = divmod(length, GROUP)
    starts = [index * GROUP for index in range(full)]
    return (*starts, max(0, length - GROUP)) if rest else tuple(starts)


def flip(x: Dtype, machine: Machine) -> int:
    """What the machine's dot product adds to x before it multiplies (`ew_dot.h`)."""
    if machine.arch != "x86_64":
        return -128 if x == "u8" else 0
    return 128 if x == "s8" and machine.dot in ("vnni512", "vnni256") else 0


def base_sums(weight: Array, zero_point: int, x: Dtype, machine: Machine) -> Array:
    """Per output channel, what a sum starts from so that it ends as the sum of (x - zero_point) * weight."""
    totals = weight.reshape(weight.shape[0], -1).astype(np.int64).sum(1)
    return wrapped(-(zero_point + flip(x, machine)) * totals)


def wrapped(values: Array) -> Array:
    """int64 as int32, modulo 2^32, as sums are."""
    return values.astype(np.int64).astype(np.uint64).astype(np.uint32).view(np.int32)


def largest_sum(weight: Array, zero_point: int, x: Dtype) -> float:
    """A bound of the magnitude of any sum of (x - zero_point) * weight."""
    low, high = (0, 255) if x == "u8" else (-128, 127)
    reach = max(abs(low - zero_point), abs(high - zero_point))
    magnitudes = np.abs(weight.reshape(weight.shape[0], -1).astype(np.int16))
    return float(magnitudes.sum(1, dtype=np.int64).max(initial=0) * reach)


def _picked(array: Array, first: int, vector: Vector) -> Array:
    """Rows of a vector's lanes."""
    found = np.zeros((vector.lanes, *array.shape[1:]), array.dtype)
    for lane, channel in enumerate(vector.channels):
        if channel >= 0:
            found[lane] = array[first + channel]
    return found
