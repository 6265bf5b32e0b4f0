"""The `classification` extension: an output's best classes instead of the output."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..refusal import Refusal

DATATYPE = "BYTES"


def wanted_classes(parameters: Mapping[str, object]) -> int:
    """Return how many classes an output's parameters ask for; 0 wants the output itself.

    Raises:
        Refusal: 400, it is no number of classes.
    """
    count = parameters.get("classification")
    if count is None:
        return 0
    if not isinstance(count, int) or isinstance(count, bool) or not 0 <= count < 2**31:
        raise Refusal(400, "the parameter 'classification' must be a whole number: how many classes are wanted")
    return count


def best_classes(scores: NDArray[Any], count: int, *, batched: bool, labels: tuple[str, ...] = ()) -> NDArray[Any]:
    """Return the `count` largest scores, best first, as `score:index` or `score:index:label`.

    Args:
        scores: numbers, any shape; with `batched` each row of the first axis is a sample of its own.
        count: more than there are gives all.
        batched: whether the first axis is the batch.
        labels: of the classes by index; classes beyond them have none.

    Returns:
        Texts as bytes, shape [rows, min(count, classes)], or [min(count, classes)] without a batch.

    Raises:
        Refusal: 400, the output holds no numbers.
    """
    if scores.dtype.kind not in "iuf":
        raise Refusal(400, "classification needs an output of numbers")
    rows = scores.reshape(len(scores) if batched else 1, -1)
    kept = min(count, rows.shape[1])
    # Stable, so that of equal scores the lower index comes first, on every machine.
    order = np.argsort(-rows.astype(np.float64), axis=1, kind="stable")[:, :kept]
    texts = np.empty(order.shape, np.object_)
    for place, index in np.ndenumerate(order):
        label = f":{labels[index]}" if index < len(labels) else ""
        texts[place] = f"{_number(rows[place[0], index])}:{index}{label}".encode()
    return texts if batched else texts[0]


def _number(score: Any) -> str:
    return str(int(score)) if score.dtype.kind in "iu" else f"{float(score):f}"
