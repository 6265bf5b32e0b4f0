"""What an operator computes on: types, shapes and scales of its tensors, and its options."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from .model import ABSENT, Model, Operator, Quantization, Tensor

MAX_RANK_BEFORE_BROADCAST_VERSIONS: Final = 4


@dataclass(frozen=True)
class Use:
    """One operator, with the questions that rules about it ask."""

    model: Model
    operator: Operator

    def tensor(self, index: int, *, output: bool = False) -> Tensor | None:
        indices = self.operator.outputs if output else self.operator.inputs
        found = indices[index] if index < len(indices) else ABSENT
        return None if found == ABSENT else self.model.tensors[found]

    def input(self, index: int) -> str:
        """Its type; empty where it is absent."""
        tensor = self.tensor(index)
        return "" if tensor is None else tensor.type

    def output(self, index: int = 0) -> str:
        tensor = self.tensor(index, output=True)
        return "" if tensor is None else tensor.type

    def shape(self, index: int) -> tuple[int, ...]:
        tensor = self.tensor(index)
        return () if tensor is None else tensor.shape

    def quantization(self, index: int, *, output: bool = False) -> Quantization | None:
        tensor = self.tensor(index, output=output)
        return None if tensor is None else tensor.quantization

    def types(self) -> tuple[str, str, str]:
        """Of the data, the weight and the result of a product."""
        return self.input(0), self.input(1), self.output()

    def option(self, name: str) -> bool:
        """Whether an option is set to anything but zero."""
        return bool(self.operator.options.get(name, 0))

    def number(self, name: str, default: int) -> int:
        value = self.operator.options.get(name, default)
        return int(value) if isinstance(value, (int, float)) else default

    def per_channel(self, index: int, axis: int) -> bool:
        """Whether an input has one scale per index of an axis, be it only one."""
        quantization, shape = self.quantization(index), self.shape(index)
        return quantization is not None and axis < len(shape) and len(quantization.scales) == shape[axis]

    def broadcasts(self) -> bool:
        """Whether two inputs of different shapes meet in more dimensions than first kernels had."""
        rank = max((len(self.shape(index)) for index in range(len(self.operator.inputs))), default=0)
        return self.shape(0) != self.shape(1) and rank > MAX_RANK_BEFORE_BROADCAST_VERSIONS
