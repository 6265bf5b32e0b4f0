"""Several TFLite operators that together are one of the graph, on tensors that lie in one order."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..file.model import OptionValue, Quantization
from ..file.schema import TYPES
from .orders import Order
from .sites import Site
from .walk import Walk, numpy_of


@dataclass(frozen=True)
class Number:
    """A number among tensors, which are indices."""

    value: float


@dataclass(frozen=True)
class Chain:
    """Writes operators one after another; each method returns the tensor of its result."""

    walk: Walk
    site: Site

    def number(self, number: float, like: int) -> int:
        """A scalar of the type of a tensor."""
        kind = numpy_of(self.walk.draft.tensors[like].type)
        return self.walk.draft.constant(f"{self._name}_number", np.asarray(number, kind))

    def apply(self, kind: str, *given: int | Number, **options: OptionValue) -> int:
        """An operator on single elements of tensors and numbers, which broadcast."""
        tensors = [each for each in given if isinstance(each, int)]
        inputs = tuple(each if isinstance(each, int) else self.number(each.value, tensors[0]) for each in given)
        shape = tuple(int(n) for n in np.broadcast_shapes(*(self.walk.shape_of(each) for each in inputs)))
        made = self.walk.like(tensors[-1], shape, f"{self._name}_{kind.lower()}")
        self.walk.emit(kind, inputs, (made,), **options)
        return made

    def compare(self, kind: str, *given: int | Number) -> int:
        """An operator on single elements that gives truth values."""
        tensors = [each for each in given if isinstance(each, int)]
        inputs = tuple(each if isinstance(each, int) else self.number(each.value, tensors[0]) for each in given)
        shape = tuple(int(n) for n in np.broadcast_shapes(*(self.walk.shape_of(each) for each in inputs)))
        made = self.walk.draft.tensor(f"{self._name}_{kind.lower()}", "BOOL", shape)
        self.walk.emit(kind, inputs, (made,))
        return made

    def reduce(self, kind: str, tensor: int, axes: tuple[int, ...], *, keep: bool = True,
               quantization: Quantization | None = None) -> int:  # fmt: skip
        """An operator over axes of memory."""
        shape = self.walk.shape_of(tensor)
        sizes = [(axis, 1 if axis in axes else size) for axis, size in enumerate(shape)]
        left = tuple(size for axis, size in sizes if keep or axis not in axes)
        made = self.walk.like(tensor, left, f"{self._name}_{kind.lower()}", quantization)
        constant = self.walk.draft.constant("axes", np.asarray(axes, np.int32))
        self.walk.emit(kind, (tensor, constant), (made,), keepDims=keep)
        return made

    def cast(self, tensor: int, kind: str) -> int:
        """The same numbers in another type."""
        made = self.walk.draft.tensor(f"{self._name}_cast", kind, self.walk.shape_of(tensor))
        self.walk.emit("CAST", (tensor,), (made,), inDataType=self._code(tensor), outDataType=self._code(made))
        return made

    def finish(self, tensor: int, order: Order, index: int = 0) -> None:
        """The tensor is a result of the node."""
        self.walk.finish(self.site, tensor, order, index)

    def _code(self, tensor: int) -> int:
        return TYPES[self.walk.draft.tensors[tensor].type]

    @property
    def _name(self) -> str:
        return self.site.results[0].name or self.site.node.op_type.lower()
