"""Pools against float64 and exact integers, on every kind of vector, by every tile."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewright.compiler.lower.native.expression import Accumulator, Row, Scalar, call
from edgewright.compiler.lower.native.kernels import pool
from edgewright.compiler.lower.native.machine import Machine, machine_for
from edgewright.compiler.lower.native.net import NUMPY, Array, Border, Dtype, Epilogue, Pool
from tests.compiler.native.every_tile import run_tiles
from tests.compiler.native.pictures import UNSHRUNK, Geometry, borders, epilogue, finished, geometries, windows
from tests.compiler.native.single_layer import HERE, PLAIN, with_border

AVX2 = machine_for("x86_64", frozenset({"avx", "avx2", "fma", "f16c"}))
MACHINES = [pytest.param(machine, id=machine.name) for machine in (HERE, AVX2, PLAIN)]
ZERO_POINT = 3


@dataclass(frozen=True)
class Case:
    """A layer, its arrays and what it gives."""

    layer: Pool
    arrays: dict[str, Array]
    expected: Array


GLOBAL = st.builds(
    Geometry,
    batch=st.integers(1, 2),
    out=st.just((1, 1)),
    window=st.tuples(st.integers(7, 12), st.integers(6, 19)),
    strides=st.just((1, 1)),
    dilations=st.just((1, 1)),
    channels=st.sampled_from((3, 16, 37)),
    padding=st.just(Border()),
    spare=st.just((0, 0)),
)


@st.composite
def floats(draw: st.DrawFn) -> Case:
    geometry = draw(geometries() | GLOBAL)
    kind: Literal["max", "mean"] = draw(st.sampled_from(("max", "mean")))
    ends = draw(st.sampled_from(("none", "relu6", "residual")))
    y = geometry.y(geometry.channels, draw(borders()))
    layer = Pool(
        kind=kind,
        x=geometry.x(-np.inf if kind == "max" else 0.0),
        y=y,
        window=geometry.window,
        strides=geometry.strides,
        dilations=geometry.dilations,
        top=geometry.padding.top,
        left=geometry.padding.left,
        count_border=draw(st.booleans()),
        epilogue=epilogue(y, ends, draw(borders()), 1),
    )
    random = np.random.default_rng(draw(st.integers(0, 9)))
    arrays = {tensor.name: random.normal(size=tensor.shape).astype(np.float32) for tensor in layer.inputs}
    return Case(layer, arrays, finished(reduced(layer, arrays["x"]), layer.epilogue, ends, arrays.get("r")))


def reduced(layer: Pool, x: Array) -> Array:
    """Maxima or means in float64; elements outside x count where the layer says so."""
    found = windows(layer, with_border(layer.x, x).astype(np.float64))
    if layer.kind == "max":
        return np.asarray(found.max(axis=(3, 4)))
    inside = windows(layer, with_border(replace(layer.x, border=replace(layer.x.border, value=0.0)), np.ones_like(x)))
    divisor = found.shape[3] * found.shape[4] if layer.count_border else inside.sum(axis=(3, 4))
    return np.asarray(found.sum(axis=(3, 4)) / divisor)


@pytest.mark.parametrize("machine", MACHINES)
@settings(max_examples=5, deadline=None, phases=UNSHRUNK)
@given(st.lists(floats(), min_size=3, max_size=3))
def test_floats_meet_float64_and_tiles_agree_bit_by_bit(machine: Machine, drawn: list[Case]) -> None:
    listed = [pool.FAMILY.tiles(each.layer, machine) for each in drawn]
    cases = [
        (each.layer, each.arrays, tiles[:: len(tiles)] + tiles[-1:]) for each, tiles in zip(drawn, listed, strict=True)
    ]
    for each, found in zip(drawn, run_tiles(cases, machine), strict=True):
        assert np.abs(found[0] - each.expected).max() <= 2e-6 * np.abs(each.expected).max() + 1e-30
        for other in found[1:]:
            np.testing.assert_array_equal(found[0], other)


@pytest.mark.parametrize("window", [(3, 3), (9, 11)])
def test_means_divide_by_the_part_of_a_window_that_lies_inside(window: tuple[int, int]) -> None:
    geometry = Geometry(1, (5, 4), window, (1, 2), (1, 1), 20, Border(1, 1, 1, 1), (0, 0))
    layer = Pool(
        kind="mean", x=geometry.x(), y=geometry.y(20, Border()), window=window, strides=(1, 2), top=1, left=1,
        count_border=False,
    )  # fmt: skip
    x = np.random.default_rng(0).normal(size=layer.x.shape).astype(np.float32)
    found = run_tiles([(layer, {"x": x}, pool.FAMILY.tiles(layer, HERE)[:1])], HERE)[0][0]
    expected = reduced(layer, x)
    assert np.abs(found - expected).max() <= 2e-6 * np.abs(expected).max()


@st.composite
def integers(draw: st.DrawFn) -> Case:
    geometry = draw(geometries() | GLOBAL)
    kind: Literal["max", "mean"] = draw(st.sampled_from(("max", "mean")))
    dtype: Dtype = draw(st.sampled_from(("u8", "s8")))
    lowest = np.iinfo(NUMPY[dtype]).min
    taps = geometry.window[0] * geometry.window[1]
    offset = 100 if dtype == "u8" else 0
    layer = Pool(
        kind=kind,
        x=replace(geometry.x(lowest if kind == "max" else ZERO_POINT), dtype=dtype),
        y=replace(geometry.y(geometry.channels, Border()), dtype=dtype),
        window=geometry.window,
        strides=geometry.strides,
        dilations=geometry.dilations,
        top=geometry.padding.top,
        left=geometry.padding.left,
        x_zero_point=ZERO_POINT,
        epilogue=requantized(taps, offset) if kind == "mean" else Epilogue(Accumulator("s32")),
    )
    random = np.random.default_rng(draw(st.integers(0, 9)))
    low, high = (0, 100) if dtype == "u8" else (-100, 100)
    x = random.integers(low, high, layer.x.shape).astype(NUMPY[dtype])
    return Case(layer, {"x": x}, exactly(layer, x, taps, offset))


def requantized(taps: int, offset: int) -> Epilogue:
    """Half of the mean, and an offset."""
    scaled = call("mul", call("to_f32", Accumulator("s32")), Row(0))
    value = call("iadd", call("to_s32_even", scaled), Scalar(offset, "s32"))
    return Epilogue(value, (np.full(64, 0.5 / taps, np.float32),))


def exactly(layer: Pool, x: Array, taps: int, offset: int) -> Array:
    """The same in int32 and float32."""
    found = windows(layer, with_border(layer.x, x).astype(np.int32))
    if layer.kind == "max":
        return np.asarray(found.max(axis=(3, 4)))
    sums = (found - layer.x_zero_point).sum(axis=(3, 4)).astype(np.float32)
    return np.asarray(np.rint(sums * np.float32(0.5 / taps)) + offset)


@pytest.mark.parametrize("machine", MACHINES)
@settings(max_examples=5, deadline=None, phases=UNSHRUNK)
@given(st.lists(integers(), min_size=3, max_size=3))
def test_integers_are_exact(machine: Machine, drawn: list[Case]) -> None:
    cases = [(each.layer, each.arrays, pool.FAMILY.tiles(each.layer, machine)[:1]) for each in drawn]
    for each, found in zip(drawn, run_tiles(cases, machine), strict=True):
        np.testing.assert_array_equal(found[0], each.expected)


@pytest.mark.parametrize("machine", MACHINES)
def test_means_of_floats_can_end_in_bytes(machine: Machine) -> None:
    """As fusion leaves the mean that quantized nets sum in float."""
    geometry = Geometry(2, (4, 4), (2, 2), (2, 2), (1, 1), 3, Border(), (1, 0))
    half = call("to_s32_even", call("mul", Accumulator(), Scalar(0.5)))
    layer = Pool(
        kind="mean", x=geometry.x(), y=replace(geometry.y(3, Border()), dtype="s8"), window=(2, 2), strides=(2, 2),
        epilogue=Epilogue(half),
    )  # fmt: skip
    x = np.random.default_rng(0).integers(-90, 90, layer.x.shape).astype(np.float32)
    found = run_tiles([(layer, {"x": x}, pool.FAMILY.tiles(layer, machine)[:1])], machine)[0][0]
    np.testing.assert_array_equal(found, np.rint(0.5 * reduced(layer, x)))


def test_integer_means_that_divide_by_place_are_not_taken() -> None:
    geometry = Geometry(1, (4, 4), (3, 3), (1, 1), (1, 1), 8, Border(1, 1, 1, 1), (0, 0))
    layer = Pool(
        kind="mean", x=replace(geometry.x(), dtype="u8"), y=replace(geometry.y(8, Border()), dtype="u8"),
        window=(3, 3), top=1, left=1, count_border=False,
    )  # fmt: skip
    assert pool.FAMILY.tiles(layer, HERE) == ()
    assert pool.FAMILY.tiles(replace(layer, count_border=True), HERE)
