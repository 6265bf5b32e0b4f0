"""The state of a walk over a graph: where each ONNX value lies, and the TFLite operators so far."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, NoReturn

import numpy as np
import onnx_ir as ir

from ...faults import UnsupportedModel
from ...graph import place as place_of
from ..file.model import NUMPY, TYPE_OF_NUMPY, Array, OptionValue, Quantization
from ..file.schema import ACTIVATIONS
from .draft import Draft
from .encodings import Encoding, signed
from .orders import Order, dense, identity, in_memory, logical
from .sites import Site


@dataclass(frozen=True)
class Placed:
    """Where a value lies."""

    tensor: int
    order: Order


@dataclass(frozen=True)
class Stored:
    """A constant in integers, in its logical shape."""

    integers: Array
    encoding: Encoding


@dataclass
class Walk:
    """What operator functions read values from and give tensors to."""

    opset: int
    free_batch: bool = False
    """Whether callers may resize the first axis; it is 1 while the graph is written."""
    draft: Draft = field(default_factory=Draft)
    features: dict[str, Array] = field(default_factory=dict)
    """Flattened values whose last axis lies in another order: logical index of each place. Only products read them."""
    _placed: dict[str, list[Placed]] = field(default_factory=dict)
    """By ONNX name: where it was made, then the other orders it was brought to."""
    _constants: dict[str, Array] = field(default_factory=dict)
    _stored: dict[str, Stored] = field(default_factory=dict)
    _integers: dict[str, tuple[str, Encoding]] = field(default_factory=dict)
    """Results of DequantizeLinear: the name of what they read."""
    _reshaped_from: dict[int, int] = field(default_factory=dict)
    """Results of RESHAPE: what the first of a chain reads."""

    # -- constants

    def give_constant(self, value: ir.Value, array: Array) -> None:
        """Says that a result is known."""
        self._constants[_name(value)] = array

    def give_stored(self, value: ir.Value, stored: Stored) -> None:
        """Says in which integers a known result came."""
        self._stored[_name(value)] = stored

    def constant(self, value: ir.Value) -> Array | None:
        """The numbers of a value that does not depend on inputs, in its logical shape."""
        if value.const_value is not None and _name(value) not in self._constants:
            self._constants[_name(value)] = value.const_value.numpy()
        return self._constants.get(_name(value))

    def stored(self, value: ir.Value) -> Stored | None:
        """The integers of a known value that came quantized."""
        return self._stored.get(_name(value))

    # -- where values lie

    def give(self, value: ir.Value, tensor: int, order: Order) -> None:
        """Says where a value lies."""
        self._placed[_name(value)] = [Placed(tensor, order)]

    def give_dequantized(self, value: ir.Value, integers: ir.Value, encoding: Encoding) -> None:
        """Says that a value is what these integers mean; it is made only if someone reads it as float."""
        self._integers[_name(value)] = (_name(integers), encoding)
        self.keep_features(integers, value)

    def keep_features(self, source: ir.Value, value: ir.Value) -> None:
        """Says that a value's last axis lies as that of what it was rounded from, or stands for."""
        if _name(source) in self.features:
            self.features[_name(value)] = self.features[_name(source)]

    def encoding(self, value: ir.Value) -> Encoding | None:
        """Of a dequantized value; None for others."""
        if _name(value) in self._stored:
            return self._stored[_name(value)].encoding
        found = self._integers.get(_name(value))
        return None if found is None else found[1]

    def place(self, value: ir.Value, *, integer: bool = False) -> Placed:
        """Where a value lies as it was made; `integer` where its integers are asked for."""
        return self._places(value, integer=integer)[0]

    def is_made(self, value: ir.Value) -> bool:
        """Whether a value is known or lies somewhere."""
        return _name(value) in self._placed or _name(value) in self._integers or self.constant(value) is not None

    def shape(self, value: ir.Value) -> tuple[int, ...]:
        """Logical, with the batch in its place."""
        known = self.constant(value)
        if known is not None:
            return tuple(known.shape)
        placed = self.place(value, integer=_name(value) in self._integers)
        return logical(self.draft.tensors[placed.tensor].shape, placed.order)

    def read(self, value: ir.Value, order: Order, *, integer: bool = False) -> int:
        """The tensor of a value in this order; brought there by RESHAPE or TRANSPOSE where it lies otherwise."""
        known = self._places(value, integer=integer)
        for placed in known:
            if placed.order == order:
                return placed.tensor
        tensor = self.reordered(known[0], order)
        known.append(Placed(tensor, order))
        return tensor

    def reordered(self, placed: Placed, order: Order) -> int:
        """A tensor brought into another order."""
        source = self.draft.tensors[placed.tensor]
        shape = in_memory(logical(source.shape, placed.order), order)
        if dense(source.shape, placed.order) == dense(shape, order):
            return self.reshaped(placed.tensor, shape)
        squeezed = tuple(axis for axis in placed.order if axis >= 0)
        start = placed.tensor
        if len(squeezed) != len(placed.order):
            start = self.reshaped(start, in_memory(logical(source.shape, placed.order), squeezed))
        wanted = tuple(axis for axis in order if axis >= 0)
        turned = self.like(start, in_memory(logical(source.shape, placed.order), wanted), f"{source.name}_transposed")
        permutation = np.asarray([squeezed.index(axis) for axis in wanted], np.int32)
        self.emit("TRANSPOSE", (start, self.draft.constant("permutation", permutation)), (turned,))
        return turned if wanted == order else self.reshaped(turned, shape)

    def reshaped(self, tensor: int, shape: tuple[int, ...], name: str = "", inferred: int | None = None) -> int:
        """The same bytes in another shape (memory order); a free batch stays free.

        `inferred` is the axis whose size follows from the others where the batch is free and not the first.
        """
        name = name or f"{self.draft.tensors[tensor].name}_reshaped"
        tensor = self._reshaped_from.get(tensor, tensor)
        source = self.draft.tensors[tensor]
        if source.shape == shape:
            return tensor
        made = self.like(tensor, shape, name)
        self._reshaped_from[made] = tensor
        if self.free_batch and source.shape[:1] == shape[:1] == (1,):
            inferred = 0
        sizes = tuple(-1 if self.free_batch and axis == inferred else size for axis, size in enumerate(shape))
        constant = self.draft.constant("shape", np.asarray(sizes, np.int32))
        self.emit("RESHAPE", (tensor, constant), (made,), newShape=sizes)
        return made

    # -- reading and writing at a site

    def data(self, site: Site, value: ir.Value, order: Order) -> int:
        """What an operator computes with: the integers of a value, or the value."""
        known = self.constant(value)
        if known is None:
            return self.read(value, order, integer=site.integer and _name(value) in self._integers)
        stored = self.stored(value)
        if site.integer and stored is not None:
            array = signed(stored.integers, stored.encoding)
            turned = _turned(array, order)
            return self.draft.constant(_name(value), turned, stored.encoding.quantization)
        return self.draft.constant(_name(value), _turned(known, order))

    def order_of(self, site: Site, value: ir.Value) -> Order:
        """In which a value lies as it was made, or in which its integers do where the site computes with them."""
        if self.constant(value) is not None:
            return identity(len(self.shape(value)))
        return self.place(value, integer=site.integer and _name(value) in self._integers).order

    def result(self, site: Site, shape: tuple[int, ...], order: Order, index: int = 0) -> int:
        """A new tensor for a result; `shape` in memory order."""
        value = site.results[index]
        if site.integer and index < len(site.encodings):
            encoding = site.encodings[index]
            tensor = self.draft.tensor(_name(value), encoding.type, shape, encoding.quantization)
        else:
            tensor = self.draft.tensor(_name(value), self.type_of(value), shape)
        self.give(value, tensor, order)
        return tensor

    def finish(self, site: Site, tensor: int, order: Order, index: int = 0) -> None:
        """Says that a tensor holds a result; where the graph rounds it otherwise, QUANTIZE follows."""
        rounded = site.integer and index < len(site.encodings)
        if rounded and self.draft.tensors[tensor].quantization != site.encodings[index].quantization:
            made = self.result(site, self.draft.tensors[tensor].shape, order, index)
            self.emit("QUANTIZE", (tensor,), (made,))
        else:
            self.give(site.results[index], tensor, order)

    def like(self, tensor: int, shape: tuple[int, ...], name: str, quantization: Quantization | None = None) -> int:
        """A new tensor of the same type and, where no other is given, of the same quantization."""
        source = self.draft.tensors[tensor]
        return self.draft.tensor(name, source.type, shape, quantization or source.quantization)

    def emit(self, kind: str, inputs: tuple[int, ...], outputs: tuple[int, ...], **options: OptionValue) -> None:
        """Appends an operator; options by their names in the schema."""
        self.draft.operator(kind, inputs, outputs, options)

    def shape_of(self, tensor: int) -> tuple[int, ...]:
        """In memory order."""
        return self.draft.tensors[tensor].shape

    def type_of(self, value: ir.Value) -> str:
        """The TFLite type of a value as the graph says; float32 where it says nothing."""
        if value.dtype is None:
            return "FLOAT32"
        name = str(value.dtype.numpy())
        if name not in TYPE_OF_NUMPY:
            raise UnsupportedModel(
                f"{_name(value)} is {value.dtype}, which TFLite does not compute; convert it to float32"
            )
        return TYPE_OF_NUMPY[name]

    def refuse(self, node: ir.Node, reason: str, remedy: str) -> NoReturn:
        """Says that a node has no form in TFLite.

        Raises:
            UnsupportedModel: always.
        """
        raise UnsupportedModel(f"{node.op_type} at {place_of(node)}: {reason}; {remedy}")

    def _places(self, value: ir.Value, *, integer: bool) -> list[Placed]:
        name = _name(value)
        if integer:
            return self._placed[self._integers[name][0]]
        if name not in self._placed:
            known = self.constant(value)
            if known is not None:
                self._placed[name] = [Placed(self.draft.constant(name, known), identity(known.ndim))]
            elif name in self._integers:
                self._placed[name] = [self._dequantized(name)]
            else:
                raise ValueError(f"{name!r} is read before it is made")
        return self._placed[name]

    def _dequantized(self, name: str) -> Placed:
        source = self._placed[self._integers[name][0]][0]
        made = self.draft.tensor(name, "FLOAT32", self.shape_of(source.tensor))
        self.emit("DEQUANTIZE", (source.tensor,), (made,))
        return replace(source, tensor=made)


def fused(site: Site) -> int:
    """The number of the clamp that is part of an operator."""
    return ACTIVATIONS[site.activation]


def _turned(array: Array, order: Order) -> Array:
    """An array as it lies in memory in an order."""
    turned: Array = np.transpose(array, [axis for axis in order if axis >= 0])
    return np.ascontiguousarray(turned).reshape(in_memory(array.shape, order))  # contiguous makes a number a vector


def numpy_of(kind: str) -> np.dtype[Any]:
    """Of a TFLite type."""
    return np.dtype(NUMPY[kind])


def _name(value: ir.Value) -> str:
    if not value.name:
        raise ValueError("a value has no name")
    return value.name
