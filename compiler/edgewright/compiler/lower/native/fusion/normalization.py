"""Layer normalization that was exported as its parts becomes one layer again.

What exporters write, after element-wise layers were joined: m = mean(x); d = x - m; v = sqrt(mean(d * d) + epsilon);
y = f(d / v), all along the innermost axes. A factor and a shift in f that are constant along the other axes become the
scale and shift of the layer.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from ..expression import Accumulator, Beside, Call, Expression, Leaf, Scalar, call
from ..expression import replace as replace_leaves
from ..net import Array, Layer, Map, Net, Normalize, Operand, Reduce, Tensor
from .epilogues import is_plain
from .links import Links, without_dead_layers


def join_normalizations(net: Net) -> Net:
    """Every division by a deviation whose other parts are found."""
    position = 0
    while position < len(net.layers):
        layer = net.layers[position]
        found = _joined(layer, net, Links(net)) if isinstance(layer, Map) else None
        if found is not None:
            net = Net(net.inputs, net.outputs, (*net.layers[:position], *found, *net.layers[position + 1 :]))
        position += 1
    return without_dead_layers(net)


def _joined(layer: Map, net: Net, links: Links) -> tuple[Layer, ...] | None:
    quotient = next((part for part in _calls(layer.value) if _is_quotient(part)), None)
    if quotient is None:
        return None
    above, below = (layer.operands[part.index] for part in quotient.arguments if isinstance(part, Beside))
    found = _parts(above, below, layer.y, net, links)
    if found is None:
        return None
    x, axes, epsilon = found
    normal = Tensor(f"{layer.y.name}.normal", layer.y.shape)
    operands = (*layer.operands, Operand(normal, normal.strides))
    value = _replaced(layer.value, quotient, Beside(len(operands) - 1))
    made = Normalize(x=x, y=normal, axes=axes, epsilon=epsilon, origin=layer.origin)
    scaled = _with_scale(made, layer.y, value, operands)
    return (scaled,) if scaled is not None else (made, _without_unused(layer, value, operands))


def _calls(expression: Expression) -> list[Call]:
    if not isinstance(expression, Call):
        return []
    return [expression, *(found for part in expression.arguments for found in _calls(part))]


def _is_quotient(part: Call) -> bool:
    return part.operation == "div" and all(isinstance(each, Beside) for each in part.arguments)


def _parts(above: Operand, below: Operand, y: Tensor, net: Net, links: Links) -> tuple[Tensor, int, float] | None:
    """x, how many of its innermost axes, and epsilon."""
    centred, deviation = _writer(above, net, links), _writer(below, net, links)
    if not is_plain(above, y) or not isinstance(centred, Map) or not isinstance(deviation, Reduce):
        return None
    squares = _made(deviation.x, net, links)
    mean = next((found for each in centred.operands if isinstance(found := _writer(each, net, links), Reduce)), None)
    if not isinstance(squares, Map) or mean is None or mean.kind != "mean" or mean.epilogue.value != Accumulator():
        return None
    x, axes = mean.x, mean.axes
    innermost = axes == tuple(range(len(x.shape) - len(axes), len(x.shape)))
    plain = _is_difference(centred, x, mean.y, len(axes)) and _is_square(squares, centred.y) and not x.border
    plain = plain and x.shape == y.shape and _is_per_row(below, y, len(axes))
    epsilon = _epsilon(deviation)
    if not innermost or not plain or deviation.axes != axes or deviation.kind != "mean" or epsilon is None:
        return None
    return x, len(axes), epsilon


def _writer(operand: Operand, net: Net, links: Links) -> Layer | None:
    return _made(operand.value, net, links) if isinstance(operand.value, Tensor) else None


def _made(tensor: Tensor, net: Net, links: Links) -> Layer | None:
    index = links.writer.get(tensor.name)
    return None if index is None else net.layers[index]


def _is_per_row(operand: Operand, y: Tensor, axes: int) -> bool:
    """Whether an operand has a number per row of the innermost axes, in the order of rows."""
    if not isinstance(operand.value, Tensor) or len(operand.value.shape) != len(y.shape):
        return False
    outer = len(y.shape) - axes
    rows = zip(y.shape[:outer], operand.strides[:outer], operand.value.strides[:outer], strict=True)
    return not any(operand.strides[outer:]) and all(size == 1 or step == own for size, step, own in rows)


def _is_difference(layer: Map, x: Tensor, mean: Tensor, axes: int) -> bool:
    if layer.value != call("sub", Beside(0), Beside(1)) or len(layer.operands) != 2:
        return False
    first, second = layer.operands
    return first.value == x and is_plain(first, layer.y) and second.value == mean and _is_per_row(second, layer.y, axes)


def _is_square(layer: Map, x: Tensor) -> bool:
    square = call("mul", Beside(0), Beside(0))
    return layer.value == square and layer.operands[0].value == x and is_plain(layer.operands[0], layer.y)


def _epsilon(layer: Reduce) -> float | None:
    """Of sqrt(mean + epsilon); an epsilon too small to count may have been taken out before."""
    match layer.epilogue.value:
        case Call("sqrt", (Call("add", (Accumulator(), Scalar(value))),)):
            return float(value)
        case Call("sqrt", (Call("add", (Scalar(value), Accumulator())),)):
            return float(value)
        case Call("sqrt", (Accumulator(),)):
            return 0.0
        case _:
            return None


def _replaced(expression: Expression, old: Expression, new: Expression) -> Expression:
    if expression == old:
        return new
    if not isinstance(expression, Call):
        return expression
    return Call(expression.operation, tuple(_replaced(part, old, new) for part in expression.arguments))


def _with_scale(made: Normalize, y: Tensor, value: Expression, operands: tuple[Operand, ...]) -> Normalize | None:
    """The normalization itself as the layer that makes y; None where more is done to it."""
    normal = Beside(len(operands) - 1)
    if value == normal:
        return replace(made, y=y)
    scaled, shift = value, None
    if isinstance(value, Call) and value.operation == "add":
        inner = next((part for part in value.arguments if isinstance(part, Call)), None)
        added = None if inner is None else _other(value, "add", inner)
        if inner is not None and added is not None:
            scaled, shift = inner, _along(operands[added.index], y, made.axes)
    factor = _other(scaled, "mul", normal)
    scale = None if factor is None else _along(operands[factor.index], y, made.axes)
    if scale is None or (shift is None and scaled is not value):
        return None
    return replace(made, y=y, scale=scale, shift=shift)


def _other(expression: Expression, operation: str, known: Expression) -> Beside | None:
    """The operand beside a known argument of an operation."""
    if not isinstance(expression, Call) or expression.operation != operation or known not in expression.arguments:
        return None
    others = [part for part in expression.arguments if part != known]
    return others[0] if len(others) == 1 and isinstance(others[0], Beside) else None


def _along(operand: Operand, y: Tensor, axes: int) -> Array | None:
    """A constant that changes only along the innermost axes, with all their elements."""
    if isinstance(operand.value, Tensor):
        return None
    outer = len(y.shape) - axes
    if any(step for step, size in zip(operand.strides[:outer], y.shape[:outer], strict=True) if size > 1):
        return None
    view = np.lib.stride_tricks.as_strided(
        operand.value.reshape(-1),
        y.shape[outer:],
        tuple(step * operand.value.itemsize for step in operand.strides[outer:]),
        writeable=False,
    )
    return np.ascontiguousarray(view.reshape(math.prod(y.shape[outer:])), np.float32)


def _without_unused(layer: Map, value: Expression, operands: tuple[Operand, ...]) -> Map:
    """The Map with those operands that its value still reads."""
    kept: list[int] = []

    def renumbered(leaf: Leaf) -> Expression:
        if not isinstance(leaf, Beside):
            return leaf
        if leaf.index not in kept:
            kept.append(leaf.index)
        return Beside(kept.index(leaf.index), leaf.kind)

    new = replace_leaves(value, renumbered)
    return replace(layer, value=new, operands=tuple(operands[index] for index in kept))
