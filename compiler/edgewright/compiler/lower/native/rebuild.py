"""Layers with other tensors in the place of theirs: layers hold tensors by value, so a new name or border reaches all.

A new tensor differs in name or border; strides of operands and parts are counted anew for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TypeVar

from .net import (
    Alias,
    Convolution,
    Dense,
    Epilogue,
    Gather,
    Layer,
    Map,
    MatMul,
    Move,
    Net,
    Normalize,
    Operand,
    Part,
    Pool,
    Recurrent,
    Reduce,
    Resize,
    Separable,
    Softmax,
    Tensor,
)

Swap = Callable[[Tensor], Tensor]
_Product = TypeVar("_Product", Convolution, Dense, Pool, Reduce)


def substituted(net: Net, tensors: Mapping[str, Tensor]) -> Net:
    """The net with every tensor of these names replaced."""
    if not tensors:
        return net

    def swap(tensor: Tensor) -> Tensor:
        return tensors.get(tensor.name, tensor)

    return Net(
        tuple(map(swap, net.inputs)),
        tuple(map(swap, net.outputs)),
        tuple(with_tensors(layer, swap) for layer in net.layers),
    )


def with_tensors(layer: Layer, swap: Swap) -> Layer:
    """The layer with every tensor replaced; the layer itself where nothing changes."""
    tensors = (*layer.inputs, *layer.outputs, *([layer.depthwise.y] if isinstance(layer, Separable) else []))
    return layer if all(swap(tensor) is tensor for tensor in tensors) else _rebuilt(layer, swap)


def _rebuilt(layer: Layer, swap: Swap) -> Layer:
    match layer:
        case Convolution():
            return _product(layer, swap)
        case Dense():
            return _product(layer, swap)
        case Pool():
            return _product(layer, swap)
        case Reduce():
            return _product(layer, swap)
        case MatMul():
            a, b, y = swap(layer.a), swap(layer.b), swap(layer.y)
            return replace(layer, a=a, b=b, y=y, epilogue=_epilogue(layer.epilogue, swap))
        case Separable():
            return Separable(depthwise=_product(layer.depthwise, swap), pointwise=_product(layer.pointwise, swap))
        case Map():
            operands = tuple(_operand(operand, swap) for operand in layer.operands)
            return replace(layer, y=swap(layer.y), operands=operands)
        case Move():
            return replace(layer, y=swap(layer.y), parts=tuple(_part(part, layer.y, swap) for part in layer.parts))
        case Alias() | Softmax() | Normalize() | Resize():
            return replace(layer, x=swap(layer.x), y=swap(layer.y))
        case Gather():
            x = swap(layer.x) if isinstance(layer.x, Tensor) else layer.x
            return replace(layer, x=x, indices=swap(layer.indices), y=swap(layer.y))
        case Recurrent():
            return _recurrent(layer, swap)


def _product(layer: _Product, swap: Swap) -> _Product:
    return replace(layer, x=swap(layer.x), y=swap(layer.y), epilogue=_epilogue(layer.epilogue, swap))


def _recurrent(layer: Recurrent, swap: Swap) -> Recurrent:
    def maybe(tensor: Tensor | None) -> Tensor | None:
        return None if tensor is None else swap(tensor)

    last, initial = tuple(map(maybe, layer.last)), tuple(map(maybe, layer.initial))
    return replace(layer, x=swap(layer.x), y=maybe(layer.y), last=last, initial=initial)


def _epilogue(epilogue: Epilogue, swap: Swap) -> Epilogue:
    return replace(epilogue, beside=tuple(map(swap, epilogue.beside))) if epilogue.beside else epilogue


def _operand(operand: Operand, swap: Swap) -> Operand:
    if not isinstance(operand.value, Tensor):
        return operand
    old, new = operand.value, swap(operand.value)
    if old.strides == new.strides:
        return Operand(new, operand.strides)
    return Operand(new, tuple(_stride(step, axis, old, new) for axis, step in enumerate(operand.strides)))


def _stride(step: int, axis: int, old: Tensor, new: Tensor) -> int:
    """Of an element-wise operand, whose axes are those of its tensor (or it is broadcast)."""
    if step == 0:
        return 0
    if len(old.strides) <= axis or step != old.strides[axis]:
        raise ValueError(f"{old.name} is not read axis by axis: it can have no border")
    return new.strides[axis]


def _part(part: Part, y: Tensor, swap: Swap) -> Part:
    found = part
    if isinstance(part.x, Tensor):
        x = swap(part.x)
        start, strides = rebased(part.x_start, part.x_strides, part.extents, part.x, x)
        found = replace(found, x=x, x_start=start, x_strides=strides)
    start, strides = rebased(part.y_start, part.y_strides, part.extents, y, swap(y))
    return replace(found, y_start=start, y_strides=strides)


def rebased(
    start: int, strides: tuple[int, ...], extents: tuple[int, ...], old: Tensor, new: Tensor
) -> tuple[int, tuple[int, ...]]:
    """A strided walk over one tensor as a walk over another that differs in its border.

    Raises:
        ValueError: a step goes along no single axis.
    """
    if old.strides == new.strides:
        return start, strides
    place = _place(start, old)
    moved = sum(index * stride for index, stride in zip(place, new.strides, strict=True))
    return moved, tuple(_step(stride, extent, place, old, new) for stride, extent in zip(strides, extents, strict=True))


def _place(start: int, tensor: Tensor) -> list[int]:
    place, rest = [], start
    for stride in tensor.strides:
        place.append(rest // stride)
        rest %= stride
    return place


def _step(stride: int, extent: int, place: list[int], old: Tensor, new: Tensor) -> int:
    if stride == 0 or extent == 1:
        return 0
    for index, size, before, after in zip(place, old.shape, old.strides, new.strides, strict=True):
        steps, rest = divmod(stride, before)
        if not rest and 0 <= index + steps * (extent - 1) < size and steps:
            return steps * after
    raise ValueError(f"{old.name} is walked along no single axis: it can have no border")


def bordered_by(layer: Layer, old: Tensor, new: Tensor) -> bool:
    """Whether a layer can read or write `new`, a tensor with a border, in the place of `old`."""
    try:
        with_tensors(layer, lambda tensor: new if tensor.name == old.name else tensor)
    except ValueError:
        return False
    return True
