"""Compiles many independent layers into one library: one call of the compiler for a whole test."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from edgewright.compiler.lower.native.kernel import Kernel
from edgewright.compiler.lower.native.kernels.families import default_kernels
from edgewright.compiler.lower.native.loaded import Loaded
from edgewright.compiler.lower.native.machine import Machine, machine_for
from edgewright.compiler.lower.native.nest import Loop, Node, Scope
from edgewright.compiler.lower.native.net import Array, Layer, Net, Tensor
from edgewright.compiler.lower.native.source import make_source
from edgewright.compiler.lower.native.toolchain import build
from tests.compiler.native.single_layer import HERE, PLAIN, with_border, without_border

AVX2 = machine_for("x86_64", frozenset({"avx", "avx2", "fma", "f16c"}))
MACHINES = tuple(
    {machine.name: machine for machine in (HERE, AVX2, PLAIN) if set(machine.isa) <= set(HERE.isa)}.values()
)
"""Those whose code this machine can run."""


def run_layers(
    layers: Sequence[Layer], arrays: Mapping[str, Array], machine: Machine, *, borders: bool = False
) -> dict[str, Array]:
    """The outputs of every layer, without borders unless they are asked for; no layer reads another's output.

    On the plainest machine every unit of a layer is a call of its own, as several threads would make them.
    """
    inputs: dict[str, Tensor] = {tensor.name: tensor for layer in layers for tensor in layer.inputs}
    outputs = tuple(tensor for layer in layers for tensor in layer.outputs)
    net = Net(tuple(inputs.values()), outputs, tuple(layers))
    kernels = default_kernels(net.layers, machine)
    if machine is PLAIN:
        kernels = tuple(kernel and _unit_by_unit(kernel) for kernel in kernels)
    source = make_source("test", {1: net}, {1: kernels}, machine, "test")
    with tempfile.TemporaryDirectory() as folder:
        loaded = Loaded(build(source.files, machine, Path(folder)))
        found = loaded.run({name: with_border(tensor, arrays[name]) for name, tensor in inputs.items()})
    return found if borders else {tensor.name: without_border(tensor, found[tensor.name]) for tensor in outputs}


def _unit_by_unit(kernel: Kernel) -> Kernel:
    one: tuple[Node, ...] = ("const int64_t begin = unit, end = unit + 1;", Scope(kernel.body))
    return replace(kernel, body=(Loop("unit", "0", str(kernel.units), 1, one),))


def same_bits(first: Array, second: Array) -> bool:
    """Whether two arrays are equal to the last bit, NaNs included (their payload apart)."""
    if first.dtype.kind == "f":
        nan = (first != first) & (second != second)
        return bool((nan | (first.view("u4") == second.view("u4"))).all())
    return bool((first == second).all())
