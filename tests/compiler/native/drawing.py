"""What draws random graphs: choices, and whether numbers stay away from where a step function jumps."""

from __future__ import annotations

from typing import Any

import numpy as np

from .graph_writer import Array, Writer

MARGIN = 2e-3
"""How far numbers stay away from a jump, by the size of the numbers."""


def chance(w: Writer, probability: float) -> bool:
    return bool(w.random.random() < probability)


def one_of(w: Writer, *choices: Any) -> Any:
    return choices[int(w.random.integers(len(choices)))]


def number(w: Writer, low: int, high: int) -> int:
    """From low to high, both possible."""
    return int(w.random.integers(low, high + 1))


def clear(distance: Array, array: Array) -> bool:
    """Whether nothing is near zero, compared with the numbers it is made of."""
    return bool(np.abs(distance).min() > MARGIN * max(1.0, float(np.abs(array).max())))
