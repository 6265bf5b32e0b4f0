"""Runs a net in numpy exactly as `net.py` says it: the reference for kernels, and for whatever rewrites nets.

Floats are float64 unless told otherwise, integers exact. Whatever a layer must not do raises: a window that leaves its
buffer, a number that its tensor cannot hold. Memory that nothing has written holds NaN (integers: 85), so that reading
it shows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from .evaluate import evaluated
from .expression import Accumulator, Beside, Leaf, Row
from .interpret_products import convolution_sums, dense_sums, matmul_sums, pool_sums, reduced
from .interpret_sequences import gathered, normalized, recurrent, resized, softmaxed
from .net import (
    NUMPY,
    Alias,
    Array,
    Convolution,
    Dense,
    Dtype,
    Epilogue,
    Gather,
    Layer,
    Map,
    MatMul,
    Move,
    Net,
    Normalize,
    Operand,
    Pool,
    Recurrent,
    Reduce,
    Resize,
    Separable,
    Softmax,
    Tensor,
)

UNWRITTEN = 85


class Memory:
    """The buffers of a net, borders included."""

    def __init__(self, floats: Any = np.float64) -> None:
        self.floats = floats
        self._buffers: dict[str, Array] = {}

    def buffer(self, tensor: Tensor) -> Array:
        """Of a tensor; made where nothing has been written."""
        if tensor.name not in self._buffers:
            value = np.nan if tensor.dtype in ("f32", "f16") else UNWRITTEN
            self._buffers[tensor.name] = np.full(tensor.buffer_shape, value, self._type(tensor.dtype))
        found = self._buffers[tensor.name]
        if found.shape != tensor.buffer_shape:
            raise ValueError(f"{tensor.name} has the buffer {found.shape}, but a layer says {tensor.buffer_shape}")
        return found

    def read(self, tensor: Tensor) -> Array:
        """Without the border."""
        return _inside(tensor, self.buffer(tensor))

    def write(self, tensor: Tensor, array: Array) -> None:
        """Without the border.

        Raises:
            ValueError: a number that the tensor cannot hold.
        """
        if tensor.dtype == "f16":
            array = array.astype(np.float16)
        elif tensor.dtype != "f32":
            _check_range(tensor, array)
        inside = self.read(tensor)
        if inside.shape != array.shape:
            raise ValueError(f"{tensor.name} has shape {inside.shape}, but a layer makes {array.shape}")
        inside[...] = array

    def alias(self, x: Tensor, y: Tensor) -> None:
        """Lets `y` be the bytes of `x`."""
        if x.border or y.border or x.elements != y.elements or x.dtype != y.dtype:
            raise ValueError(f"{y.name} cannot be the bytes of {x.name}")
        self._buffers[y.name] = self.buffer(x).reshape(y.shape)

    def _type(self, dtype: Dtype) -> Any:
        return self.floats if dtype in ("f32", "f16") else np.int64


def run(net: Net, inputs: Mapping[str, Array], floats: Any = np.float64) -> dict[str, Array]:
    """The outputs of a net by name; floats in `floats`, integers in their own types."""
    memory = Memory(floats)
    for tensor in net.inputs:
        memory.write(tensor, np.asarray(inputs[tensor.name]).reshape(tensor.shape))
    for layer in net.layers:
        run_layer(layer, memory)
    return {tensor.name: _as_told(tensor, memory.read(tensor)) for tensor in net.outputs}


def interpret_layer(layer: Layer, arrays: Mapping[str, Array], floats: Any = np.float64) -> dict[str, Array]:
    """The outputs of one layer, without borders, from its inputs by tensor name, without borders."""
    memory = Memory(floats)
    for tensor in layer.inputs:
        memory.buffer(tensor)[...] = tensor.border.value
        memory.write(tensor, np.asarray(arrays[tensor.name]))
    run_layer(layer, memory)
    return {tensor.name: _as_told(tensor, memory.read(tensor)) for tensor in layer.outputs}


def run_layer(layer: Layer, memory: Memory) -> None:
    """Computes one layer."""
    match layer:
        case Separable():
            _run_product(layer.depthwise, memory)
            _run_product(layer.pointwise, memory)
        case Convolution() | Dense() | MatMul() | Pool() | Reduce():
            _run_product(layer, memory)
        case Map():
            _run_map(layer, memory)
        case Move():
            _run_move(layer, memory)
        case Alias():
            memory.alias(layer.x, layer.y)
        case Recurrent():
            _run_recurrent(layer, memory)
        case Softmax() | Normalize() | Resize() | Gather():
            _run_rows(layer, memory)


def _run_product(layer: Convolution | Dense | MatMul | Pool | Reduce, memory: Memory) -> None:
    match layer:
        case Convolution():
            sums = convolution_sums(layer, memory.buffer(layer.x))
        case Dense():
            sums = dense_sums(layer, memory.read(layer.x))
        case MatMul():
            sums = matmul_sums(layer, memory.read(layer.a), memory.read(layer.b))
        case Pool():
            sums = pool_sums(layer, memory.buffer(layer.x))
        case Reduce():
            sums = reduced(layer, memory.read(layer.x))
    beside = [memory.read(tensor) for tensor in layer.epilogue.beside]
    memory.write(layer.y, finished(layer.epilogue, sums, beside, memory.floats))


def _run_rows(layer: Softmax | Normalize | Resize | Gather, memory: Memory) -> None:
    match layer:
        case Softmax():
            found = softmaxed(layer, memory.read(layer.x))
        case Normalize():
            found = normalized(layer, memory.read(layer.x))
        case Resize():
            found = resized(layer, memory.read(layer.x))
        case Gather():
            x = memory.read(layer.x) if isinstance(layer.x, Tensor) else layer.x
            found = gathered(layer, x, memory.read(layer.indices))
    memory.write(layer.y, found)


def _run_recurrent(layer: Recurrent, memory: Memory) -> None:
    initial = [None if tensor is None else memory.read(tensor) for tensor in layer.initial]
    steps, last = recurrent(layer, memory.read(layer.x), initial)
    if layer.y is not None:
        memory.write(layer.y, steps)
    for tensor, state in zip(layer.last, last, strict=False):
        if tensor is not None:
            memory.write(tensor, state)


def finished(epilogue: Epilogue, sums: Array, beside: list[Array], floats: Any = np.float64) -> Array:
    """What an epilogue makes of sums."""
    for array in beside:
        if array.shape != sums.shape:
            raise ValueError(f"a tensor beside has shape {array.shape}, the sums {sums.shape}")

    def leaf(part: Leaf) -> Array:
        if isinstance(part, Accumulator):
            return sums
        if isinstance(part, Row):
            return epilogue.rows[part.index]
        if isinstance(part, Beside):
            return beside[part.index]
        raise ValueError(f"{part} is no leaf of an epilogue")

    return np.broadcast_to(evaluated(epilogue.value, leaf, floats), sums.shape)


def _run_map(layer: Map, memory: Memory) -> None:
    arrays = [_operand(operand, layer.y.shape, memory) for operand in layer.operands]

    def leaf(part: Leaf) -> Array:
        if isinstance(part, Beside):
            return arrays[part.index]
        raise ValueError(f"{part} is no leaf of a map")

    memory.write(layer.y, np.broadcast_to(evaluated(layer.value, leaf, memory.floats), layer.y.shape))


def _operand(operand: Operand, shape: tuple[int, ...], memory: Memory) -> Array:
    if isinstance(operand.value, Tensor):
        return _walked(memory.buffer(operand.value), operand.value.origin, shape, operand.strides)
    return _walked(operand.value, 0, shape, operand.strides)


def _run_move(layer: Move, memory: Memory) -> None:
    target = memory.buffer(layer.y)
    if layer.fill is not None:
        target[...] = layer.fill
    for part in layer.parts:
        source, origin = part.x, 0
        if isinstance(part.x, Tensor):
            source, origin = memory.buffer(part.x), part.x.origin
        taken = _walked(np.asarray(source), origin + part.x_start, part.extents, part.x_strides)
        _walked(target, layer.y.origin + part.y_start, part.extents, part.y_strides, writeable=True)[...] = taken


def _walked(
    buffer: Array, start: int, extents: tuple[int, ...], strides: tuple[int, ...], writeable: bool = False
) -> Array:
    """A strided view that does not leave its buffer."""
    flat = buffer.reshape(-1)
    if len(extents) != len(strides):
        raise ValueError(f"{len(strides)} strides for {len(extents)} extents")
    reach = [(extent - 1) * stride for extent, stride in zip(extents, strides, strict=True)]
    low, high = start + sum(min(0, each) for each in reach), start + sum(max(0, each) for each in reach)
    if 0 not in extents and (low < 0 or high >= flat.size):
        raise ValueError(f"elements {low} to {high} of a buffer of {flat.size}")
    in_bytes = tuple(stride * flat.itemsize for stride in strides)
    return np.lib.stride_tricks.as_strided(flat[start:], extents, in_bytes, writeable=writeable)


def _inside(tensor: Tensor, buffer: Array) -> Array:
    if not tensor.border:
        return buffer
    top, left = tensor.border.top, tensor.border.left
    return buffer[:, top : top + tensor.shape[1], left : left + tensor.shape[2]]


def _check_range(tensor: Tensor, array: Array) -> None:
    kind = NUMPY[tensor.dtype]
    low, high = (0, 1) if tensor.dtype == "bool" else (np.iinfo(kind).min, np.iinfo(kind).max)
    if array.size and (array.min() < low or array.max() > high):
        raise ValueError(f"{tensor.name} ({tensor.dtype}) cannot hold {array.min()} to {array.max()}")


def _as_told(tensor: Tensor, array: Array) -> Array:
    return array.copy() if tensor.dtype in ("f32", "f16") else array.astype(NUMPY[tensor.dtype])
