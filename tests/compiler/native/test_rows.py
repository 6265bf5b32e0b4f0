"""Softmax and norms of random shapes against float64, the same bits from every width."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from edgewright.compiler.lower.native.machine import Machine
from edgewright.compiler.lower.native.net import NO_BORDER, Array, Border, Normalize, Softmax, Tensor
from tests.compiler.native.several_layers import AVX2, MACHINES, run_layers, same_bits
from tests.compiler.native.single_layer import HERE

NO_SHRINKING = (Phase.explicit, Phase.generate)
"""Every try is a call of the compiler."""
LENGTHS = st.sampled_from((1, 2, 3, 7, 10, 12, 16, 17, 31, 64, 100, 128, 257))
Case = tuple[Softmax | Normalize, Array, Array]


@st.composite
def cases(draw: st.DrawFn, number: int) -> Case:
    """A layer, its input, and the truth."""
    rank = draw(st.integers(1, 4))
    shape = (*(draw(st.integers(1, 4)) for _ in range(rank - 1)), draw(LENGTHS))
    borders = st.sampled_from((NO_BORDER, Border(1, 0, 2, 1))) if rank == 4 else st.just(NO_BORDER)
    x, y = Tensor(f"x{number}", shape, "f32", draw(borders)), Tensor(f"y{number}", shape, "f32", draw(borders))
    random = np.random.default_rng(draw(st.integers(0, 99)))
    array = (random.normal(size=shape) * draw(st.sampled_from((0.1, 1, 30))) + draw(st.sampled_from((0, 5)))).astype(
        np.float32
    )
    if draw(st.booleans()):
        logarithm = draw(st.booleans())
        return Softmax(x=x, y=y, logarithm=logarithm), array, _softmax(array.astype(np.float64), logarithm)
    axes = 1 if x.border or y.border else draw(st.integers(1, rank))
    wide = np.prod(shape[-axes:], dtype=int)
    scale, shift = (random.normal(size=wide).astype(np.float32) if draw(st.booleans()) else None for _ in range(2))
    layer = Normalize(x=x, y=y, axes=axes, epsilon=1e-3, scale=scale, shift=shift, centred=draw(st.booleans()))
    return layer, array, _norm(layer, array.astype(np.float64))


def _softmax(x: Array, logarithm: bool) -> Array:
    below = x - x.max(-1, keepdims=True)
    total = np.exp(below).sum(-1, keepdims=True)
    return np.asarray(below - np.log(total) if logarithm else np.exp(below) / total)


def _norm(layer: Normalize, x: Array) -> Array:
    axes = tuple(range(-layer.axes, 0))
    off = x - x.mean(axes, keepdims=True) if layer.centred else x
    y = off / np.sqrt((off**2).mean(axes, keepdims=True) + layer.epsilon)
    row = x.shape[-layer.axes :]
    y = y if layer.scale is None else y * layer.scale.reshape(row)
    return np.asarray(y if layer.shift is None else y + layer.shift.reshape(row))


def _run(found: list[Case], machine: Machine) -> dict[str, Array]:
    return run_layers([layer for layer, _, _ in found], {layer.x.name: array for layer, array, _ in found}, machine)


@settings(max_examples=5, deadline=None, phases=NO_SHRINKING)
@given(st.data())
def test_random_rows(data: st.DataObject) -> None:
    found = [data.draw(cases(number)) for number in range(12)]
    results = {machine.name: _run(found, machine) for machine in MACHINES}
    for layer, _, truth in found:
        for machine in MACHINES:
            error = np.abs(results[machine.name][layer.y.name] - truth).max()
            assert error <= 2e-6 * max(np.abs(truth).max(), 1e-6), (layer, machine.name)
        if AVX2 in MACHINES:
            first, second = (results[machine.name][layer.y.name] for machine in (HERE, AVX2))
            assert same_bits(np.ascontiguousarray(first), np.ascontiguousarray(second)), layer


@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.name)
def test_huge_and_missing_values(machine: Machine) -> None:
    """Masked attention: -inf takes no part; large numbers do not overflow; a NaN shows in its row alone."""
    x, y = Tensor("x", (4, 11)), Tensor("y", (4, 11))
    array = np.zeros((4, 11), np.float32)
    array[0, 3:] = -np.inf
    array[1] = 3e38
    array[2, 5] = np.nan
    found = run_layers([Softmax(x=x, y=y)], {"x": array}, machine)["y"]
    assert np.allclose(found[0], [1 / 3] * 3 + [0] * 8)
    assert np.allclose(found[1], 1 / 11)
    assert np.isnan(found[2]).all()
    assert np.allclose(found[3], 1 / 11)
