"""Finds convolutions with dilations that converters have written as SPACE_TO_BATCH_ND, convolution, BATCH_TO_SPACE_ND.

The blocks of a picture stand in the batch there, so that a plain convolution reads every n-th row and column.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from ..file.model import ABSENT, Model, Operator
from ..file.schema import PADDING

Pads = tuple[tuple[int, int], tuple[int, int]]
CONVOLUTIONS = frozenset({"CONV_2D", "DEPTHWISE_CONV_2D"})


@dataclass(frozen=True)
class Planned:
    """An operator to read, with its index in the file."""

    operator: Operator
    index: int
    pads: Pads | None = None
    """What a convolution really reads outside of the picture, where padding does not say it."""


def planned(model: Model) -> Iterator[Planned]:
    """The operators of a model in order, three of them as one where they are a convolution with dilations."""
    readers = Counter(index for operator in model.operators for index in operator.inputs if index != ABSENT)
    readers.update(port.tensor for port in model.outputs)
    following = {operator.inputs[0]: (place, operator) for place, operator in enumerate(model.operators)
                 if operator.inputs}  # fmt: skip
    gone: set[int] = set()
    for place, operator in enumerate(model.operators):
        if place in gone:
            continue
        found = _merged(model, operator, place, following, readers)
        if found is not None:
            gone |= found[1]
        yield found[0] if found is not None else Planned(operator, place)


def _merged(
    model: Model, first: Operator, place: int, following: Mapping[int, tuple[int, Operator]], readers: Mapping[int, int]
) -> tuple[Planned, set[int]] | None:
    """The convolution that starts here, and the places of the operators that it replaces."""
    if first.type != "SPACE_TO_BATCH_ND" or len(first.inputs) != 3 or len(first.outputs) != 1:
        return None
    middle = _only_reader(first, following, readers)
    last = None if middle is None else _only_reader(middle[1], following, readers)
    if middle is None or last is None or middle[1].type not in CONVOLUTIONS or last[1].type != "BATCH_TO_SPACE_ND":
        return None
    numbers = [_numbers(model, index) for index in (*first.inputs[1:], *last[1].inputs[1:])]
    options = middle[1].options
    plain = all(options.get(name, 1) == 1 for name in ("dilationHFactor", "dilationWFactor", "strideH", "strideW"))
    same = _encoding(model, first.outputs[0]) == _encoding(model, first.inputs[0])
    same = same and _encoding(model, middle[1].outputs[0]) == _encoding(model, last[1].outputs[0])
    if [len(each) for each in numbers] != [2, 4, 2, 4] or numbers[0] != numbers[2] or not plain or not same:
        return None
    pads = _pads(numbers[1], numbers[3])
    if pads is None or options.get("padding", 0) != PADDING["VALID"] or min(numbers[0]) < 1:
        return None
    dilations = dict(zip(("dilationHFactor", "dilationWFactor"), numbers[0], strict=True))
    operator = replace(
        middle[1],
        inputs=(first.inputs[0], *middle[1].inputs[1:]),
        outputs=last[1].outputs,
        options={**options, **dilations},
    )
    return Planned(operator, place, pads), {middle[0], last[0]}


def _only_reader(
    operator: Operator, following: Mapping[int, tuple[int, Operator]], readers: Mapping[int, int]
) -> tuple[int, Operator] | None:
    if len(operator.outputs) != 1 or readers.get(operator.outputs[0], 0) != 1:
        return None
    return following.get(operator.outputs[0])


def _numbers(model: Model, index: int) -> tuple[int, ...]:
    """A small constant; nothing where it is none."""
    data = model.tensors[index].data if index != ABSENT else None
    return () if data is None or data.size > 4 or data.dtype.kind != "i" else tuple(int(each) for each in data.flat)


def _encoding(model: Model, index: int) -> object:
    return model.tensors[index].quantization


def _pads(border: tuple[int, ...], crops: tuple[int, ...]) -> Pads | None:
    """Before and after, for height and width: what is cropped again at the end was never read."""
    top, bottom, left, right = border
    if crops[0] or crops[2] or min(border) < 0 or not (0 <= crops[1] <= bottom and 0 <= crops[3] <= right):
        return None
    return (top, bottom - crops[1]), (left, right - crops[3])
