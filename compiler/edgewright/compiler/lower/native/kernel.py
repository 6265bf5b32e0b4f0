"""What a kernel family gives: tiles to choose from, and for one of them a C function with its packed constants."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .machine import Machine
from .nest import Node
from .net import Array


@dataclass(frozen=True)
class Tile:
    """One way to write a layer: a family and its sizes. Orders, prints and stores well: caches are keyed by it."""

    family: str
    sizes: tuple[tuple[str, int], ...] = ()

    def __getitem__(self, name: str) -> int:
        return dict(self.sizes)[name]

    def __str__(self) -> str:
        return f"{self.family}({', '.join(f'{name}={size}' for name, size in self.sizes)})"


@dataclass(frozen=True, eq=False)
class Kernel:
    """The body of one C function.

    The function is `static void NAME(int64_t begin, int64_t end, …)`. Its further parameters are x0, x1, … for
    `layer.inputs` in order and y0, y1, … for `layer.outputs` (pointers to the buffers, restrict, by dtype: `float`,
    `uint8_t`, `int8_t`, …), one pointer per constant by its name here (aligned to 64 bytes), and `char *scratch`
    (aligned to 64 bytes) where `scratch_bytes` is not 0. The body covers the units from `begin` to `end` of its
    outermost loop (`units` in all; 1 where it cannot be divided): threads share a layer in that way, and every unit
    writes elements of its own.
    """

    body: tuple[Node, ...]
    constants: Mapping[str, Array] = field(default_factory=dict)
    scratch_bytes: int = 0
    """Per call of the function, not per unit; a divided layer gets one scratch per thread."""
    units: int = 1


@dataclass(frozen=True)
class Family:
    """One way to compute one kind of layer."""

    name: str
    tiles: Callable[[Any, Machine], tuple[Tile, ...]]
    """A short list for a layer, the best guess for the machine first; empty where the family cannot compute it."""
    kernel: Callable[[Any, Machine, Tile], Kernel]
    """The function of a layer for one of its tiles."""
