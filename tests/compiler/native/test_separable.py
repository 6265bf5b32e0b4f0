"""Depthwise and pointwise in one kernel give the bits of the two kernels one after the other."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewright.compiler.lower.native.fusion.separable import fuse_separable
from edgewright.compiler.lower.native.kernels import separable
from edgewright.compiler.lower.native.kernels.families import tiles_of
from edgewright.compiler.lower.native.machine import Machine, machine_for
from edgewright.compiler.lower.native.net import Array, Border, Convolution, Dense, Layer, Net, Separable, Tensor
from tests.compiler.native.every_tile import run_tiles
from tests.compiler.native.pictures import UNSHRUNK, borders, epilogue, finished, geometries, windows
from tests.compiler.native.single_layer import HERE, PLAIN, with_border

AVX2 = machine_for("x86_64", frozenset({"avx", "avx2", "fma", "f16c"}))
MACHINES = [pytest.param(machine, id=machine.name) for machine in (HERE, AVX2, PLAIN)]


@dataclass(frozen=True)
class Case:
    """A pair, its arrays and what it gives."""

    layer: Separable
    arrays: dict[str, Array]
    expected: Array


@st.composite
def cases(draw: st.DrawFn) -> Case:
    geometry = draw(geometries())
    random = np.random.default_rng(draw(st.integers(0, 9)))
    between = geometry.y(geometry.channels, Border())
    kinds = draw(st.tuples(st.sampled_from(("none", "relu6")), st.sampled_from(("none", "relu6", "residual"))))
    upper = Convolution(
        x=geometry.x(),
        y=replace(between, name="between"),
        weight=random.normal(size=(geometry.channels, *geometry.window, 1)).astype(np.float32),
        strides=geometry.strides,
        dilations=geometry.dilations,
        top=geometry.padding.top,
        left=geometry.padding.left,
        groups=geometry.channels,
        epilogue=epilogue(between, kinds[0], Border(), 1),
    )
    y = geometry.y(draw(st.sampled_from((1, 5, 16, 40, 72))), draw(borders()))
    lower = Dense(
        x=upper.y,
        y=y,
        weight=random.normal(size=(y.shape[-1], geometry.channels)).astype(np.float32),
        epilogue=epilogue(y, kinds[1], draw(borders()), 2),
    )
    layer = Separable(depthwise=upper, pointwise=lower)
    arrays = {tensor.name: random.normal(size=tensor.shape).astype(np.float32) for tensor in layer.inputs}
    return Case(layer, arrays, reference(layer, arrays, kinds))


def reference(layer: Separable, arrays: dict[str, Array], kinds: tuple[str, str]) -> Array:
    """In float64."""
    x = with_border(layer.depthwise.x, arrays["x"]).astype(np.float64)
    taps = layer.depthwise.weight[..., 0].transpose(1, 2, 0).astype(np.float64)
    between = finished((windows(layer.depthwise, x) * taps).sum(axis=(3, 4)), layer.depthwise.epilogue, kinds[0], None)
    sums = between @ layer.pointwise.weight.T.astype(np.float64)
    return finished(sums, layer.pointwise.epilogue, kinds[1], arrays.get("r"))


@pytest.mark.parametrize("machine", MACHINES)
@settings(max_examples=3, deadline=None, phases=UNSHRUNK)
@given(cases())
def test_pairs_meet_float64_and_the_bits_of_two_kernels(machine: Machine, drawn: Case) -> None:
    small = replace(machine, l1_bytes=512, l2_bytes=4096)  # small maps then have bands, and a last one that is smaller
    tiles = separable.FAMILY.tiles(drawn.layer, small)
    fused = run_tiles([(drawn.layer, drawn.arrays, tiles[::2])], small)[0]
    assert np.abs(fused[0] - drawn.expected).max() <= 2e-6 * np.abs(drawn.expected).max() + 1e-30
    for other in fused[1:]:
        np.testing.assert_array_equal(fused[0], other)
    upper, lower = drawn.layer.depthwise, drawn.layer.pointwise
    between = run_tiles([(upper, drawn.arrays, tiles_of(upper, machine)[:1])], machine)[0][0]
    arrays = {**drawn.arrays, upper.y.name: between}
    np.testing.assert_array_equal(fused[0], run_tiles([(lower, arrays, tiles_of(lower, machine)[:1])], machine)[0][0])


def pair(side: int, channels: int) -> tuple[Convolution, Dense]:
    """3 x 3 over a square picture, then 24 channels."""
    upper = Convolution(
        x=Tensor("x", (1, side, side, channels), "f32", Border(1, 1, 1, 1)), y=Tensor("m", (1, side, side, channels)),
        weight=np.zeros((channels, 3, 3, 1), np.float32), top=1, left=1, groups=channels,
    )  # fmt: skip
    y = Tensor("y", (1, side, side, 24))
    return upper, Dense(x=upper.y, y=y, weight=np.zeros((24, channels), np.float32))


def test_pairs_with_a_large_middle_become_one_layer() -> None:
    upper, lower = pair(56, 144)
    fused = fuse_separable(Net((upper.x,), (lower.y,), (upper, lower)), HERE)
    assert [type(layer) for layer in fused.layers] == [Separable]


@pytest.mark.parametrize("reason", ["small", "seen", "read twice", "bordered"])
def test_other_pairs_stay_two_layers(reason: str) -> None:
    upper, lower = pair(14 if reason == "small" else 56, 144)
    outputs: tuple[Tensor, ...] = (lower.y,)
    layers: tuple[Layer, ...] = (upper, lower)
    if reason == "seen":
        outputs = (lower.y, upper.y)
    if reason == "read twice":
        layers = (upper, lower, replace(lower, y=replace(lower.y, name="z")))
    if reason == "bordered":
        y = replace(upper.y, border=Border(1, 1, 1, 1))
        layers = (replace(upper, y=y), replace(lower, x=y))
    net = Net((upper.x,), outputs, layers)
    assert fuse_separable(net, HERE).layers == layers


def test_bands_fit_the_caches() -> None:
    upper, lower = pair(56, 144)
    found = separable.FAMILY.tiles(Separable(depthwise=upper, pointwise=lower), HERE)
    assert 1 <= len(found) <= 8
    assert found[0]["rows"] * 56 * 144 * 4 <= HERE.l2_bytes // 4
    assert found[-1]["rows"] == 56, "one after the other"
