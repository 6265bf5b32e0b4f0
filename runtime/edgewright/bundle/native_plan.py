"""What is prepared for a native model before it is called: its tensors, and which entries take a number of samples."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .native_library import NativeEntry

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Port:
    """A tensor of the model."""

    name: str
    dtype: np.dtype[Any]
    shape: Shape
    """-1 first where the batch is free."""

    @property
    def batched(self) -> bool:
        return self.shape[:1] == (-1,)

    @property
    def row_bytes(self) -> int:
        """From one sample to the next; 0 where there is one for all."""
        return math.prod(self.shape[1:]) * self.dtype.itemsize if self.batched else 0

    def of(self, rows: int) -> Shape:
        """Its shape for a number of samples."""
        return (rows, *self.shape[1:]) if self.batched else self.shape


@dataclass(frozen=True, slots=True)
class Ports:
    """The tensors of a model in the library's order."""

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]

    @property
    def leading(self) -> str | None:
        """The input whose length is the number of samples; None where that is fixed."""
        return next((port.name for port in self.inputs if port.batched), None)


@dataclass(frozen=True, slots=True)
class Part:
    """Calls of one entry, one after the other; after each, addresses move on."""

    run: Callable[..., None]
    count: int
    input_steps: tuple[int, ...]
    output_steps: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """What a number of samples takes: per tensor its place in the table, name, shape and type; and the calls."""

    inputs: tuple[tuple[int, str, Shape, np.dtype[Any]], ...]
    outputs: tuple[tuple[int, str, Shape, np.dtype[Any]], ...]
    only: Callable[..., None] | None
    """The function, where one call does it."""
    parts: tuple[Part, ...]


def make_plan(
    entries: Sequence[NativeEntry], functions: Sequence[Callable[..., None]], ports: Ports, rows: int
) -> Plan:
    """The fewest calls: as many as fit of the largest entry, then of the next. Where the batch is fixed, one call.

    `functions` run the entries, one each.
    """
    parts: list[Part] = []
    left = rows
    for index, entry in reversed(tuple(enumerate(entries))):
        count, left = divmod(left, entry.batch) if ports.leading is not None else (int(not parts), 0)
        if count:
            parts.append(
                Part(
                    functions[index],
                    count,
                    tuple(entry.batch * port.row_bytes for port in ports.inputs),
                    tuple(entry.batch * port.row_bytes for port in ports.outputs),
                )
            )
    return Plan(
        tuple((place, port.name, port.of(rows), port.dtype) for place, port in enumerate(ports.inputs)),
        tuple((place, port.name, port.of(rows), port.dtype) for place, port in enumerate(ports.outputs)),
        parts[0].run if len(parts) == 1 and parts[0].count == 1 else None,
        tuple(parts),
    )
