"""Copies that other layers can do without: of copies, in place, or before weights that can be reordered instead."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from ..interpret import Memory, run_layer
from ..net import Alias, Array, Dense, Layer, Move, Net, Part, Tensor
from ..rebuild import substituted
from .links import Links, without_dead_layers

MAX_SIMULATED_ELEMENTS = 1 << 22


def simplify_moves(net: Net) -> Net:
    """Every rule until none applies."""
    net = _without_empty_aliases(substituted(net, _roots(net)))
    for rule in (_read_the_source, _reorder_weights, _alias):
        net = _everywhere(net, rule)
    return without_dead_layers(net)


Rule = Callable[[Layer, Net, Links], tuple[Layer, ...] | None]


def _everywhere(net: Net, rule: Rule) -> Net:
    position = 0
    links = Links(net)
    while position < len(net.layers):
        found = rule(net.layers[position], net, links)
        if found is None:
            position += 1
            continue
        net = Net(net.inputs, net.outputs, (*net.layers[:position], *found, *net.layers[position + 1 :]))
        links = Links(net)
    return net


def _roots(net: Net) -> dict[str, Tensor]:
    """Aliases that keep the shape, by the tensor that they are."""
    seen = {tensor.name for tensor in (*net.inputs, *net.outputs)}
    roots: dict[str, Tensor] = {}
    for layer in net.layers:
        if isinstance(layer, Alias) and layer.x.shape == layer.y.shape and layer.y.name not in seen:
            roots[layer.y.name] = roots.get(layer.x.name, layer.x)
    return roots


def _without_empty_aliases(net: Net) -> Net:
    """Nothing stands for itself: who follows aliases to what made a tensor would go round for ever."""
    kept = tuple(layer for layer in net.layers if not (isinstance(layer, Alias) and layer.x.name == layer.y.name))
    return replace(net, layers=kept)


def _made_by(tensor: Tensor | object, net: Net, links: Links) -> Layer | None:
    index = links.writer.get(tensor.name) if isinstance(tensor, Tensor) else None
    return None if index is None else net.layers[index]


def _read_the_source(layer: Layer, net: Net, links: Links) -> tuple[Layer, ...] | None:
    """A Move of a Move, or of an Alias, reads what that reads."""
    if not isinstance(layer, Move):
        return None
    for index, part in enumerate(layer.parts):
        source = _made_by(part.x, net, links)
        found = _through_alias(part, source) if isinstance(source, Alias) else _through_move(part, source)
        if found is not None:
            parts = (*layer.parts[:index], found, *layer.parts[index + 1 :])
            return (replace(layer, parts=parts),)
    return None


def _through_alias(part: Part, source: Alias) -> Part:
    return replace(part, x=source.x)


def _through_move(part: Part, source: Layer | None) -> Part | None:
    if not isinstance(source, Move) or source.fill is not None or len(source.parts) != 1:
        return None
    inner, middle = source.parts[0], source.y
    if middle.border or inner.extents != middle.shape or not _same_steps(inner.y_strides, middle) or inner.y_start:
        return None
    place, rest = [], part.x_start
    for stride in middle.strides:
        place.append(rest // stride)
        rest %= stride
    steps = []
    for stride, extent in zip(part.x_strides, part.extents, strict=True):
        step = _step(stride, extent, place, middle, inner.x_strides)
        if step is None:
            return None
        steps.append(step)
    start = inner.x_start + sum(index * stride for index, stride in zip(place, inner.x_strides, strict=True))
    return replace(part, x=inner.x, x_start=start, x_strides=tuple(steps))


def _step(stride: int, extent: int, place: list[int], middle: Tensor, inner: tuple[int, ...]) -> int | None:
    """A step over the tensor in the middle as a step over what it was copied from."""
    if extent == 1 or stride == 0:
        return 0
    for index, size, before, after in zip(place, middle.shape, middle.strides, inner, strict=True):
        count, rest = divmod(stride, before)
        if not rest and count and 0 <= index + count * (extent - 1) < size:
            return count * after
    return None


def _same_steps(strides: tuple[int, ...], tensor: Tensor) -> bool:
    return all(size == 1 or step == own for size, step, own in zip(tensor.shape, strides, tensor.strides, strict=True))


def _alias(layer: Layer, net: Net, links: Links) -> tuple[Layer, ...] | None:
    """A Move that leaves every byte in its order is an Alias, between tensors that the caller does not see."""
    del net
    if not isinstance(layer, Move) or len(layer.parts) != 1 or layer.y.name in links.outside:
        return None
    part = layer.parts[0]
    if not isinstance(part.x, Tensor) or part.x.border or layer.y.border or part.x.elements != layer.y.elements:
        return None
    if part.x_start or part.y_start or part.extents != layer.y.shape:
        return None
    if not (_same_steps(part.x_strides, layer.y) and _same_steps(part.y_strides, layer.y)):
        return None
    return (Alias(x=part.x, y=layer.y, origin=layer.origin),)


def _reorder_weights(layer: Layer, net: Net, links: Links) -> tuple[Layer, ...] | None:
    """A Dense whose input is a reordered row of another tensor reads that, with its weights reordered instead."""
    if not isinstance(layer, Dense) or layer.x.border:
        return None
    source, middle = _made_by(layer.x, net, links), layer.x
    while isinstance(source, Alias):
        middle, source = source.x, _made_by(source.x, net, links)
    if not isinstance(source, Move) or len(source.parts) != 1 or source.fill is not None or middle.border:
        return None
    x = source.parts[0].x
    if not isinstance(x, Tensor) or x.border or x.elements != middle.elements or x.elements > MAX_SIMULATED_ELEMENTS:
        return None
    rows = _order_of(source, x).reshape(-1, layer.x.shape[-1])
    first = rows[0]
    lines = np.arange(len(rows))[:, None] * layer.x.shape[-1]
    if not np.array_equal(rows, first + lines) or not np.array_equal(np.sort(first), np.arange(len(first))):
        return None
    weight = np.empty_like(layer.weight)
    weight[:, first] = layer.weight
    straight = replace(layer.x, name=f"{layer.x.name}.straight")
    return (
        Alias(x=x, y=straight, origin=layer.origin),
        replace(layer, x=straight, weight=np.ascontiguousarray(weight)),
    )


def _order_of(move: Move, x: Tensor) -> Array:
    """For every element of what a Move makes, which element of x it is."""
    numbers = replace(x, dtype="s64")
    made = replace(move.y, dtype="s64")
    memory = Memory()
    memory.write(numbers, np.arange(x.elements).reshape(x.shape))
    run_layer(Move(y=made, parts=(replace(move.parts[0], x=numbers),)), memory)
    return memory.read(made).reshape(-1)
