"""Softmax, normalization, gathering, resizing and recurrent layers, in numpy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .evaluate import evaluated
from .expression import Accumulator, call
from .net import Array, Gather, Normalize, Recurrent, Resize, Softmax


def softmaxed(layer: Softmax, x: Array) -> Array:
    """Along the last axis."""
    moved = x - x.max(-1, keepdims=True)
    total = np.exp(moved).sum(-1, keepdims=True)
    return np.asarray(moved - np.log(total) if layer.logarithm else np.exp(moved) / total)


def normalized(layer: Normalize, x: Array) -> Array:
    """Along the last axes."""
    axes = tuple(range(x.ndim - layer.axes, x.ndim))
    shape = x.shape[x.ndim - layer.axes :]
    moved = x - x.mean(axes, keepdims=True) if layer.centred else x
    found = moved / np.sqrt((moved * moved).mean(axes, keepdims=True) + layer.epsilon)
    found = found if layer.scale is None else found * layer.scale.reshape(shape)
    return np.asarray(found if layer.shift is None else found + layer.shift.reshape(shape))


def gathered(layer: Gather, x: Array, indices: Array) -> Array:
    """Rows of x, negative indices from the end, all held to the rows that there are."""
    chosen = np.where(indices < 0, indices + layer.rows, indices).reshape(-1).clip(0, layer.rows - 1)
    rows = np.asarray(x).reshape(layer.outer, layer.rows, layer.inner)
    return rows[:, chosen].reshape(layer.y.shape)


def resized(layer: Resize, x: Array) -> Array:
    """Rows first, then columns."""
    rows = [(1 - share) * x[:, a] + share * x[:, b] for a, b, share in layer.rows]
    tall = np.stack(rows, 1)
    columns = [(1 - share) * tall[:, :, a] + share * tall[:, :, b] for a, b, share in layer.columns]
    return np.stack(columns, 2)


def recurrent(layer: Recurrent, x: Array, initial: Sequence[Array | None]) -> tuple[Array, tuple[Array, ...]]:
    """Every step's hidden state (T, N, H), and the last states."""
    steps, batch, _ = x.shape
    hidden = layer.recurrence.shape[1]
    count = 2 if layer.kind == "lstm" else 1
    states = [np.zeros((batch, hidden)) for _ in range(count)]
    for index, state in enumerate(initial):
        if state is not None:
            states[index] = np.asarray(state)
    found = np.zeros((steps, batch, hidden))
    for step in reversed(range(steps)) if layer.reverse else range(steps):
        states = _lstm(layer, x[step], states) if layer.kind == "lstm" else _gru(layer, x[step], states)
        found[step] = states[0]
    return found, tuple(states)


def _lstm(layer: Recurrent, x: Array, states: list[Array]) -> list[Array]:
    hidden, cell = states
    gates = x @ layer.weight.T + hidden @ layer.recurrence.T + layer.bias.astype(np.float64).sum(0)
    entry, exit_, forget, new = np.split(gates, 4, axis=-1)
    cell = _sigmoid(forget) * cell + _sigmoid(entry) * np.tanh(new)
    return [_sigmoid(exit_) * np.tanh(cell), cell]


def _gru(layer: Recurrent, x: Array, states: list[Array]) -> list[Array]:
    hidden = states[0]
    size = hidden.shape[-1]
    given = x @ layer.weight.T + layer.bias[0]
    kept = hidden @ layer.recurrence[: 2 * size].T + layer.bias[1, : 2 * size]
    update = _sigmoid(given[:, :size] + kept[:, :size])
    reset = _sigmoid(given[:, size : 2 * size] + kept[:, size:])
    last, shift = layer.recurrence[2 * size :].T, layer.bias[1, 2 * size :]
    if layer.linear_before_reset:
        new = np.tanh(given[:, 2 * size :] + reset * (hidden @ last + shift))
    else:
        new = np.tanh(given[:, 2 * size :] + (reset * hidden) @ last + shift)
    return [(1 - update) * new + update * hidden]


def _sigmoid(x: Array) -> Array:
    return evaluated(call("sigmoid", Accumulator()), lambda _: x)
