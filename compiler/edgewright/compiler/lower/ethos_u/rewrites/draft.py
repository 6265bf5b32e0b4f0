"""A model under change: tensors are added at the end, one operator gives way to several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ....tflite.file.model import Array, Model, Operator, Options, Tensor


def number(operator: Operator, name: str, default: int = 0) -> int:
    """An option that is a whole number."""
    value = operator.options.get(name, default)
    return value if isinstance(value, int) else default


def with_size(shape: tuple[int, ...], axis: int, size: int) -> tuple[int, ...]:
    """The shape with another size along one axis."""
    return (*shape[:axis], size, *shape[axis + 1 :])


class Draft:
    """Replaces operator `index` of a model.

    New tensors are named after the operator's output, so that a reader of reports finds the place again.
    """

    def __init__(self, model: Model, index: int) -> None:
        self._model = model
        self._index = index
        self._tensors = list(model.tensors)
        self._operators: list[Operator] = []
        self.operator = model.operators[index]

    def tensor(self, index: int) -> Tensor:
        return self._tensors[index]

    def like(self, index: int, shape: Sequence[int]) -> int:
        """A new activation of that shape, in the type and the scale of tensor `index`."""
        pattern = self._tensors[index]
        return self._add(replace(pattern, shape=tuple(int(size) for size in shape), free=(), data=None, variable=False))

    def integers(self, numbers: Sequence[int] | Array) -> int:
        """A new constant of int32: axes, paddings, shapes."""
        data = np.asarray(numbers, np.int32)
        return self._add(Tensor(name="", type="INT32", shape=data.shape, data=data))

    def constant(self, index: int, data: Array) -> int:
        """A new constant in the type and the scale of tensor `index`."""
        pattern = self._tensors[index]
        return self._add(replace(pattern, shape=data.shape, free=(), data=data, variable=False))

    def emit(
        self, kind: str, inputs: Sequence[int], output: int, options: Options | None = None, version: int = 1
    ) -> int:
        """A new operator with one output; returns that output."""
        self._operators.append(Operator(kind, tuple(inputs), (output,), options or {}, version))
        return output

    def reshape(self, source: int, output: int) -> int:
        """A RESHAPE into the shape of `output`."""
        shape = self._tensors[output].shape
        return self.emit("RESHAPE", [source, self.integers(shape)], output, {"newShape": shape})

    def slice(self, source: int, axis: int, start: int, size: int) -> int:
        """A SLICE along one axis."""
        whole = self._tensors[source].shape
        shape, begin = with_size(whole, axis, size), with_size((0,) * len(whole), axis, start)
        where = [source, self.integers(begin), self.integers(shape)]
        return self.emit("SLICE", where, self.like(source, shape), version=2)

    def concatenate(self, sources: Sequence[int], axis: int, output: int) -> int:
        """A CONCATENATION without an activation."""
        return self.emit("CONCATENATION", sources, output, {"axis": axis}, version=2)

    def model(self) -> Model:
        """The model with the new operators where the old one was."""
        before, after = self._model.operators[: self._index], self._model.operators[self._index + 1 :]
        return replace(self._model, tensors=tuple(self._tensors), operators=(*before, *self._operators, *after))

    def _add(self, tensor: Tensor) -> int:
        place = self._tensors[self.operator.outputs[0]].name
        self._tensors.append(replace(tensor, name=f"{place}/edgewright/{len(self._tensors)}"))
        return len(self._tensors) - 1
