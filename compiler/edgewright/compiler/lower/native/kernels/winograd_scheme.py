"""Winograd's one-dimensional schemes for two outputs: F(2, 2), F(2, 3), and their sums for longer windows.

Only 0, 1 and -1 are points of evaluation: inputs and products are added and subtracted, never multiplied, and errors
stay near those of the definition. A window of 5 is one of 3 and one of 2: 7 products instead of 10.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..net import Array

LONGEST = 7
_Rows = tuple[tuple[int, ...], ...]


@dataclass(frozen=True, eq=False)
class Scheme:
    """Two outputs of a window over window + 1 inputs, as `outputs @ ((inputs @ d) * (weights @ g))`."""

    inputs: _Rows
    """(places, window + 1) of 0, 1 and -1."""
    weights: Array
    """(places, window) float64."""
    outputs: _Rows
    """(2, places) of 0, 1 and -1."""

    @property
    def places(self) -> int:
        """Products."""
        return len(self.inputs)

    @property
    def reads(self) -> int:
        """Inputs."""
        return len(self.inputs[0])


_ONE = Scheme(((1, 0), (0, 1)), np.array([[1.0], [1.0]]), ((1, 0), (0, 1)))
_TWO = Scheme(((1, -1, 0), (0, 1, 0), (0, 1, -1)), np.array([[1.0, 0], [1, 1], [0, 1]]), ((1, 1, 0), (0, 1, -1)))
_THREE = Scheme(
    ((1, 0, -1, 0), (0, 1, 1, 0), (0, -1, 1, 0), (0, 1, 0, -1)),
    np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]]),
    ((1, 1, 1, 0), (0, 1, -1, -1)),
)
_SHORT = {1: _ONE, 2: _TWO, 3: _THREE}


def scheme(window: int) -> Scheme:
    """Of a window of 1 to `LONGEST`; a window of one saves nothing."""
    if window in _SHORT:
        return _SHORT[window]
    first = 2 if window == 4 else 3
    head, tail = _SHORT[first], scheme(window - first)
    return Scheme(
        (
            *((*row, *(0,) * (window + 1 - head.reads)) for row in head.inputs),
            *((*(0,) * first, *row) for row in tail.inputs),
        ),
        np.block(
            [[head.weights, np.zeros((head.places, window - first))], [np.zeros((tail.places, first)), tail.weights]]
        ),
        (head.outputs[0] + tail.outputs[0], head.outputs[1] + tail.outputs[1]),
    )


def signed_sum(kind: str, factors: tuple[int, ...], names: list[str]) -> str:
    """C text of a sum of vectors by factors 0, 1 and -1, at least one of which is 1; what is added comes first."""
    ordered = sorted((pair for pair in zip(factors, names, strict=True) if pair[0]), key=lambda pair: -pair[0])
    text = ordered[0][1]
    for factor, name in ordered[1:]:
        text = f"ew_{'add' if factor > 0 else 'sub'}_{kind}({text}, {name})"
    return text
