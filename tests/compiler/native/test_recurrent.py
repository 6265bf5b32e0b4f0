"""LSTM and GRU over fifty steps against float64."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from edgewright.compiler.lower.native.net import Array, Recurrent, Tensor
from tests.compiler.native.several_layers import AVX2, MACHINES, run_layers, same_bits
from tests.compiler.native.single_layer import HERE

NO_SHRINKING = (Phase.explicit, Phase.generate)
"""Every try is a call of the compiler."""
Case = tuple[Recurrent, dict[str, Array], dict[str, Array]]


@st.composite
def cases(draw: st.DrawFn, number: int) -> Case:
    """A layer with any of its options, its inputs, and the truth of every output by name."""
    lstm = draw(st.booleans())
    gates, states = (4, 2) if lstm else (3, 1)
    steps, batch, depth = draw(st.sampled_from((1, 7, 50))), draw(st.integers(1, 3)), draw(st.sampled_from((1, 5, 40)))
    hidden = draw(st.sampled_from((1, 3, 16, 33, 64)))
    random = np.random.default_rng(draw(st.integers(0, 99)))

    def some(*shape: int, spread: float = 1.0) -> Array:
        return (random.normal(size=shape) * spread).astype(np.float32)

    x = Tensor(f"x{number}", (steps, batch, depth))
    arrays = {x.name: some(*x.shape)}
    initial: list[Tensor | None] = []
    for state in range(states):
        tensor = Tensor(f"s{state}_{number}", (batch, hidden)) if draw(st.booleans()) else None
        initial.append(tensor)
        if tensor:
            arrays[tensor.name] = some(batch, hidden)
    layer = Recurrent(
        kind="lstm" if lstm else "gru",
        x=x,
        y=Tensor(f"y{number}", (steps, batch, hidden)) if draw(st.booleans()) else None,
        last=(Tensor(f"h{number}", (batch, hidden)), *((Tensor(f"c{number}", (batch, hidden)),) if lstm else ())),
        weight=some(gates * hidden, depth, spread=depth**-0.5),
        recurrence=some(gates * hidden, hidden, spread=hidden**-0.5),
        bias=some(2, gates * hidden, spread=0.3),
        initial=tuple(initial) if draw(st.booleans()) or any(initial) else (),
        reverse=draw(st.booleans()),
        linear_before_reset=draw(st.booleans()),
    )
    return layer, arrays, _truth(layer, arrays)


def _sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def _truth(layer: Recurrent, arrays: dict[str, Array]) -> dict[str, Array]:
    x = arrays[layer.x.name].astype(np.float64)
    states = [np.zeros((x.shape[1], layer.recurrence.shape[1])) for _ in range(2)]
    for index, tensor in enumerate(layer.initial):
        if tensor is not None:
            states[index] = arrays[tensor.name].astype(np.float64)
    y = np.zeros((*x.shape[:2], layer.recurrence.shape[1]))
    step: Callable[[Recurrent, Array, Array, Array], tuple[Array, Array]] = _lstm if layer.kind == "lstm" else _gru
    for t in reversed(range(len(x))) if layer.reverse else range(len(x)):
        states = list(step(layer, x[t], states[0], states[1]))
        y[t] = states[0]
    found = {tensor.name: state for tensor, state in zip(layer.last, states, strict=False) if tensor}
    return found if layer.y is None else {**found, layer.y.name: y}


def _lstm(layer: Recurrent, x: Array, h: Array, c: Array) -> tuple[Array, Array]:
    sums = (
        x @ layer.weight.T.astype(np.float64)
        + h @ layer.recurrence.T.astype(np.float64)
        + layer.bias.sum(0, np.float64)
    )
    i, o, f, g = np.split(sums, 4, -1)
    c = _sigmoid(f) * c + _sigmoid(i) * np.tanh(g)
    return _sigmoid(o) * np.tanh(c), c


def _gru(layer: Recurrent, x: Array, h: Array, c: Array) -> tuple[Array, Array]:
    bias = layer.bias.astype(np.float64)
    xz, xr, xh = np.split(x @ layer.weight.T.astype(np.float64) + bias[0], 3, -1)
    wz, wr, wh = np.split(layer.recurrence.T.astype(np.float64), 3, -1)
    bz, br, bh = np.split(bias[1], 3)
    z, r = _sigmoid(xz + h @ wz + bz), _sigmoid(xr + h @ wr + br)
    new = np.tanh(xh + (r * (h @ wh + bh) if layer.linear_before_reset else (r * h) @ wh + bh))
    return (1 - z) * new + z * h, c


@settings(max_examples=4, deadline=None, phases=NO_SHRINKING)
@given(st.data())
def test_random_layers(data: st.DataObject) -> None:
    found = [data.draw(cases(number)) for number in range(6)]
    arrays = {name: array for _, held, _ in found for name, array in held.items()}
    results = {machine.name: run_layers([layer for layer, _, _ in found], arrays, machine) for machine in MACHINES}
    for layer, _, truths in found:
        for name, truth in truths.items():
            for machine in MACHINES:
                error = np.abs(results[machine.name][name] - truth).max()
                assert error <= 2e-6 * np.abs(truth).max(), (layer, machine.name, error)
            if AVX2 in MACHINES:
                assert same_bits(results[HERE.name][name], results[AVX2.name][name]), layer
