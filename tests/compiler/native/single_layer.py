"""Compiles one layer for this machine and runs it on arrays: what tests of kernel families stand on."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from edgewright.compiler.lower.native.kernel import Tile
from edgewright.compiler.lower.native.kernels.families import kernel_of, tiles_of
from edgewright.compiler.lower.native.loaded import Loaded
from edgewright.compiler.lower.native.machine import Machine, machine_for, machine_of
from edgewright.compiler.lower.native.net import NUMPY, Array, Layer, Net, Tensor
from edgewright.compiler.lower.native.source import make_source
from edgewright.compiler.lower.native.toolchain import build
from edgewright.targets.host import detect_host

HERE = machine_of(detect_host())
PLAIN = machine_for("x86_64", frozenset())
"""128-bit vectors without fused multiply-add: every x86 machine runs it."""


def run_layer(
    layer: Layer, arrays: Mapping[str, Array], machine: Machine = HERE, tile: Tile | None = None
) -> dict[str, Array]:
    """The layer's outputs, without borders. `arrays` are its inputs by tensor name, without borders."""
    chosen = tile or tiles_of(layer, machine)[0]
    inputs = tuple({tensor.name: tensor for tensor in layer.inputs}.values())
    net = Net(inputs, layer.outputs, (layer,))
    source = make_source("test", {1: net}, {1: (kernel_of(layer, machine, chosen),)}, machine, "test")
    with tempfile.TemporaryDirectory() as folder:
        loaded = Loaded(build(source.files, machine, Path(folder)))
        found = loaded.run({tensor.name: with_border(tensor, arrays[tensor.name]) for tensor in inputs})
    return {tensor.name: without_border(tensor, found[tensor.name]) for tensor in layer.outputs}


def with_border(tensor: Tensor, array: Array) -> Array:
    """The buffer of a tensor that holds an array."""
    buffer = np.full(tensor.buffer_shape, tensor.border.value, NUMPY[tensor.dtype])
    without_border(tensor, buffer)[...] = array
    return buffer


def without_border(tensor: Tensor, buffer: Array) -> Array:
    """The part of a buffer that is not border."""
    if not tensor.border:
        return buffer
    height, width = tensor.shape[1:3]
    top, left = tensor.border.top, tensor.border.left
    return buffer[:, top : top + height, left : left + width]
