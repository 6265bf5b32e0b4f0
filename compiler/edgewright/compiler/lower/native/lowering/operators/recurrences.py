"""LSTM and GRU, one layer per direction."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np
import onnx_ir as ir

from .....attributes import given, integer, needed, number, text, texts
from ...net import Alias, Array, Move, Part, Recurrent, Tensor
from ..walk import Order, Walk

_USUAL = {"LSTM": ("Sigmoid", "Tanh", "Tanh"), "GRU": ("Sigmoid", "Tanh")}


def recurrence(walk: Walk, node: ir.Node) -> None:
    """LSTM and GRU with the usual activations."""
    _check(walk, node)
    x, lstm = needed(node, 0), node.op_type == "LSTM"
    by_batch = bool(integer(node, "layout", 0))
    direction = text(node, "direction", "forward")
    source = walk.read(x, (1, 0, 2) if by_batch else (0, 1, 2))
    weights = _constants(walk, node)
    steps, batch, hidden = source.shape[0], source.shape[1], weights[1].shape[-1]
    reversed_ = (False, True) if direction == "bidirectional" else (direction == "reverse",)
    wanted = [index < len(node.outputs) and _used(node.outputs[index]) for index in range(3)]
    made: list[list[Tensor | None]] = [[], [], []]
    for index, backwards in enumerate(reversed_):
        y = walk.fresh(f"{node.outputs[0].name}.{index}", (steps, batch, hidden)) if wanted[0] else None
        last = [walk.fresh(f"{walk.origin}.last{index}", (batch, hidden)) if want else None for want in wanted[1:]]
        last = last if lstm else last[:1]
        walk.emit(
            Recurrent(
                kind="lstm" if lstm else "gru",
                x=source,
                y=y,
                last=tuple(last),
                weight=weights[0][index],
                recurrence=weights[1][index],
                bias=weights[2][index],
                initial=_initial(walk, node, index, by_batch),
                reverse=backwards,
                linear_before_reset=bool(integer(node, "linear_before_reset", 0)),
                origin=walk.origin,
            )
        )
        for kind, tensor in zip(made, (y, *last), strict=False):
            kind.append(tensor)
    _give_steps(walk, node, made[0], by_batch)
    for value, tensors in zip(node.outputs[1:], made[1:], strict=False):
        _give_last(walk, value, tensors, by_batch)


def _used(value: ir.Value) -> bool:
    return bool(value.name) and (bool(value.uses()) or value.is_graph_output())


def _check(walk: Walk, node: ir.Node) -> None:
    lengths = given(node, 4)
    known = None if lengths is None else walk.constant(lengths)
    steps = walk.shape(needed(node, 0))[1 if integer(node, "layout", 0) else 0]
    if lengths is not None and (known is None or not (known == steps).all()):
        walk.refuse(node, "its sequences have lengths of their own", "export the model for sequences of one length")
    if given(node, 7) is not None:
        walk.refuse(node, "it has peepholes", "export the model without them")
    chosen = texts(node, "activations")
    usual = _USUAL[node.op_type]
    if chosen is not None and any(name != usual[place % len(usual)] for place, name in enumerate(chosen)):
        walk.refuse(node, f"its activations are {', '.join(chosen)}", "use the usual ones")
    if number(node, "clip", 0.0) or integer(node, "input_forget", 0):
        walk.refuse(node, "it clips, or couples input and forget gates", "export the model without it")


def _constants(walk: Walk, node: ir.Node) -> tuple[Array, Array, Array]:
    """Weights, recurrence (D, gates * H, …) and biases (D, 2, gates * H)."""
    found = []
    for index in (1, 2, 3):
        value = given(node, index)
        known = None if value is None else walk.constant(value)
        if value is not None and known is None:
            walk.refuse(node, f"its weights {value.name!r} are computed at run time", "make them constant")
        found.append(known)
    weight, recurrence_, bias = found
    if weight is None or recurrence_ is None:
        walk.refuse(node, "it has no weights", "repair the export")
    directions, gates = weight.shape[:2]
    split = np.zeros((directions, 2, gates), np.float32) if bias is None else bias.reshape(directions, 2, gates)
    return weight, recurrence_, np.ascontiguousarray(split)


def _initial(walk: Walk, node: ir.Node, index: int, by_batch: bool) -> tuple[Tensor | None, ...]:
    """First states of one direction; None for zeros."""
    found: list[Tensor | None] = []
    for place in (5, 6) if node.op_type == "LSTM" else (5,):
        value = given(node, place)
        known = None if value is None else walk.constant(value)
        if value is None or (known is not None and not known.any()):
            found.append(None)
            continue
        axis: Literal[0, 1] = 1 if by_batch else 0
        placed = walk.place(value)
        batch, hidden = placed.shape[1 - axis], placed.shape[2]
        y = walk.fresh(f"{value.name}.{index}", (batch, hidden))
        part = Part(
            x=placed.tensor,
            extents=y.shape,
            x_strides=(placed.strides[1 - axis], placed.strides[2]),
            y_strides=y.strides,
            x_start=index * placed.strides[axis],
        )
        walk.emit(Move(y=y, parts=(part,), origin=walk.origin))
        found.append(y)
    return tuple(found)


def _give_steps(walk: Walk, node: ir.Node, made: list[Tensor | None], by_batch: bool) -> None:
    """(T, D, N, H), or (N, T, D, H), in the memory order T, N, D, H."""
    found = [tensor for tensor in made if tensor is not None]
    if not found:
        return
    order: Order = (1, 0, 2, 3) if by_batch else (0, 2, 1, 3)
    _give_joined(walk, node.outputs[0], found, order)


def _give_last(walk: Walk, value: ir.Value, made: list[Tensor | None], by_batch: bool) -> None:
    """(D, N, H), or (N, D, H), in the memory order N, D, H."""
    found = [tensor for tensor in made if tensor is not None]
    if found:
        _give_joined(walk, value, found, (0, 1, 2) if by_batch else (1, 0, 2))


def _give_joined(walk: Walk, value: ir.Value, made: list[Tensor], order: Order) -> None:
    """Directions side by side; a single one as it is."""
    *lead, hidden = made[0].shape
    y = walk.fresh(value.name or "", (*lead, len(made), hidden))
    if len(made) == 1:
        walk.emit(Alias(x=made[0], y=y, origin=walk.origin))
    else:
        walk.emit(
            Move(y=y, parts=tuple(_beside(each, y, index) for index, each in enumerate(made)), origin=walk.origin)
        )
    walk.give(value, y, order)


def _beside(x: Tensor, y: Tensor, index: int) -> Part:
    strides = (*y.strides[:-2], y.strides[-1])
    return Part(x=x, extents=x.shape, x_strides=x.strides, y_strides=strides, y_start=index * y.strides[-2])


TABLE: Mapping[str, Callable[[Walk, ir.Node], None]] = {"LSTM": recurrence, "GRU": recurrence}
