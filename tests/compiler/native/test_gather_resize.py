"""Gathers and resizes of random shapes against numpy."""

from __future__ import annotations

import numpy as np
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from edgewright.compiler.lower.native.net import NO_BORDER, NUMPY, Array, Border, Dtype, Gather, Resize, Tensor
from tests.compiler.native.several_layers import MACHINES, run_layers

NO_SHRINKING = (Phase.explicit, Phase.generate)
"""Every try is a call of the compiler."""
SIZES = st.sampled_from((1, 2, 3, 5, 8, 17, 40))
Taps = tuple[tuple[int, int, float], ...]


@st.composite
def gathers(draw: st.DrawFn, number: int) -> tuple[Gather, dict[str, Array], Array]:
    """Numbers beyond both ends of the table included."""
    outer, rows, inner = draw(st.integers(1, 3)), draw(SIZES), draw(SIZES)
    dtypes: tuple[Dtype, ...] = ("f32", "u8", "s64")
    numbers: tuple[Dtype, ...] = ("s64", "s32")
    dtype, index_dtype = draw(st.sampled_from(dtypes)), draw(st.sampled_from(numbers))
    random = np.random.default_rng(draw(st.integers(0, 99)))
    table = random.integers(0, 200, (outer, rows, inner)).astype(NUMPY[dtype])
    indices = random.integers(-rows - 3, rows + 3, draw(SIZES)).astype(NUMPY[index_dtype])
    taken = np.clip(np.where(indices < 0, indices + rows, indices), 0, rows - 1)
    x = Tensor(f"x{number}", table.shape, dtype)
    at = Tensor(f"i{number}", indices.shape, index_dtype)
    y = Tensor(f"y{number}", (outer, len(indices), inner), dtype)
    constant = draw(st.booleans())
    layer = Gather(x=table if constant else x, indices=at, y=y, outer=outer, rows=rows, inner=inner)
    return layer, {x.name: table, at.name: indices}, table[:, taken]


@settings(max_examples=3, deadline=None, phases=NO_SHRINKING)
@given(st.data())
def test_random_gathers(data: st.DataObject) -> None:
    found = [data.draw(gathers(number)) for number in range(16)]
    arrays = {name: array for _, held, _ in found for name, array in held.items()}
    for machine in MACHINES:
        results = run_layers([layer for layer, _, _ in found], arrays, machine)
        for layer, _, truth in found:
            assert (results[layer.y.name] == truth).all(), (layer, machine.name)


@st.composite
def resizes(draw: st.DrawFn, number: int) -> tuple[Resize, Array, Array]:
    """Any source rows and columns, with weights or without."""
    batch, height, width, channels = draw(st.integers(1, 2)), *(draw(SIZES) for _ in range(3))
    dtypes: tuple[Dtype, ...] = ("f32", "u8", "s8")
    dtype = draw(st.sampled_from(dtypes))
    random = np.random.default_rng(draw(st.integers(0, 99)))
    weighted = draw(st.booleans())
    rows, columns = (_taps(random, draw(SIZES), extent, weighted) for extent in (height, width))
    borders = st.sampled_from((NO_BORDER, Border(1, 0, 2, 1)))
    x = Tensor(f"x{number}", (batch, height, width, channels), dtype, draw(borders))
    y = Tensor(f"y{number}", (batch, len(rows), len(columns), channels), dtype, draw(borders))
    if draw(st.integers(0, 2)) == 0:
        rows = ((0, 0, 0.0),)
        x = Tensor(x.name, (batch, width, channels), dtype)
        y = Tensor(y.name, (batch, len(columns), channels), dtype)
    low = -128 if dtype == "s8" else 0
    array = random.normal(size=x.shape) if dtype == "f32" else random.integers(low, low + 256, x.shape)
    array = array.astype(NUMPY[dtype])
    picture = array.astype(np.float64).reshape(batch, -1, width, channels)
    truth = _mixed(_mixed(picture, columns, 2), rows, 1).reshape(y.shape)
    return Resize(x=x, y=y, rows=rows, columns=columns), array, truth


def _taps(random: np.random.Generator, count: int, extent: int, weighted: bool) -> Taps:
    places = random.integers(0, extent, (count, 2))
    weights = (random.random(count) * weighted).astype(np.float32)
    return tuple((int(a), int(b), float(weight)) for (a, b), weight in zip(places, weights, strict=True))


def _mixed(array: Array, taps: Taps, axis: int) -> Array:
    shape = [-1 if at == axis else 1 for at in range(4)]
    weight = np.array([tap[2] for tap in taps]).reshape(shape)
    first, second = array.take([tap[0] for tap in taps], axis), array.take([tap[1] for tap in taps], axis)
    return first * (1 - weight) + second * weight  # type: ignore[no-any-return]


@settings(max_examples=3, deadline=None, phases=NO_SHRINKING)
@given(st.data())
def test_random_resizes(data: st.DataObject) -> None:
    found = [data.draw(resizes(number)) for number in range(12)]
    for machine in MACHINES:
        results = run_layers(
            [layer for layer, _, _ in found], {f"x{i}": held for i, (_, held, _) in enumerate(found)}, machine
        )
        for layer, _, truth in found:
            error = np.abs(results[layer.y.name] - truth).max()
            assert error <= (2e-6 * np.abs(truth).max() if layer.y.dtype == "f32" else 0.5 + 1e-4), layer
