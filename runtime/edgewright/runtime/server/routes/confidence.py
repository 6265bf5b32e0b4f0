"""How sure a model is of each row: the greatest probability that its output gives."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_SUM_TOLERANCE = 0.01
"""Probabilities that were computed in half precision or int8 add up to one as well as that."""


def confidence(output: NDArray[Any], softmax: bool | None) -> NDArray[np.float64]:
    """Greatest probability of each row of a floating output `[rows, ...]`, float64 `[rows]`; NaN where it has any.

    A single value a row is the probability, or the logit, of one of two classes. `softmax` None: the values are
    probabilities if all lie in 0..1 and, where a row has several, each row adds up to one.
    """
    values = output.reshape(len(output), -1).astype(np.float64)
    if values.shape[1] == 0:
        return np.zeros(len(values))
    if softmax is None:
        softmax = not _are_probabilities(values)
    if values.shape[1] == 1:
        single = values[:, 0]
        chance = 1 / (1 + np.exp(-np.clip(single, -700, 700))) if softmax else single
        return np.maximum(chance, 1 - chance)
    return _greatest_of_softmax(values) if softmax else values.max(axis=1)


def _are_probabilities(values: NDArray[np.float64]) -> bool:
    if not ((values >= 0) & (values <= 1)).all():
        return False
    return values.shape[1] == 1 or bool((np.abs(values.sum(axis=1) - 1) <= _SUM_TOLERANCE).all())


def _greatest_of_softmax(values: NDArray[np.float64]) -> NDArray[np.float64]:
    with np.errstate(invalid="ignore"):  # an infinite logit gives NaN, which is not sure
        shifted = np.exp(values - values.max(axis=1, keepdims=True))
        return np.asarray(1 / shifted.sum(axis=1), np.float64)
