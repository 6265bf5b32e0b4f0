"""How two models agree on the same inputs: counts only, nothing of the inputs or outputs themselves."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

MAX_CLASSES = 64
"""Classes from the last of them on are counted as one."""
MAX_ELEMENTS = 1 << 20
"""Of an output that is compared: a larger one would keep the event loop busy."""


class Agreement:
    """Counts of one shadow since its route began. `compare`: `class`, `values` or `auto`, see `routes.Shadow`."""

    def __init__(self, compare: str, tolerance: float) -> None:
        self._compare = compare
        self._tolerance = tolerance
        self.rows = 0
        self.disagreed = 0
        self.incomparable = 0
        """Answers of different shapes, or too large to look at."""
        self.largest_difference = 0.0
        """Relative, of all rows whose values were compared."""
        self._joint: NDArray[np.int64] | None = None

    def add(self, primary: NDArray[Any], shadow: NDArray[Any], *, batched: bool) -> None:
        """Count one answer of both: `[rows, ...]`, or a single row where it is not `batched`."""
        if primary.shape != shadow.shape or primary.size > MAX_ELEMENTS or primary.size == 0:
            self.incomparable += 1
            return
        first, second = (primary, shadow) if batched and primary.ndim else (primary[None], shadow[None])
        numbers = primary.dtype != np.object_
        classes = first.shape[-1] if first.ndim > 1 else 1
        if numbers and (self._compare == "class" or (self._compare == "auto" and classes > 1)):
            self._add_classes(first.argmax(-1), second.argmax(-1), classes)
        elif numbers:
            self._add_values(first, second)
        else:
            self._count(len(first), (first != second).reshape(len(first), -1).any(axis=1))

    def as_dict(self) -> dict[str, object]:
        """Rows, those that disagree, and the joint histogram `[class of the primary][class of the shadow]`."""
        joint = [] if self._joint is None else self._joint.tolist()
        return {
            "rows": self.rows,
            "disagreed_rows": self.disagreed,
            "incomparable_answers": self.incomparable,
            "largest_difference": self.largest_difference,
            "joint": joint,
        }

    def _count(self, rows: int, differ: NDArray[np.bool_]) -> None:
        self.rows += rows
        self.disagreed += int(differ.sum())

    def _add_classes(self, first: NDArray[np.intp], second: NDArray[np.intp], classes: int) -> None:
        rows = len(first)
        self._count(rows, (first != second).reshape(rows, -1).any(axis=1))
        size = min(classes, MAX_CLASSES)
        if self._joint is None:
            self._joint = np.zeros((size, size), np.int64)
        size = len(self._joint)
        cells = np.minimum(first, size - 1) * size + np.minimum(second, size - 1)
        self._joint += np.bincount(cells.ravel(), minlength=size * size).reshape(size, size)

    def _add_values(self, first: NDArray[Any], second: NDArray[Any]) -> None:
        rows = len(first)
        a, b = (each.reshape(rows, -1).astype(np.float64) for each in (first, second))
        with np.errstate(invalid="ignore", divide="ignore"):
            same = (a == b) | (np.isnan(a) & np.isnan(b))
            greatest = np.maximum(np.abs(a).max(axis=1, keepdims=True), np.finfo(np.float64).tiny)
            difference = np.where(same, 0.0, np.abs(a - b) / greatest).max(axis=1)
        self._count(rows, ~(difference <= self._tolerance))
        finite = difference[np.isfinite(difference)]
        self.largest_difference = max(self.largest_difference, float(finite.max(initial=0.0)))
