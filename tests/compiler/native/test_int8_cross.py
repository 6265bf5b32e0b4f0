"""Int8 nets on machines that are not here give the bits of this one, signed and unsigned; layers by two tiles each."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
import pytest

from edgewright.compiler.lower.native.fusion.fuse import fuse
from edgewright.compiler.lower.native.kernel import Kernel, Tile
from edgewright.compiler.lower.native.kernels.families import kernel_of, tiles_of
from edgewright.compiler.lower.native.lowering.lower import lower
from edgewright.compiler.lower.native.machine import Machine
from edgewright.compiler.lower.native.net import Array, Border, Convolution, Dense, Dtype, Layer, Net
from edgewright.compiler.lower.native.rebuild import substituted
from edgewright.compiler.lower.native.source import make_source
from edgewright.compiler.quantize.scheme import ActivationType
from tests.compiler.native import int8_layers
from tests.compiler.native.cross import (
    ARM7,
    ARM7_FMA,
    AVX2,
    NEON,
    NEON_DOT,
    NEON_I8MM,
    foreign,
    run_foreign,
    run_here,
    source_of,
)
from tests.compiler.native.single_layer import HERE, PLAIN, with_border, without_border
from tests.compiler.native.test_int8_nets import gated, graph_of, quantized
from tests.compiler.nets import convolutional

pytestmark = pytest.mark.skipif(not HERE.fma, reason="this machine has no fused multiply-add to compare with")
KINDS: tuple[ActivationType, ...] = ("uint8", "int8")


@functools.cache
def net() -> tuple[Net, dict[str, Array]]:
    """Four nets side by side: convolutions with a residual and gates, each with unsigned and signed activations."""
    parts: list[Net] = []
    inputs: dict[str, Array] = {}
    for index, (maker, kind) in enumerate((maker, kind) for maker in (convolutional, gated) for kind in KINDS):
        model, samples = quantized(maker(index), kind)
        part = fuse(lower(graph_of(model), len(samples["x"])))
        names = {tensor.name: tensor for layer in part.layers for tensor in (*layer.inputs, *layer.outputs)}
        own = {
            name: dataclasses.replace(tensor, name=f"{maker.__name__}.{kind}.{name}") for name, tensor in names.items()
        }
        parts.append(substituted(part, own))
        inputs[parts[-1].inputs[0].name] = samples["x"]
    joined = Net(
        tuple(port for part in parts for port in part.inputs),
        tuple(port for part in parts for port in part.outputs),
        tuple(layer for part in parts for layer in part.layers),
    )
    return joined, inputs


@functools.cache
def outputs_here(*, fused: bool) -> dict[str, Array]:
    whole, inputs = net()
    machine = HERE if fused else PLAIN
    return run_here(source_of(whole, machine), machine, inputs)


@pytest.mark.parametrize("machine", foreign(AVX2, NEON, NEON_DOT, NEON_I8MM, ARM7_FMA, ARM7))
def test_whole_nets_give_the_bits_of_this_machine(machine: Machine) -> None:
    whole, inputs = net()
    (found,) = run_foreign(source_of(whole, machine), machine, whole, inputs)
    for name, wanted in outputs_here(fused=machine.fma).items():
        np.testing.assert_array_equal(found[name], wanted, err_msg=name)


Drawn = tuple[Layer, Array, Array]


def layers() -> list[Drawn]:
    """Dense layers and convolutions, each with every pair of types, values at the ends of their ranges among them."""
    random = np.random.default_rng(11)
    found: list[Drawn] = []
    for x, y in (("u8", "u8"), ("s8", "s8")):
        kinds: tuple[Dtype, Dtype] = (x, y)  # type: ignore[assignment]
        for leading, depth, channels in (((5,), 37, 21), ((1,), 64, 16), ((4,), 3, 5)):
            found.append(int8_layers.dense(random, leading, depth, channels, *kinds))
        found.append(int8_layers.dense(random, (6,), 48, 32, *kinds, extreme=True))
        border = Border(1, 1, 1, 1, 0)
        found.append(
            int8_layers.convolution(random, (1, 6, 7, 5), 9, (3, 3), *kinds, pads=(1, 1, 1, 1), y_border=border)
        )
        found.append(int8_layers.convolution(random, (2, 7, 6, 16), 24, (3, 2), *kinds, strides=(2, 1)))
        found.append(int8_layers.convolution(random, (1, 9, 5, 3), 20, (4, 4), *kinds, pads=(1, 2, 2, 2)))
        found.append(int8_layers.convolution(random, (1, 6, 6, 8), 12, (3, 3), *kinds, groups=2, dilations=(1, 2)))
        found.append(int8_layers.convolution(random, (1, 7, 7, 20), 20, (3, 3), *kinds, groups=20, pads=(1, 1, 1, 1)))
    return found


def _two(tiles: tuple[Tile, ...]) -> tuple[Tile, ...]:
    return tuple(dict.fromkeys((tiles[0], tiles[-1])))


@pytest.mark.parametrize("machine", foreign(NEON, NEON_DOT, ARM7))
def test_layers_are_exact(machine: Machine) -> None:
    drawn = layers()
    every: list[Layer] = []
    kernels: list[Kernel] = []
    wanted: dict[str, Array] = {}
    inputs: dict[str, Array] = {}
    for index, (layer, x, y) in enumerate(drawn):
        assert isinstance(layer, Dense | Convolution)
        source = dataclasses.replace(layer.x, name=f"x{index}")
        inputs[source.name] = with_border(source, x)
        for turn, tile in enumerate(_two(tiles_of(layer, machine))):
            made = dataclasses.replace(layer, x=source, y=dataclasses.replace(layer.y, name=f"y{index}.{turn}"))
            every.append(made)
            kernels.append(kernel_of(made, machine, tile))
            wanted[made.y.name] = y
    whole = Net(
        tuple({layer.inputs[0].name: layer.inputs[0] for layer in every}.values()),
        tuple(layer.outputs[0] for layer in every),
        tuple(every),
    )
    source_text = make_source("test", {1: whole}, {1: tuple(kernels)}, machine, "test")
    (found,) = run_foreign(source_text, machine, whole, inputs)
    for port in whole.outputs:
        np.testing.assert_array_equal(without_border(port, found[port.name]), wanted[port.name], err_msg=port.name)
