"""Element-wise layers move into the layer that makes what they read.

A Map after a product (convolution, matrix product, pool, reduction) becomes part of its epilogue: constants per channel
are rows, tensors of the same shape are read beside (residual additions). A Map after a Map becomes one Map.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..expression import Beside, Call, Expression, Leaf, Row, Scalar, call
from ..expression import replace as replace_leaves
from ..net import Array, Convolution, Dense, Dtype, Epilogue, Layer, Map, MatMul, Net, Operand, Pool, Reduce, Tensor
from .links import Links

Product = Convolution | Dense | MatMul | Pool | Reduce
_EXACT: tuple[Dtype, ...] = ("f32", "u8", "s8", "s32")
"""Types that lose nothing between an epilogue and a Map that reads it."""
_TRUTHS: tuple[Dtype, ...] = (*_EXACT, "bool")
"""Between two Maps: a Map that makes booleans computes 0 and 1."""

MAX_PARTS = 300
"""Of an expression: what is read several times is written out several times until C is made of it."""


def fuse_epilogues(net: Net) -> Net:
    """Until no Map is left that could move."""
    layers = list(net.layers)
    position = 0
    while position < len(layers):
        layer = layers[position]
        found = _fused(layer, layers, Net(net.inputs, net.outputs, tuple(layers))) if isinstance(layer, Map) else None
        if found is None:
            position += 1
            continue
        removed, fused = found
        layers[position] = fused
        del layers[removed]
        position -= 1  # the same layer again: it may have more to take in
    return Net(net.inputs, net.outputs, tuple(layers))


def _fused(layer: Map, layers: list[Layer], net: Net) -> tuple[int, Layer] | None:
    """The position of a layer that goes, and what takes the Map's place; the last product or Map before it."""
    links = Links(net)
    candidates = {
        index: tensor
        for tensor in layer.inputs
        if links.only_reader(tensor) is not None and (index := links.writer.get(tensor.name)) is not None
    }
    for index in sorted(candidates, reverse=True):
        source, tensor = layers[index], candidates[index]
        fused: Layer | None = None
        if not _reads_plainly(layer, tensor) or tensor.dtype not in (_TRUTHS if isinstance(source, Map) else _EXACT):
            continue
        if isinstance(source, Map):
            fused = _into_map(source, layer)
        elif isinstance(source, Convolution | Dense | MatMul | Pool | Reduce):
            fused = _into_epilogue(source, layer)
        if fused is not None:
            return index, fused
    return None


def _reads_plainly(layer: Map, tensor: Tensor) -> bool:
    """Whether every element of the result reads its own element of a tensor."""
    return tensor.shape == layer.y.shape and all(
        is_plain(operand, layer.y)
        for operand in layer.operands
        if isinstance(operand.value, Tensor) and operand.value.name == tensor.name
    )


def is_plain(operand: Operand, y: Tensor) -> bool:
    """Whether an operand is a tensor of y's shape, read in its order."""
    return (
        isinstance(operand.value, Tensor)
        and operand.value.shape == y.shape
        and all(
            size == 1 or step == stride
            for size, step, stride in zip(y.shape, operand.strides, operand.value.strides, strict=True)
        )
    )


def _converted(value: Expression, leaf: Beside) -> Expression | None:
    """What a leaf that read the tensor now reads from what was stored in it."""
    if value.kind == leaf.kind:
        return value
    return call("to_f32", value) if leaf.kind == "f32" else None


def _is_same(first: Tensor | Array, second: Tensor | Array) -> bool:
    if isinstance(first, Tensor) and isinstance(second, Tensor):
        return first == second
    return first is second


def _into_map(source: Map, layer: Map) -> Map | None:
    operands: list[Operand] = []

    def kept(operand: Operand) -> int:
        for index, known in enumerate(operands):
            if _is_same(known.value, operand.value) and known.strides == operand.strides:
                return index
        operands.append(operand)
        return len(operands) - 1

    def of_source(leaf: Leaf) -> Expression:
        return Beside(kept(source.operands[leaf.index]), leaf.kind) if isinstance(leaf, Beside) else leaf

    inner = replace_leaves(source.value, of_source)
    refused = False

    def of_layer(leaf: Leaf) -> Expression:
        nonlocal refused
        if not isinstance(leaf, Beside):
            return leaf
        operand = layer.operands[leaf.index]
        if not isinstance(operand.value, Tensor) or operand.value.name != source.y.name:
            return Beside(kept(operand), leaf.kind)
        found = _converted(inner, leaf)
        refused = refused or found is None
        return found or leaf

    value = replace_leaves(layer.value, of_layer)
    if refused or _parts(value) > MAX_PARTS:
        return None
    return Map(y=layer.y, value=value, operands=tuple(operands), origin=f"{source.origin} + {layer.origin}")


def _into_epilogue(source: Product, layer: Map) -> Layer | None:
    if layer.y.dtype not in _EXACT:
        return None
    rows, beside = list(source.epilogue.rows), list(source.epilogue.beside)
    leaves: dict[Beside, Expression] = {}
    for leaf in _besides(layer):
        operand = layer.operands[leaf.index]
        if isinstance(operand.value, Tensor) and operand.value.name == source.y.name:
            found = _converted(source.epilogue.value, leaf)
        elif is_plain(operand, layer.y) and isinstance(operand.value, Tensor):
            beside.append(operand.value)
            found = Beside(len(beside) - 1, leaf.kind)
        else:
            found = _constant_leaf(operand, leaf, layer.y, rows)
        if found is None:
            return None
        leaves[leaf] = found
    value = replace_leaves(layer.value, lambda leaf: leaves[leaf] if isinstance(leaf, Beside) else leaf)
    if _parts(value) > MAX_PARTS:
        return None
    epilogue = Epilogue(value, tuple(rows), tuple(beside))
    return replace(source, y=layer.y, epilogue=epilogue, origin=f"{source.origin} + {layer.origin}")


def _parts(expression: Expression) -> int:
    return 1 + sum(map(_parts, expression.arguments)) if isinstance(expression, Call) else 1


def _besides(layer: Map) -> list[Beside]:
    found: dict[Beside, None] = {}

    def note(leaf: Leaf) -> Expression:
        if isinstance(leaf, Beside):
            found[leaf] = None
        return leaf

    replace_leaves(layer.value, note)
    return list(found)


def _constant_leaf(operand: Operand, leaf: Beside, y: Tensor, rows: list[Array]) -> Expression | None:
    """A constant as a number or a row; None where it changes along other axes, or is no constant."""
    if isinstance(operand.value, Tensor):
        return None
    steps = [step for step, size in zip(operand.strides, y.shape, strict=True) if size > 1]
    flat = operand.value.reshape(-1)
    if not any(steps):
        return Scalar(flat[0].item(), leaf.kind)
    if any(steps[:-1]) or y.shape[-1] == 1 or operand.strides[-1] != 1:
        return None
    rows.append(np.ascontiguousarray(flat[: y.shape[-1]], np.float32 if leaf.kind == "f32" else np.int32))
    return Row(len(rows) - 1, leaf.kind)
