"""Runs products of matrices by all of their tiles, in one library: a compiler call costs more than they do."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from edgewright.compiler.lower.native.kernel import Kernel, Tile
from edgewright.compiler.lower.native.kernels.families import kernel_of, tiles_of
from edgewright.compiler.lower.native.loaded import Loaded
from edgewright.compiler.lower.native.machine import Machine
from edgewright.compiler.lower.native.nest import Loop
from edgewright.compiler.lower.native.net import Array, Dense, Layer, MatMul, Net, Tensor
from edgewright.compiler.lower.native.source import Source, make_source
from edgewright.compiler.lower.native.toolchain import build
from tests.compiler.native.cross import AVX2, run_foreign
from tests.compiler.native.single_layer import HERE, with_border, without_border

Product = Dense | MatMul
Case = tuple[Product, Mapping[str, Array]]
"""A layer, and the contents of its inputs by tensor name, without borders."""
FUSED = tuple(machine for machine in (HERE, AVX2) if set(machine.isa) <= set(HERE.isa) and machine.fma)
"""Machines that this one can be, with fused multiply-add."""


def outputs_of(cases: Sequence[Case], machine: Machine, *, unit_by_unit: bool = False) -> list[dict[Tile, Array]]:
    """Per case its output, without border, by every tile. Borders of outputs come out as they went in.

    `unit_by_unit` calls every function as threads would: for each unit alone, the last one first.
    """
    net, source, buffers = _joined(cases, machine, unit_by_unit)
    with tempfile.TemporaryDirectory() as folder:
        return _by_tile(cases, machine, net, Loaded(build(source.files, machine, Path(folder))).run(buffers))


def foreign_outputs_of(cases: Sequence[Case], machine: Machine) -> list[dict[Tile, Array]]:
    """The same on a machine that is emulated."""
    net, source, buffers = _joined(cases, machine, False)
    return _by_tile(cases, machine, net, run_foreign(source, machine, net, buffers)[0])


def _joined(cases: Sequence[Case], machine: Machine, unit_by_unit: bool) -> tuple[Net, Source, dict[str, Array]]:
    layers: list[Layer] = []
    kernels: list[Kernel] = []
    buffers: dict[str, Array] = {}
    for number, (case, arrays) in enumerate(cases):
        layer = _renamed(case, f"case{number}.")
        for tensor, own in zip(layer.inputs, case.inputs, strict=True):
            buffers[tensor.name] = with_border(tensor, arrays[own.name])
        for turn, tile in enumerate(tiles_of(layer, machine)):
            layers.append(replace(layer, y=replace(layer.y, name=f"case{number}.{turn}")))
            made = kernel_of(layer, machine, tile)
            kernels.append(_unit_by_unit(made) if unit_by_unit else made)
    inputs = tuple({tensor.name: tensor for layer in layers for tensor in layer.inputs}.values())
    net = Net(inputs, tuple(layer.outputs[0] for layer in layers), tuple(layers))
    return net, make_source("test", {1: net}, {1: tuple(kernels)}, machine, "test"), buffers


def _by_tile(cases: Sequence[Case], machine: Machine, net: Net, found: Mapping[str, Array]) -> list[dict[Tile, Array]]:
    for output in net.outputs:
        assert _border_is_as_it_was(output, found[output.name]), output.name
    results = iter(without_border(output, found[output.name]) for output in net.outputs)
    return [{tile: next(results) for tile in tiles_of(layer, machine)} for layer, _ in cases]


def _renamed(layer: Product, before: str) -> Product:
    def named(tensor: Tensor) -> Tensor:
        return replace(tensor, name=before + tensor.name)

    epilogue = replace(layer.epilogue, beside=tuple(named(tensor) for tensor in layer.epilogue.beside))
    if isinstance(layer, Dense):
        return replace(layer, x=named(layer.x), epilogue=epilogue)
    return replace(layer, a=named(layer.a), b=named(layer.b), epilogue=epilogue)


def _unit_by_unit(kernel: Kernel) -> Kernel:
    unit = f"const int64_t begin = {kernel.units - 1} - unit, end = begin + 1;"
    use = "(void)begin, (void)end;"
    return replace(kernel, body=(Loop("unit", "0", str(kernel.units), 1, (unit, use, *kernel.body)),), units=1)


def _border_is_as_it_was(tensor: Tensor, buffer: Array) -> bool:
    """Zero in this process; not a number where the driver of other machines fills what nobody has written."""
    outside = np.ones(buffer.shape, bool)
    without_border(tensor, outside)[...] = False
    return not buffer[outside].any() or bool(np.isnan(buffer[outside]).all())
