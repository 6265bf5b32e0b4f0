"""The state of a reading: which ONNX values hold the tensors of a file, and in which order of axes."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ...faults import ModelError, UnsupportedModel
from ..file.model import NUMPY, Array, Model, Quantization, Tensor
from .draft import Draft
from .orders import Order, identity

ENCODED = frozenset({"INT8", "UINT8", "INT16", "UINT16"})
"""Types whose quantization says what an activation means; that of wider integers matters for a bias only."""


@dataclass
class Held:
    """One tensor in one order: as numbers, and as integers where it is quantized."""

    real: str | None
    integer: str | None


@dataclass
class Reading:
    """What operator functions take values from and give results to."""

    model: Model
    draft: Draft
    free_batch: bool
    declared: dict[str, tuple[int, Order]] = field(default_factory=dict)
    """Names of values, with the tensor that each must be like."""
    hybrid: set[str] = field(default_factory=set)
    """Dequantized weights whose products TFLite computes in integers though the activations are floats."""
    _held: dict[int, dict[Order, Held]] = field(default_factory=dict)
    """By tensor; the order in which it was made comes first."""
    _constants: dict[tuple[int, Order, int], str] = field(default_factory=dict)
    _alias: dict[int, int] = field(default_factory=dict)
    """Results of DEQUANTIZE on constants, with those constants."""

    # -- what the file says

    def tensor(self, index: int) -> Tensor:
        """A tensor, or the constant that it is the dequantized form of."""
        return self.model.tensors[self._alias.get(index, index)]

    def sizes(self, index: int) -> tuple[int | None, ...]:
        """The shape in the file's order; None where callers choose. The batch is as the file has it, else 1."""
        tensor = self.model.tensors[index]
        free = tensor.free or tensor.shape
        batch = (None,) if self.free_batch and free[:1] == (-1,) else tensor.shape[:1]
        rest = (None if mark == -1 else size for mark, size in zip(free[1:], tensor.shape[1:], strict=True))
        return (*batch, *rest)

    def known(self, index: int) -> Array | None:
        """The data of a constant as they are stored."""
        return self.tensor(index).data

    def encoding(self, index: int) -> Quantization | None:
        """How integers stand for numbers; None where a tensor is what it holds."""
        tensor = self.tensor(index)
        return tensor.quantization if tensor.type in ENCODED else None

    # -- reading

    def native(self, index: int) -> Order:
        """The order in which a tensor was made; that of the file where it is a constant."""
        held = self._held.get(index)
        return next(iter(held)) if held else identity(len(self.model.tensors[index].shape))

    def real(self, index: int, order: Order | None = None, rank: int | None = None) -> str:
        """The numbers of a tensor; `rank` has axes of size 1 put before a constant."""
        order = identity(rank or len(self.tensor(index).shape)) if order is None else order
        if self.known(index) is not None:
            return self._constant(self._alias.get(index, index), order)
        held = self._in_order(index, order)
        if held.real is None:
            encoding = self.encoding(index)
            if encoding is None or held.integer is None:
                raise ValueError(f"tensor {index} is held neither as numbers nor as integers")
            held.real = self.dequantized(held.integer, self.tensor(index).type, encoding, self._label(index))
        return held.real

    def integers(self, index: int, order: Order) -> str:
        """The integers of a quantized tensor that is computed."""
        return self._in_order(index, order).integer or ""

    def stored(self, index: int) -> str:
        """A tensor in the file's order as callers see it: integers where it is quantized."""
        if index in self._alias:
            return self.real(index)
        if self.known(index) is not None:
            return self.draft.constant(_native(self.tensor(index).data), self._label(index))
        held = self._in_order(index, identity(len(self.model.tensors[index].shape)))
        return held.integer or held.real or ""

    def _in_order(self, index: int, order: Order) -> Held:
        found = self._held.get(index)
        if found is None:
            raise ModelError(f"{self.draft.where}: tensor {self._label(index)!r} is read before anything makes it")
        if order not in found:
            native, first = next(iter(found.items()))
            permutation = [native.index(axis) for axis in order]
            source = first.integer or first.real or ""
            turned = self.draft.node("Transpose", [source], self._label(index), perm=permutation)
            found[order] = Held(None, turned) if first.integer else Held(turned, None)
        return found[order]

    def _constant(self, index: int, order: Order) -> str:
        """A constant with its axes in an order, axes of size 1 in front where it has fewer."""
        tensor = self.model.tensors[index]
        rank = len(order)
        key = (index, order, rank)
        if key not in self._constants:
            missing = rank - len(tensor.shape)
            array = _native(tensor.data).reshape((1,) * missing + tensor.shape).transpose(order)
            self._constants[key] = self._decoded(index, array, order, missing)
        return self._constants[key]

    def _decoded(self, index: int, array: Array, order: Order, missing: int) -> str:
        tensor, label = self.model.tensors[index], self._label(index)
        encoding = self.encoding(index)
        if tensor.type == "FLOAT16":
            made = self.draft.node("Cast", [self.draft.constant(array, f"{label}_half")], label, to=1)
            return self.draft.named(made, self.draft.fresh(label))
        if encoding is None:
            return self.draft.constant(array, label)
        integers = self.draft.constant(array, f"{label}_integers")
        axis = order.index(encoding.axis + missing) if len(encoding.scales) > 1 else 0
        moved = Quantization(encoding.scales, encoding.zero_points, axis)
        made = self.dequantized(integers, tensor.type, moved, label)
        return self.draft.named(made, self.draft.fresh(label))

    def bias(self, index: int) -> str:
        """A bias, (channels,): integers of 32 bits keep their scales."""
        tensor, label = self.tensor(index), self._label(index)
        key = (index, (0,), -1)
        if tensor.data is None or tensor.quantization is None or tensor.type not in {"INT32", "INT64"}:
            return self.real(index)
        if key not in self._constants:
            integers = _native(tensor.data).reshape(-1)
            quantization = tensor.quantization
            if np.abs(integers).max(initial=0) < 2**31 - 1:
                stored = self.draft.constant(integers.astype(np.int32), f"{label}_integers")
                made = self.dequantized(stored, "INT32", quantization, label)
                self._constants[key] = self.draft.named(made, self.draft.fresh(label))
            else:
                numbers = integers.astype(np.float64) * np.asarray(quantization.scales, np.float64)
                self._constants[key] = self.draft.constant(numbers.astype(np.float32), label)
        return self._constants[key]

    # -- writing

    def take(self, index: int, name: str) -> None:
        """Says that an input of the graph is this tensor."""
        order = identity(len(self.model.tensors[index].shape))
        self._held[index] = {order: Held(None, name) if self._one_encoding(index) else Held(name, None)}

    def give(self, index: int, value: str, order: Order) -> None:
        """Says that a value is this tensor before it is rounded."""
        if index in self._held or self.known(index) is not None:
            raise ModelError(f"{self.draft.where}: tensor {self._label(index)!r} is made twice")
        encoding, label = self._one_encoding(index), self._label(index)
        if encoding is None:
            held = Held(self.draft.named(value, self.draft.fresh(label)), None)
        else:
            rounded = self.quantized(value, self.tensor(index).type, encoding, label)
            held = Held(None, self.draft.named(rounded, self.draft.fresh(label)))
        self.declared[held.integer or held.real or ""] = (index, order)
        self._held[index] = {order: held}

    def alias(self, index: int, constant: int) -> None:
        """Says that a tensor is what a constant means."""
        self._alias[index] = self._alias.get(constant, constant)

    def rename(self, index: int, name: str) -> str | None:
        """Calls the stored form of a result by a name of its own; None where an input or a constant is it."""
        old = self.stored(index)
        node = next((node for node in self.draft.nodes if old in node.output), None)
        if node is None:
            return None
        for each in self.draft.nodes:
            for names in (each.input, each.output):
                for position, value in enumerate(names):
                    if value == old:
                        names[position] = name
        node.name = node.output[0]
        if old in self.declared:
            self.declared[name] = self.declared.pop(old)
        held = self._held[index][identity(len(self.model.tensors[index].shape))]
        held.integer, held.real = (name, held.real) if held.integer == old else (None, name)
        return name

    def quantized(self, value: str, kind: str, encoding: Quantization, label: str) -> str:
        """QuantizeLinear."""
        scale, zero = self._parameters(kind, encoding)
        return self.draft.node("QuantizeLinear", [value, scale, zero], label)

    def dequantized(self, value: str, kind: str, encoding: Quantization, label: str) -> str:
        """DequantizeLinear, per tensor or along the encoding's axis."""
        scale, zero = self._parameters(kind, encoding)
        axis = {} if len(encoding.scales) == 1 else {"axis": encoding.axis}
        inputs = [value, scale] if kind == "INT32" else [value, scale, zero]
        return self.draft.node("DequantizeLinear", inputs, label, **axis)

    def _parameters(self, kind: str, encoding: Quantization) -> tuple[str, str]:
        scales = np.asarray(encoding.scales, np.float32)
        zeros = np.asarray(encoding.zero_points, np.int64).astype(NUMPY[kind])
        if len(encoding.scales) == 1:
            scales, zeros = scales.reshape(()), zeros.reshape(())
        return self.draft.small(scales, "scale"), self.draft.small(zeros, "zero_point")

    def _one_encoding(self, index: int) -> Quantization | None:
        encoding = self.encoding(index)
        if encoding is not None and len(encoding.scales) != 1:
            raise UnsupportedModel(
                f"{self.draft.where}: tensor {self._label(index)!r} is computed and has one scale per channel; "
                "quantize activations with one scale per tensor"
            )
        return encoding

    def _label(self, index: int) -> str:
        return self.model.tensors[index].name


def _native(array: Array | None) -> Array:
    """In the byte order of this machine; truths are 0 and 1, whatever the bytes are."""
    if array is None:
        raise ValueError("no constant")
    if array.dtype == np.bool_:
        return np.asarray(array.view(np.uint8) != 0)
    return array.astype(array.dtype.newbyteorder("="), copy=False)
