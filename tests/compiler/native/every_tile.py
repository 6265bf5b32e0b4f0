"""Runs layers by several of their tiles each, all in one library: a compiler call costs more than most layers."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from edgewright.compiler.lower.native.kernel import Tile
from edgewright.compiler.lower.native.kernels.families import kernel_of
from edgewright.compiler.lower.native.loaded import Loaded
from edgewright.compiler.lower.native.machine import Machine
from edgewright.compiler.lower.native.net import Array, Convolution, Dense, Layer, Net, Pool, Separable, Tensor
from edgewright.compiler.lower.native.source import make_source
from edgewright.compiler.lower.native.toolchain import build
from tests.compiler.native.single_layer import with_border, without_border


def run_tiles(
    cases: Sequence[tuple[Layer, Mapping[str, Array], Sequence[Tile]]], machine: Machine
) -> list[list[Array]]:
    """Per case the output of each of its tiles, without borders; `arrays` are by tensor name, without borders."""
    layers: list[Layer] = []
    tiles: list[Tile] = []
    buffers: dict[str, Array] = {}
    for number, (layer, arrays, chosen) in enumerate(cases):
        for tensor in layer.inputs:
            buffers[f"{number}.{tensor.name}"] = with_border(tensor, arrays[tensor.name])
        layers += [_renamed(layer, f"{number}.", f".{turn}") for turn in range(len(chosen))]
        tiles += chosen
    inputs = tuple({tensor.name: tensor for layer in layers for tensor in layer.inputs}.values())
    outputs = tuple(layer.outputs[0] for layer in layers)
    kernels = tuple(kernel_of(layer, machine, tile) for layer, tile in zip(layers, tiles, strict=True))
    source = make_source("test", {1: Net(inputs, outputs, tuple(layers))}, {1: kernels}, machine, "test")
    with tempfile.TemporaryDirectory() as folder:
        found = Loaded(build(source.files, machine, Path(folder))).run(buffers)
    for output in outputs:
        assert _border_is_untouched(output, found[output.name]), output.name
    results = iter(without_border(output, found[output.name]) for output in outputs)
    return [[next(results) for _ in chosen] for _, _, chosen in cases]


def _renamed(layer: Layer, before: str, after: str) -> Layer:
    assert isinstance(layer, Convolution | Dense | Pool | Separable)
    if isinstance(layer, Separable):
        depthwise = _renamed(layer.depthwise, before, after)
        pointwise = _renamed(layer.pointwise, before, after)
        assert isinstance(depthwise, Convolution)
        assert isinstance(pointwise, Dense)
        return Separable(depthwise=depthwise, pointwise=replace(pointwise, x=depthwise.y))
    beside = tuple(_named(tensor, before) for tensor in layer.epilogue.beside)
    return replace(
        layer,
        x=_named(layer.x, before),
        y=replace(layer.y, name=f"{before}{layer.y.name}{after}"),
        epilogue=replace(layer.epilogue, beside=beside),
    )


def _named(tensor: Tensor, before: str) -> Tensor:
    return replace(tensor, name=f"{before}{tensor.name}")


def _border_is_untouched(tensor: Tensor, buffer: Array) -> bool:
    if not tensor.border:
        return True
    outside = np.ones(buffer.shape, bool)
    without_border(tensor, outside)[...] = False
    return bool((buffer[outside] == 0).all())
