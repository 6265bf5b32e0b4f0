"""The state of a walk over a graph: where each ONNX value lies, and the layers so far.

A value lies in a tensor in some *order*: for every axis of the tensor, in memory order, the logical axis of the value
that it is, or `UNIT` for an axis of size 1 that the value does not have. A picture (N, C, H, W) that lies as N, H, W, C
has the order (0, 2, 3, 1); a sequence (N, C, L) as a picture of height 1 has (0, UNIT, 2, 1).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NoReturn

import numpy as np
import onnx_ir as ir

from ....faults import UnsupportedModel
from ....graph import place
from ..net import NO_BORDER, NUMPY, Alias, Array, Border, Dtype, Layer, Move, Part, Tensor

UNIT = -1
Order = tuple[int, ...]
DTYPES: dict[ir.DataType, Dtype] = {
    ir.DataType.FLOAT: "f32", ir.DataType.UINT8: "u8", ir.DataType.INT8: "s8", ir.DataType.INT16: "s16",
    ir.DataType.UINT16: "u16", ir.DataType.INT32: "s32", ir.DataType.INT64: "s64", ir.DataType.BOOL: "bool",
}  # fmt: skip
OF_NUMPY: dict[str, Dtype] = {np.dtype(kind).name: dtype for dtype, kind in NUMPY.items()}


def identity(rank: int) -> Order:
    """The order in which memory axes are logical axes."""
    return tuple(range(rank))


@dataclass(frozen=True)
class Placed:
    """Where a value lies."""

    tensor: Tensor
    order: Order

    @property
    def shape(self) -> tuple[int, ...]:
        """Logical."""
        sizes = {axis: size for axis, size in zip(self.order, self.tensor.shape, strict=True) if axis != UNIT}
        return tuple(sizes[axis] for axis in range(len(sizes)))

    @property
    def strides(self) -> tuple[int, ...]:
        """Of the logical axes, in elements."""
        found = {axis: stride for axis, stride in zip(self.order, self.tensor.strides, strict=True) if axis != UNIT}
        return tuple(found[axis] for axis in range(len(found)))

    def dense_order(self) -> Order:
        """The order without axes of size 1: two places with the same one are the same bytes."""
        return tuple(axis for axis, size in zip(self.order, self.tensor.shape, strict=True) if size != 1)


@dataclass
class Walk:
    """What operator functions read values from and give layers to."""

    opset: int = 17
    layers: list[Layer] = field(default_factory=list)
    _placed: dict[str, list[Placed]] = field(default_factory=dict)
    """By ONNX name: where it was made, then the other orders it was brought to."""
    _constants: dict[str, Array] = field(default_factory=dict)
    _names: set[str] = field(default_factory=set)
    origin: str = ""
    """Of the layers that are emitted now."""

    def fresh(self, name: str, shape: tuple[int, ...], dtype: Dtype = "f32", border: Border = NO_BORDER) -> Tensor:
        """A tensor under a name that no other has, `name` where it is free. `shape` is in memory order."""
        unique, count = name, 1
        while unique in self._names:
            unique, count = f"{name}.{count}", count + 1
        self._names.add(unique)
        return Tensor(unique, tuple(shape), dtype, border)

    def reserve(self, name: str) -> None:
        """Keeps a name from being given out."""
        self._names.add(name)

    def emit(self, layer: Layer) -> None:
        """Appends a layer.

        Raises:
            UnsupportedModel: it makes a tensor of no elements from others; kernels need at least one.
        """
        empty = next((tensor for tensor in layer.outputs if not tensor.elements), None)
        if empty is not None and layer.inputs:
            raise UnsupportedModel(
                f"{layer.origin}: its result {empty.name!r} of shape {empty.shape} holds no elements, which native "
                "code does not compute; leave the node out, or compile for another engine of the target (--engine)"
            )
        self.layers.append(layer)

    def give(self, value: ir.Value, tensor: Tensor, order: Order) -> None:
        """Says where a result lies."""
        self._placed[_name(value)] = [Placed(tensor, order)]

    def give_constant(self, value: ir.Value, array: Array) -> None:
        """Says that a result is known."""
        self._constants[_name(value)] = array

    def constant(self, value: ir.Value) -> Array | None:
        """The numbers of a value that does not depend on inputs, in its logical shape."""
        if value.const_value is not None and _name(value) not in self._constants:
            self._constants[_name(value)] = value.const_value.numpy()
        return self._constants.get(_name(value))

    def place(self, value: ir.Value) -> Placed:
        """Where a value lies as it was made; a constant is written to a tensor first."""
        if _name(value) not in self._placed:
            self._write_constant(value)
        return self._placed[_name(value)][0]

    def shape(self, value: ir.Value) -> tuple[int, ...]:
        """Logical, with the batch in its place."""
        known = self.constant(value)
        return tuple(known.shape) if known is not None else self.place(value).shape

    def dtype(self, value: ir.Value) -> Dtype:
        """Of a constant or a placed value."""
        known = self.constant(value)
        return OF_NUMPY[known.dtype.name] if known is not None else self.place(value).tensor.dtype

    def read(self, value: ir.Value, order: Order) -> Tensor:
        """The value in this order, without a border; brought there by an Alias or a Move where it lies otherwise."""
        self.place(value)
        known = self._placed[_name(value)]
        for placed in known:
            if placed.order == order and not placed.tensor.border:
                return placed.tensor
        source = known[0]
        shape = tuple(1 if axis == UNIT else source.shape[axis] for axis in order)
        found = Placed(self.fresh(_name(value), shape, source.tensor.dtype), order)
        same = next(
            (each for each in known if each.dense_order() == found.dense_order() and not each.tensor.border), None
        )
        if same is not None:
            self.emit(Alias(x=same.tensor, y=found.tensor, origin=self.origin))
        else:
            self.emit(Move(y=found.tensor, parts=(_whole(source, found),), origin=self.origin))
        known.append(found)
        return found.tensor

    def bordered(self, value: ir.Value, order: Order, border: Border) -> Tensor:
        """The value in an order of four axes with at least this border around it, made by a Move."""
        if not border:
            return self.read(value, order)
        self.place(value)
        known = self._placed[_name(value)]
        for placed in known:
            if placed.order == order and placed.tensor.border == border:
                return placed.tensor
        source = next((placed for placed in known if placed.order == order), known[0])
        shape = tuple(1 if axis == UNIT else source.shape[axis] for axis in order)
        found = Placed(self.fresh(f"{_name(value)}.padded", shape, source.tensor.dtype, border), order)
        self.emit(Move(y=found.tensor, parts=(_whole(source, found),), fill=border.value, origin=self.origin))
        known.append(found)
        return found.tensor

    def refuse(self, node: ir.Node, reason: str, remedy: str) -> NoReturn:
        """Says that a node has no native form.

        Raises:
            UnsupportedModel: always.
        """
        raise UnsupportedModel(f"{node.op_type} at {place(node)}: {reason}; {remedy}")

    def _write_constant(self, value: ir.Value) -> None:
        known = self.constant(value)
        if known is None:
            raise ValueError(f"{value.name!r} is read before it is made")
        if known.dtype.name not in OF_NUMPY:
            raise UnsupportedModel(
                f"constant {value.name!r} is {known.dtype.name}, which native code does not compute; "
                "convert the model to float32"
            )
        tensor = self.fresh(_name(value), tuple(known.shape), OF_NUMPY[known.dtype.name])
        part = Part(
            x=np.ascontiguousarray(known), extents=tensor.shape, x_strides=tensor.strides, y_strides=tensor.strides
        )
        self.emit(Move(y=tensor, parts=(part,), origin=self.origin))
        self._placed[_name(value)] = [Placed(tensor, identity(known.ndim))]


def _whole(source: Placed, found: Placed) -> Part:
    """Copies all of a value into another order."""
    strides = source.strides
    return Part(
        x=source.tensor,
        extents=found.tensor.shape,
        x_strides=tuple(0 if axis == UNIT else strides[axis] for axis in found.order),
        y_strides=found.tensor.strides,
    )


def _name(value: ir.Value) -> str:
    if not value.name:
        raise ValueError("a value has no name")
    return value.name
