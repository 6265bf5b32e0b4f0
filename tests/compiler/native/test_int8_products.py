"""Int8 dense layers and convolutions give the bits of int64 arithmetic, with every tile, on every machine."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgewright.compiler.lower.native.kernels.families import tiles_of
from edgewright.compiler.lower.native.library import choose_kernels
from edgewright.compiler.lower.native.machine import Machine, machine_for
from edgewright.compiler.lower.native.net import Border, Dtype, Net

from .int8_layers import convolution, dense
from .single_layer import HERE, PLAIN, run_layer

AVX2 = machine_for("x86_64", frozenset({"avx", "avx2", "fma", "f16c"}))
NEON_DOT = machine_for("aarch64", frozenset({"fp", "asimd", "asimddp"}))
MACHINES = tuple(
    {machine.name: machine for machine in (HERE, AVX2, PLAIN) if set(machine.isa) <= set(HERE.isa)}.values()
)
SLOW = settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.too_slow])
TYPES = st.sampled_from(["u8", "s8"])
machines = pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.name)


@machines
@SLOW
@given(
    seed=st.integers(0, 2**32 - 1), positions=st.integers(1, 23), depth=st.integers(1, 90),
    channels=st.integers(1, 150), x=TYPES, y=TYPES, per_channel=st.booleans(), extreme=st.booleans(),
)  # fmt: skip
def test_dense_layers_are_exact(
    machine: Machine, seed: int, positions: int, depth: int, channels: int, x: Dtype, y: Dtype, per_channel: bool,
    extreme: bool,
) -> None:  # fmt: skip
    random = np.random.default_rng(seed)
    layer, values, wanted = dense(random, (positions,), depth, channels, x, y, per_channel=per_channel, extreme=extreme)
    tiles = tiles_of(layer, machine)
    found = run_layer(layer, {"x": values}, machine, tiles[seed % len(tiles)])["y"]
    np.testing.assert_array_equal(found, wanted)


@machines
@SLOW
@given(
    seed=st.integers(0, 2**32 - 1), batch=st.integers(1, 2), sides=st.tuples(st.integers(7, 14), st.integers(7, 14)),
    depth=st.integers(1, 9), per_group=st.integers(1, 20), kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    strides=st.tuples(st.integers(1, 2), st.integers(1, 3)), dilations=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    groups=st.integers(1, 3), pads=st.tuples(*[st.integers(0, 2)] * 4), x=TYPES, y=TYPES, extreme=st.booleans(),
    border=st.booleans(),
)  # fmt: skip
def test_convolutions_are_exact(
    machine: Machine, seed: int, batch: int, sides: tuple[int, int], depth: int, per_group: int,
    kernel: tuple[int, int], strides: tuple[int, int], dilations: tuple[int, int], groups: int,
    pads: tuple[int, int, int, int], x: Dtype, y: Dtype, extreme: bool, border: bool,
) -> None:  # fmt: skip
    random = np.random.default_rng(seed)
    layer, values, wanted = convolution(
        random, (batch, *sides, depth * groups), per_group * groups, kernel, x, y, strides=strides,
        dilations=dilations, groups=groups, pads=pads, y_border=Border(1, 2, 0, 1) if border else None, extreme=extreme,
    )  # fmt: skip
    tiles = tiles_of(layer, machine)
    found = run_layer(layer, {"x": values}, machine, tiles[seed % len(tiles)])["y"]
    np.testing.assert_array_equal(found, wanted)


@machines
@SLOW
@given(
    seed=st.integers(0, 2**32 - 1), batch=st.integers(1, 2), sides=st.tuples(st.integers(7, 14), st.integers(7, 20)),
    channels=st.sampled_from([2, 3, 4, 8, 16, 19, 24, 32, 47, 64, 80, 130]),
    kernel=st.tuples(st.integers(1, 5), st.integers(1, 4)), strides=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    dilations=st.tuples(st.integers(1, 2), st.integers(1, 2)), pads=st.tuples(*[st.integers(0, 2)] * 4), x=TYPES,
    y=TYPES, extreme=st.booleans(), border=st.booleans(),
)  # fmt: skip
def test_depthwise_convolutions_are_exact(
    machine: Machine, seed: int, batch: int, sides: tuple[int, int], channels: int, kernel: tuple[int, int],
    strides: tuple[int, int], dilations: tuple[int, int], pads: tuple[int, int, int, int], x: Dtype, y: Dtype,
    extreme: bool, border: bool,
) -> None:  # fmt: skip
    random = np.random.default_rng(seed)
    pads = (pads[0] + 2, *pads[1:]) if sides[0] < 9 else pads
    layer, values, wanted = convolution(
        random, (batch, *sides, channels), channels, kernel, x, y, strides=strides, dilations=dilations,
        groups=channels, pads=pads, y_border=Border(1, 2, 0, 1) if border else None, extreme=extreme,
    )  # fmt: skip
    tiles = tiles_of(layer, machine)
    found = run_layer(layer, {"x": values}, machine, tiles[seed % len(tiles)])["y"]
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize(
    "machine",
    [HERE, AVX2, machine_for("aarch64", frozenset({"fp", "asimd", "asimddp"}))],
    ids=lambda machine: machine.name,
)
@pytest.mark.parametrize(("depth", "channels"), [(640, 128), (128, 640)])
def test_batches_share_packed_weights(depth: int, channels: int, machine: Machine) -> None:
    nets = {}
    for batch in (1, 8):
        layer, _, _ = dense(np.random.default_rng(0), (batch,), depth, channels, "s8", "s8")
        nets[batch] = Net((layer.x,), (layer.y,), (layer,))
    single, bucket = (kernels[0] for kernels in choose_kernels(nets, machine, {}).values())
    assert single is not None
    assert bucket is not None
    np.testing.assert_array_equal(single.constants["weight"], bucket.constants["weight"])
