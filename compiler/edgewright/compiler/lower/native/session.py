"""A compiled library behind the few methods of an ONNX Runtime session that the compiler uses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .loaded import Loaded
from .net import Array


@dataclass(frozen=True)
class Port:
    """Name and shape of an input or output; None where the batch is free."""

    name: str
    shape: tuple[int | None, ...]


class NativeSession:
    """A library with its first entry, which is called once per batch."""

    def __init__(self, library: Path) -> None:
        self._loaded = Loaded(library)
        self._free = len(self._loaded.library.entries) > 1 or self._loaded.entry.batch == 1

    def get_inputs(self) -> list[Port]:
        """Of the model as a caller sees it."""
        return [Port(port.name, self._shape(port.shape)) for port in self._loaded.entry.inputs]

    def get_outputs(self) -> list[Port]:
        """Of the model as a caller sees it."""
        return [Port(port.name, self._shape(port.shape)) for port in self._loaded.entry.outputs]

    def run(self, names: list[str] | None, inputs: Mapping[str, Array]) -> list[Array]:
        """All samples, one call of the library per batch; outputs in the order of `names`."""
        step = self._loaded.entry.batch
        count = len(next(iter(inputs.values())))
        wanted = [port.name for port in self._loaded.entry.outputs] if names is None else names
        calls = [
            self._loaded.run({name: array[start : start + step] for name, array in inputs.items()})
            for start in range(0, count, step)
        ]
        return [np.concatenate([call[name] for call in calls]) if len(calls) > 1 else calls[0][name] for name in wanted]

    def _shape(self, shape: tuple[int, ...]) -> tuple[int | None, ...]:
        return (None, *shape[1:]) if self._free else shape
