"""From a graph to a shared library: for a target, and for this machine, so that its answers can be scored here."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ...graph import Graph, fixed_batch
from .fusion.fuse import fuse
from .fusion.separable import fuse_separable
from .kernel import Kernel
from .kernels.families import kernel_of
from .lowering.lower import lower
from .machine import Machine
from .net import Alias, Dense, Layer, Net
from .parts import MAX_PARTS
from .source import Source, make_source
from .toolchain import build
from .toolchain_choice import find_toolchain
from .tune import Choices, affordable_tiles, chosen_tile

FILE = "model.so"
LARGE_CONSTANT_BYTES = 4096
VERSION_RANGE = ">=1,<2"
"""Of the ABI."""
BUCKET = 8
"""Samples per call of the second entry, where a model has one."""
LEAST_STREAMED_BYTES = 64 << 10
"""Weights that a single sample reads once each; from here on a second entry that shares the reading pays."""


@dataclass(frozen=True, eq=False)
class NativeModel:
    """A model that is code."""

    path: Path
    """`model.so` for the target."""
    here: Path
    """A library that computes the same on this machine; `path` itself where that runs here."""
    digest: str
    """`sha256:…` of the target's library."""
    size_bytes: int
    arena_bytes: int
    """Of the largest entry."""
    machine: Machine
    toolchain: str
    """Version line of the compiler."""
    threads: int
    """That can share a call; 1 where they cannot."""
    source: Source = field(repr=False)


def nets_of(graph: Graph, machine: Machine) -> dict[int, Net]:
    """The net of every entry, by batch size: the fixed one, or 1 and, where weights are most of the work, a bucket.

    Raises:
        UnsupportedModel: an operator has no native form.
    """
    batch = fixed_batch(graph)
    if batch is not None:
        return {batch: _net(graph, batch, machine)}
    single = _net(graph, 1, machine)
    return {1: single, BUCKET: _net(graph, BUCKET, machine)} if streams_weights(single) else {1: single}


def _net(graph: Graph, batch: int, machine: Machine) -> Net:
    return fuse_separable(fuse(lower(graph, batch)), machine)


def streams_weights(net: Net) -> bool:
    """Whether most weights meet a single row of data, so that reading them is what takes the time."""
    dense = [layer for layer in net.layers if isinstance(layer, Dense)]
    single = sum(layer.weight.nbytes for layer in dense if layer.x.elements == layer.x.shape[-1])
    everything = sum(layer.weight.nbytes for layer in net.layers if hasattr(layer, "weight"))
    return single >= max(LEAST_STREAMED_BYTES, everything // 2)


def compile_library(
    name: str, nets: dict[int, Net], machine: Machine, here: Machine, choices: Choices, folder: Path, threads: int = 1
) -> NativeModel:
    """Compiles nets into a folder, with calls that so many threads share where there is enough to share.

    Raises:
        ToolchainMissing: there is no compiler for the machine.
        UnsupportedModel: no kernel family computes a layer.
    """
    source, path = _compiled(name, nets, machine, choices, folder / "target", min(threads, MAX_PARTS))
    runs_here = machine.arch == here.arch and set(machine.isa) <= set(here.isa)
    return NativeModel(
        path=path,
        here=path if runs_here else _compiled(name, nets, here, {}, folder / "here")[1],
        digest=f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}",
        size_bytes=path.stat().st_size,
        arena_bytes=source.arena_bytes,
        machine=machine,
        toolchain=find_toolchain(machine).version,
        threads=source.max_parts,
        source=source,
    )


def _compiled(
    name: str, nets: dict[int, Net], machine: Machine, choices: Choices, folder: Path, threads: int = 1
) -> tuple[Source, Path]:
    folder.mkdir(parents=True)
    toolchain = find_toolchain(machine)
    source = make_source(name, nets, choose_kernels(nets, machine, choices), machine, toolchain.version, threads)
    return source, build(source.files, machine, folder, toolchain)


def choose_kernels(nets: dict[int, Net], machine: Machine, choices: Choices) -> dict[int, tuple[Kernel | None, ...]]:
    """A kernel for every layer of every entry.

    Larger batches take tiles that pack weights as the smallest batch does, where there are such: else the file would
    hold them twice.
    """
    chosen: dict[int, tuple[Kernel | None, ...]] = {}
    packed: set[bytes] = set()
    for batch, net in sorted(nets.items()):
        chosen[batch] = tuple(_kernel(layer, machine, choices, packed) for layer in net.layers)
        packed |= {key for kernel in chosen[batch] if kernel is not None for key in _large_constants(kernel)}
    return chosen


def _kernel(layer: Layer, machine: Machine, choices: Choices, packed: set[bytes]) -> Kernel | None:
    if isinstance(layer, Alias):
        return None
    best = kernel_of(layer, machine, chosen_tile(layer, machine, choices))
    if not packed or _large_constants(best) <= packed:
        return best
    others = (kernel_of(layer, machine, tile) for tile in affordable_tiles(layer, machine))
    return next((kernel for kernel in others if _large_constants(kernel) <= packed), best)


def _large_constants(kernel: Kernel) -> set[bytes]:
    arrays = (array for array in kernel.constants.values() if array.nbytes >= LARGE_CONSTANT_BYTES)
    return {hashlib.sha256(np.ascontiguousarray(array).data).digest() for array in arrays}
