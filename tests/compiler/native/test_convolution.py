"""Direct and Winograd convolutions against float64, for every block that is offered."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgewright.compiler.lower.native.expression import Accumulator, Beside, Row, Scalar, call
from edgewright.compiler.lower.native.kernel import Kernel, Tile
from edgewright.compiler.lower.native.kernels.direct import FAMILY as DIRECT
from edgewright.compiler.lower.native.kernels.families import kernel_of, tiles_of
from edgewright.compiler.lower.native.kernels.winograd import FAMILY as WINOGRAD
from edgewright.compiler.lower.native.kernels.winograd_scheme import LONGEST, scheme
from edgewright.compiler.lower.native.loaded import Loaded
from edgewright.compiler.lower.native.machine import Machine, machine_for
from edgewright.compiler.lower.native.nest import Loop, Scope
from edgewright.compiler.lower.native.net import Array, Border, Convolution, Epilogue, Net, Tensor
from edgewright.compiler.lower.native.source import make_source
from edgewright.compiler.lower.native.toolchain import build

from .single_layer import HERE, PLAIN, with_border, without_border

AVX2 = machine_for("x86_64", frozenset({"avx", "avx2", "fma", "f16c"}))
BORDERS = st.builds(Border, *([st.integers(0, 2)] * 4))


@st.composite
def convolutions(draw: st.DrawFn, *, plain: bool = False) -> Convolution:
    """A layer whose windows stay in the buffer of x; `plain`: stride 1 and one group, as Winograd takes it."""
    seed = np.random.default_rng(draw(st.integers(0, 2**32)))
    border = draw(BORDERS)
    size = st.integers(1, 5)
    groups = 1 if plain else draw(st.sampled_from((1, 1, 2, 3)))
    kernel = (draw(size), draw(size))
    strides = (1, 1) if plain else (draw(st.integers(1, 3)), draw(st.integers(1, 3)))
    dilations = (1, 1) if plain else (draw(st.integers(1, 2)), draw(st.integers(1, 2)))
    top, left = draw(st.integers(-1, border.top)), draw(st.integers(-1, border.left))
    out = (
        (draw(st.integers(2, 9)), draw(st.integers(2, 9)))
        if plain
        else (draw(st.integers(1, 8)), draw(st.integers(1, 17)))
    )
    spare = (draw(st.integers(0, 1)), draw(st.integers(0, 1)))
    reach = [(out[a] - 1) * strides[a] + (kernel[a] - 1) * dilations[a] + 1 for a in range(2)]
    height = max(1, reach[0] - top - border.bottom) + spare[0]
    width = max(1, reach[1] - left - border.right) + spare[1]
    per_group = draw(st.integers(1, 9 if groups > 1 else 36))
    each = draw(st.integers(2 if groups == per_group * groups else 1, 20 if groups > 1 else 50))
    weight = seed.normal(size=(groups * each, *kernel, per_group)).astype(np.float32)
    batch = draw(st.sampled_from((1, 1, 2)))
    y = Tensor("y", (batch, *out, groups * each), "f32", draw(BORDERS))
    beside = Tensor("beside", y.shape, "f32", draw(BORDERS))
    value = call("max", call("add", call("add", Accumulator(), Row(0)), Beside(0)), Scalar(-0.5))
    return Convolution(
        x=Tensor("x", (batch, height, width, groups * per_group), "f32", border),
        y=y,
        weight=weight,
        strides=strides,
        dilations=dilations,
        top=top,
        left=left,
        groups=groups,
        epilogue=Epilogue(value, (seed.normal(size=groups * each).astype(np.float32),), (beside,)),
    )


def reference(layer: Convolution, x: Array, beside: Array) -> Array:
    """The definition, in float64."""
    channels, high, wide, deep = layer.weight.shape
    height, width = layer.y.shape[1:3]
    buffer = with_border(layer.x, x).astype(np.float64)
    total = np.zeros(layer.y.shape)
    for group in range(layer.groups):
        outputs = slice(group * channels // layer.groups, (group + 1) * channels // layer.groups)
        for i in range(high):
            for j in range(wide):
                row = layer.x.border.top - layer.top + i * layer.dilations[0]
                column = layer.x.border.left - layer.left + j * layer.dilations[1]
                part = buffer[
                    :,
                    row : row + (height - 1) * layer.strides[0] + 1 : layer.strides[0],
                    column : column + (width - 1) * layer.strides[1] + 1 : layer.strides[1],
                    group * deep : (group + 1) * deep,
                ]
                total[..., outputs] += part @ layer.weight[outputs, i, j].astype(np.float64).T
    return np.maximum(total + layer.epilogue.rows[0] + beside, -0.5) if layer.epilogue.rows else total


def run_tiles(layer: Convolution, arrays: dict[str, Array], machine: Machine, tiles: Sequence[Tile]) -> list[Array]:
    """The output of every tile, and the first unit by unit; whatever lies around y must stay as it was."""
    whole = [kernel_of(layer, machine, tile) for tile in tiles]
    return run_kernels(layer, arrays, machine, [*whole, last_unit_first(whole[0])])


def last_unit_first(kernel: Kernel) -> Kernel:
    """A body that covers its units one by one, as threads might."""
    turn = (f"const int64_t begin = {kernel.units - 1} - u_, end = begin + 1;", "(void)begin;", "(void)end;")
    return replace(kernel, body=(Loop("u_", "0", str(kernel.units), 1, (*turn, Scope(kernel.body))),))


def run_kernels(layer: Convolution, arrays: dict[str, Array], machine: Machine, whole: Sequence[Kernel]) -> list[Array]:
    """The output of every kernel, from one library."""
    net = Net(layer.inputs, layer.outputs, (layer,))
    nets = dict.fromkeys(range(1, len(whole) + 1), net)
    kernels = {index + 1: (kernel,) for index, kernel in enumerate(whole)}
    buffers = {tensor.name: with_border(tensor, arrays[tensor.name]) for tensor in layer.inputs}
    found = []
    with tempfile.TemporaryDirectory() as folder:
        path = build(make_source("test", nets, kernels, machine, "test").files, machine, Path(folder))
        for index in range(len(whole)):
            loaded = Loaded(path, index)
            loaded.outputs["y"][...] = 7
            buffer = loaded.run(buffers)["y"]
            found.append(without_border(layer.y, buffer).copy())
            without_border(layer.y, buffer)[...] = 7
            assert (buffer == 7).all(), "written into the border of y"
    return found


def arrays_of(layer: Convolution) -> dict[str, Array]:
    random = np.random.default_rng(0)
    return {tensor.name: random.normal(size=tensor.shape).astype(np.float32) for tensor in layer.inputs}


SETTINGS = settings(max_examples=3, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.mark.parametrize("machine", [HERE, AVX2, PLAIN], ids=lambda machine: machine.name)
@SETTINGS
@given(layer=convolutions())
def test_every_direct_tile_gives_the_same_right_bits(machine: Machine, layer: Convolution) -> None:
    arrays = arrays_of(layer)
    expected = reference(layer, arrays["x"], arrays["beside"])
    found = run_tiles(layer, arrays, machine, DIRECT.tiles(layer, machine)[::3])
    assert np.abs(found[0] - expected).max() <= 2e-6 * np.abs(expected).max()
    for other in found[1:]:
        np.testing.assert_array_equal(other, found[0])


@pytest.mark.parametrize("machine", [HERE, AVX2, PLAIN], ids=lambda machine: machine.name)
@SETTINGS
@given(layer=convolutions(plain=True), sizes=st.tuples(st.integers(1, 4), st.integers(1, 9), st.integers(1, 3)))
def test_every_winograd_tile_gives_the_same_right_bits(
    machine: Machine, layer: Convolution, sizes: tuple[int, int, int]
) -> None:
    arrays = arrays_of(layer)
    expected = reference(layer, arrays["x"], arrays["beside"])
    tiles = [
        Tile("winograd", (("rows", rows), ("positions", positions), ("vectors", vectors)))
        for rows, positions, vectors in (sizes, (9, 4, 2))
    ]
    found = run_tiles(layer, arrays, machine, tiles)
    assert np.abs(found[0] - expected).max() <= 2e-6 * np.abs(expected).max()
    for other in found[1:]:
        np.testing.assert_array_equal(other, found[0])


@pytest.mark.parametrize("window", range(1, LONGEST + 1))
def test_schemes_give_two_outputs_of_a_window(window: int) -> None:
    d, g = np.random.default_rng(3).normal(size=window + 1), np.random.default_rng(4).normal(size=window)
    found = scheme(window)
    expected = [d[:window] @ g, d[1:] @ g]
    np.testing.assert_allclose(found.outputs @ ((found.inputs @ d) * (found.weights @ g)), expected, atol=1e-12)


def square(size: int, channels: int) -> Convolution:
    """Of a residual net."""
    return Convolution(
        x=Tensor("x", (1, size, size, channels), "f32", Border(1, 1, 1, 1)),
        y=Tensor("y", (1, size, size, channels)),
        weight=np.random.default_rng(2).normal(size=(channels, 3, 3, channels)).astype(np.float32),
        top=1,
        left=1,
    )


@pytest.mark.parametrize("machine", [HERE, AVX2, machine_for("aarch64", frozenset())], ids=lambda machine: machine.name)
def test_winograd_comes_first_where_it_pays_and_is_not_offered_where_it_does_not(machine: Machine) -> None:
    assert tiles_of(square(16, 32), machine)[0].family == "winograd"
    assert {tile.family for tile in tiles_of(square(16, 4), machine)} == {"direct"}
    assert {tile.family for tile in tiles_of(replace(square(16, 32), strides=(2, 2)), machine)} == {"direct"}
    for layer in (square(8, 64), square(14, 256), square(56, 64)):
        assert len(WINOGRAD.tiles(layer, machine)) <= 10
        assert len(DIRECT.tiles(layer, machine)) <= 10


def test_long_sums_stay_near_those_of_float64() -> None:
    layer = replace(square(5, 384), epilogue=Epilogue())
    arrays = {"x": np.abs(arrays_of(layer)["x"])}
    expected = reference(layer, arrays["x"], np.zeros(1))
    found = run_tiles(layer, arrays, HERE, [*DIRECT.tiles(layer, HERE)[:2], *WINOGRAD.tiles(layer, HERE)[:2]])
    for each in found:  # in one go, the direct sum is 1.8e-6 away
        assert np.abs(each - expected).max() <= 1.2e-6 * np.abs(expected).max()
    np.testing.assert_array_equal(found[0], found[1])


def test_direct_convolutions_give_the_same_bits_on_other_machines() -> None:
    layer = Convolution(
        x=Tensor("x", (1, 9, 20, 7)),
        y=Tensor("y", (1, 7, 18, 27)),
        weight=np.random.default_rng(1).normal(size=(27, 3, 3, 7)).astype(np.float32),
    )
    arrays = arrays_of(layer)
    here, there = (run_tiles(layer, arrays, machine, DIRECT.tiles(layer, machine)[:1])[0] for machine in (HERE, AVX2))
    np.testing.assert_array_equal(here, there)
