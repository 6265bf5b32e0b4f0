"""Counts what a model sees and says for the drift telemetry, behind the answer instead of before it.

One look at a sample costs tens of microseconds, most of them the same for one sample as for thirty. So samples wait
until there are some, or until the loop has time, and are counted together. Answered requests and their rows are counted
before the answer; of the histograms a kill of the server may lose what waits, at most `WAITING_JOBS` batches.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgewright.bundle.manifest import TensorSpec
from edgewright.bundle.observe import Observer
from edgewright.bundle.reference import Reference

from .pipeline import Tensors

OBSERVED_ELEMENTS = 1 << 18
"""Elements of one tensor that are looked at in one batch: of a larger one, the first samples. The windows' `rows` count
every sample, so the fleet can see that a histogram is a part of them."""
WAITING_JOBS = 64
WAITING_ELEMENTS = 1 << 16


class DriftCounter:
    """The counts of one model that are not in its window yet. Used by one thread at a time."""

    def __init__(
        self, reference: Reference, inputs: Mapping[str, TensorSpec], outputs: Mapping[str, TensorSpec]
    ) -> None:
        self._reference = reference
        self._observer: Observer | None = None
        self._inputs = inputs
        self._outputs = outputs
        self._joinable = all(map(_batched, (*inputs.values(), *outputs.values())))
        self._waiting: list[tuple[Tensors, Tensors]] = []
        self._elements = 0
        self.errors = 0
        """Batches that could not be looked at; a metric, no request fails of it."""

    def add(self, inputs: Tensors, outputs: Tensors) -> bool:
        """Keep a batch for the next count; True when it is time for one."""
        self._waiting.append((inputs, outputs))
        elements = self._elements
        for array in inputs.values():
            elements += array.size
        for array in outputs.values():
            elements += array.size
        self._elements = elements
        return len(self._waiting) >= WAITING_JOBS or elements >= WAITING_ELEMENTS

    @property
    def waiting(self) -> int:
        """Batches that are not counted yet."""
        return len(self._waiting)

    def count(self) -> NDArray[np.uint64] | None:
        """The counts of all that waited, in the reference's order; None where there are none."""
        waiting, elements = self._waiting, self._elements
        self._waiting, self._elements = [], 0
        if not waiting:
            return None
        try:
            return self._count(waiting, elements)
        except Exception:  # noqa: BLE001 - drift is a by-product: a metric counts this, no request fails of it
            self.errors += len(waiting)
            return None

    def _count(self, waiting: list[tuple[Tensors, Tensors]], elements: int) -> NDArray[np.uint64]:
        observer = self._observer = self._observer or Observer(self._reference)
        cells = np.zeros(observer.cells, np.uint64)
        for inputs, outputs in self._groups(waiting, elements):
            observer.observe(_first(inputs, self._inputs), _first(outputs, self._outputs), cells)
        return cells

    def _groups(self, waiting: list[tuple[Tensors, Tensors]], elements: int) -> list[tuple[Tensors, Tensors]]:
        """Joined batches, where joining changes nothing: all tensors have the batch as their first axis."""
        if len(waiting) == 1 or elements > OBSERVED_ELEMENTS or not self._joinable:
            return waiting
        try:
            return [(_joined([pair[0] for pair in waiting]), _joined([pair[1] for pair in waiting]))]
        except (ValueError, KeyError):  # of different shapes behind the batch
            return waiting


def _joined(batches: list[Tensors]) -> dict[str, NDArray[Any]]:
    return {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}


def _first(tensors: Tensors, specs: Mapping[str, TensorSpec]) -> Tensors:
    """The tensors, cut to the samples that are looked at."""
    largest = max((array.size for name, array in tensors.items() if _batched(specs.get(name))), default=0)
    if largest <= OBSERVED_ELEMENTS:
        return tensors
    return {
        name: array[: max(1, len(array) * OBSERVED_ELEMENTS // largest)] if _batched(specs.get(name)) else array
        for name, array in tensors.items()
    }


def _batched(spec: TensorSpec | None) -> bool:
    return spec is not None and len(spec.shape) > 0 and spec.shape[0] == -1
