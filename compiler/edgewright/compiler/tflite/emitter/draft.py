"""A TFLite model while it is written: tensors and operators are only ever added."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ..file.model import TYPE_OF_NUMPY, Array, Operator, OptionValue, Quantization, Tensor
from ..file.schema import TYPES


@dataclass
class Draft:
    """Tensors by index, operators in order."""

    tensors: list[Tensor] = field(default_factory=list)
    operators: list[Operator] = field(default_factory=list)
    _names: set[str] = field(default_factory=set)
    _constants: dict[tuple[str, tuple[int, ...], bytes, Quantization | None], int] = field(default_factory=dict)

    def tensor(self, name: str, kind: str, shape: tuple[int, ...], quantization: Quantization | None = None) -> int:
        """An activation under a name that no other has, `name` where it is free; returns its index."""
        return self._add(Tensor(self._fresh(name), kind, shape, quantization=quantization))

    def constant(self, name: str, array: Array, quantization: Quantization | None = None) -> int:
        """A constant; equal ones are stored once."""
        kind = TYPE_OF_NUMPY[array.dtype.name]
        data = np.ascontiguousarray(array).reshape(array.shape)
        key = (kind, data.shape, data.tobytes(), quantization)
        if key not in self._constants:
            tensor = Tensor(self._fresh(name), kind, data.shape, data=data, quantization=quantization)
            self._constants[key] = self._add(tensor)
        return self._constants[key]

    def operator(
        self, kind: str, inputs: tuple[int, ...], outputs: tuple[int, ...], options: dict[str, OptionValue]
    ) -> None:
        """Appends an operator."""
        self.operators.append(Operator(kind, inputs, outputs, options))

    def _add(self, tensor: Tensor) -> int:
        if tensor.type not in TYPES:
            raise ValueError(f"{tensor.name}: no type {tensor.type}")
        self.tensors.append(tensor)
        return len(self.tensors) - 1

    def _fresh(self, name: str) -> str:
        unique, count = name, 1
        while unique in self._names:
            unique, count = f"{name}.{count}", count + 1
        self._names.add(unique)
        return unique
