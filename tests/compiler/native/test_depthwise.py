"""Depthwise kernels against float64, on every kind of vector, by every tile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewright.compiler.lower.native.fusion.separable import fuse_separable
from edgewright.compiler.lower.native.kernel import Tile
from edgewright.compiler.lower.native.kernels import depthwise
from edgewright.compiler.lower.native.kernels.families import tiles_of
from edgewright.compiler.lower.native.machine import Machine, machine_for
from edgewright.compiler.lower.native.net import Array, Border, Convolution, Dense, Net, Tensor
from tests.compiler.native.every_tile import run_tiles
from tests.compiler.native.pictures import UNSHRUNK, Geometry, borders, epilogue, finished, geometries, windows
from tests.compiler.native.single_layer import HERE, PLAIN, with_border

AVX2 = machine_for("x86_64", frozenset({"avx", "avx2", "fma", "f16c"}))
MACHINES = [pytest.param(machine, id=machine.name) for machine in (HERE, AVX2, PLAIN)]


@dataclass(frozen=True)
class Case:
    """A layer, its arrays and what it gives."""

    layer: Convolution
    arrays: dict[str, Array]
    expected: Array

    def tiles(self, machine: Machine, count: int) -> Sequence[Tile]:
        """Some tiles, far apart in the list."""
        found = depthwise.FAMILY.tiles(self.layer, machine)
        return found[:: max(1, len(found) // count)]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    return case(
        draw(geometries()),
        draw(st.sampled_from((1, 1, 1, 2, 3, 8))),
        draw(st.sampled_from(("none", "relu6", "residual"))),
        draw(borders()),
        draw(borders()),
        draw(st.integers(0, 9)),
    )


def case(geometry: Geometry, multiplier: int, kind: str, y_border: Border, beside_border: Border, seed: int) -> Case:
    random = np.random.default_rng(seed)
    y = geometry.y(geometry.channels * multiplier, y_border)
    layer = Convolution(
        x=geometry.x(),
        y=y,
        weight=random.normal(size=(y.shape[-1], *geometry.window, 1)).astype(np.float32),
        strides=geometry.strides,
        dilations=geometry.dilations,
        top=geometry.padding.top,
        left=geometry.padding.left,
        groups=geometry.channels,
        epilogue=epilogue(y, kind, beside_border, seed),
    )
    arrays = {tensor.name: random.normal(size=tensor.shape).astype(np.float32) for tensor in layer.inputs}
    return Case(layer, arrays, reference(layer, arrays, kind))


def same_size(out: tuple[int, int], window: tuple[int, int], channels: int) -> Convolution:
    """A layer whose output is as large as its input."""
    top, left = window[0] // 2, window[1] // 2
    geometry = Geometry(1, out, window, (1, 1), (1, 1), channels, Border(top, left, top, left), (0, 0))
    return case(geometry, 1, "relu6", Border(), Border(), 0).layer


def reference(layer: Convolution, arrays: dict[str, Array], kind: str) -> Array:
    """In float64."""
    x = with_border(layer.x, arrays["x"]).astype(np.float64)
    multiplier = layer.weight.shape[0] // layer.groups
    taps = layer.weight[..., 0].transpose(1, 2, 0).astype(np.float64)
    sums = (np.repeat(windows(layer, x), multiplier, axis=-1) * taps).sum(axis=(3, 4))
    return finished(sums, layer.epilogue, kind, arrays.get("r"))


@pytest.mark.parametrize("machine", MACHINES)
@settings(max_examples=5, deadline=None, phases=UNSHRUNK)
@given(st.lists(cases(), min_size=2, max_size=2))
def test_random_shapes_meet_float64_and_tiles_agree_bit_by_bit(machine: Machine, drawn: list[Case]) -> None:
    results = run_tiles([(each.layer, each.arrays, each.tiles(machine, 2)[:2]) for each in drawn], machine)
    for each, found in zip(drawn, results, strict=True):
        assert np.abs(found[0] - each.expected).max() <= 2e-6 * np.abs(each.expected).max() + 1e-30
        for other in found[1:]:
            np.testing.assert_array_equal(found[0], other)


@pytest.mark.parametrize("machine", MACHINES)
def test_windows_that_no_block_of_registers_holds_are_computed(machine: Machine) -> None:
    """Wide ones one output at a time, the largest by the loops of ordinary convolutions."""
    sizes = ((2, 41), (21, 20))
    drawn = [
        case(Geometry(1, (2, 3), window, (1, 2), (1, 1), 5, Border(1, 2, 1, 2), (0, 0)), 1, kind, Border(), Border(), 0)
        for window, kind in zip(sizes, ("relu6", "residual"), strict=True)
    ]
    listed = [tiles_of(each.layer, machine) for each in drawn]
    assert [tiles[0].family for tiles in listed] == ["depthwise", "direct"]
    cases = [(each.layer, each.arrays, tiles[:1]) for each, tiles in zip(drawn, listed, strict=True)]
    for each, found in zip(drawn, run_tiles(cases, machine), strict=True):
        assert np.abs(found[0] - each.expected).max() <= 2e-6 * np.abs(each.expected).max()


def test_pairs_with_such_a_window_stay_two_layers() -> None:
    upper = same_size((8, 8), (21, 20), 5)
    weight = np.ones((3, 5), np.float32)
    lower = Dense(x=upper.y, y=Tensor("z", (*upper.y.shape[:3], 3)), weight=weight)
    tiny = replace(HERE, l2_bytes=64)
    assert len(fuse_separable(Net((upper.x,), (lower.y,), (upper, lower)), tiny).layers) == 2
    upper = same_size((8, 8), (3, 3), 5)
    assert len(fuse_separable(Net((upper.x,), (lower.y,), (upper, lower)), tiny).layers) == 1


def test_machines_with_fma_give_the_same_bits() -> None:
    layer = same_size((7, 6), (5, 5), 44)
    arrays = {"x": np.random.default_rng(1).normal(size=layer.x.shape).astype(np.float32)}
    wide, narrow = (
        run_tiles([(layer, arrays, depthwise.FAMILY.tiles(layer, machine)[:1])], machine)[0][0]
        for machine in (HERE, AVX2)
    )
    np.testing.assert_array_equal(wide, narrow)


def test_lists_are_short_and_fit_the_registers() -> None:
    layer = same_size((25, 5), (3, 3), 64)
    for machine in (HERE, AVX2, PLAIN, machine_for("aarch64", frozenset()), machine_for("armv7l", frozenset())):
        found = depthwise.FAMILY.tiles(layer, machine)
        assert 1 <= len(found) <= 8
        assert all(tile["rows"] * tile["columns"] + 9 < machine.registers for tile in found)


def test_other_convolutions_are_left_to_other_families() -> None:
    layer = Convolution(
        x=Tensor("x", (1, 5, 5, 8)), y=Tensor("y", (1, 3, 3, 8)), weight=np.zeros((8, 3, 3, 4), np.float32), groups=2
    )
    assert depthwise.FAMILY.tiles(layer, HERE) == ()
