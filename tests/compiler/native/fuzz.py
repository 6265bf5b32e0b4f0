"""Random graphs as native code against what they must give: `python -m tests.compiler.native.fuzz --seconds 3600`.

Every round compiles some graphs to one library for one machine, every layer by a tile that is drawn, and calls each
graph twice, the second time on memory that is full of NaNs. What may differ, and by how much, says `fuzz_cases.py`.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from edgewright.compiler.faults import UnsupportedModel
from edgewright.compiler.lower.native.fusion.fuse import fuse
from edgewright.compiler.lower.native.fusion.separable import fuse_separable
from edgewright.compiler.lower.native.interpret import Memory, run, run_layer
from edgewright.compiler.lower.native.kernel import Kernel, Tile
from edgewright.compiler.lower.native.kernels.families import kernel_of, tiles_of
from edgewright.compiler.lower.native.loaded import Loaded
from edgewright.compiler.lower.native.machine import Machine
from edgewright.compiler.lower.native.net import NUMPY, Alias, Layer, Net, Separable, Tensor
from edgewright.compiler.lower.native.rebuild import substituted
from edgewright.compiler.lower.native.source import make_source
from edgewright.compiler.lower.native.toolchain import build

from . import single_layer
from .fuzz_cases import PER_LAYER, Case, case_of, difference
from .several_layers import MACHINES

ROUND = 12
"""Graphs in a library."""
NO_BYTE = 255
"""What memory is full of: four of them are a NaN."""


@dataclass(frozen=True, eq=False)
class Built:
    """A case for a machine."""

    case: Case
    net: Net
    """Fused."""
    tiles: tuple[Tile | None, ...]

    def kernels(self, machine: Machine) -> tuple[Kernel | None, ...]:
        """By the tiles."""
        return tuple(
            None if tile is None else kernel_of(layer, machine, tile)
            for layer, tile in zip(self.net.layers, self.tiles, strict=True)
        )


def built(case: Case, machine: Machine, random: np.random.Generator | None) -> Built:
    """Fused, with a tile for every layer: any, or the first where there is no randomness.

    Half of what is random pretends a tiny second cache, so that all separable pairs are fused.
    """
    tiny = random is not None and random.random() < 0.5
    net = fuse_separable(fuse(case.net), dataclasses.replace(machine, l2_bytes=64) if tiny else machine)
    return Built(case, net, tuple(_tile(layer, machine, random) for layer in net.layers))


def _is_refused(case: Case, machine: Machine) -> bool:
    """Whether no kernel computes a layer, before fusion already: users are told so, with its name and place."""
    try:
        for layer in case.net.layers:
            _tile(layer, machine, None)
    except UnsupportedModel:
        return True
    return False


def _tile(layer: Layer, machine: Machine, random: np.random.Generator | None) -> Tile | None:
    if isinstance(layer, Alias):
        return None
    tiles = tiles_of(layer, machine)
    return tiles[0 if random is None else int(random.integers(len(tiles)))]


def check_round(cases: Sequence[Case], machine: Machine, random: np.random.Generator | None) -> list[str]:
    """Compiles and calls; what is wrong, one text per graph that is."""
    all_built = [built(case, machine, random) for case in cases if not _is_refused(case, machine)]
    nets = dict(enumerate(alike([each.net for each in all_built]), 1))
    kernels = {index: each.kernels(machine) for index, each in enumerate(all_built, 1)}
    source = make_source("fuzz", nets, kernels, machine, "fuzz")
    with tempfile.TemporaryDirectory() as folder:
        path = build(source.files, machine, Path(folder))
        problems = [_problem(each, Loaded(path, index), machine) for index, each in enumerate(all_built)]
    return [
        f"seed {each.case.seed} on {machine.name}: {problem}\n{blamed(each, machine)}"
        for each, problem in zip(all_built, problems, strict=True)
        if problem is not None
    ]


def alike(nets: Sequence[Net]) -> list[Net]:
    """The nets with inputs and outputs that nothing reads or writes, so that all have as many: a library wants that."""
    ins, outs = (max(len(getattr(net, side)) for net in nets) for side in ("inputs", "outputs"))
    return [
        Net(
            (*net.inputs, *(Tensor(f"no input {index}", (1,)) for index in range(len(net.inputs), ins))),
            (*net.outputs, *(Tensor(f"no output {index}", (1,)) for index in range(len(net.outputs), outs))),
            net.layers,
        )
        for net in nets
    ]


def joined(nets: Sequence[Net]) -> Net:
    """All nets as one; names of tensors begin with the number of their net and a colon."""
    renamed = []
    for index, net in enumerate(nets):
        names = {tensor.name: dataclasses.replace(tensor, name=f"{index}:{tensor.name}") for tensor in _tensors(net)}
        renamed.append(substituted(net, names))
    return Net(
        tuple(tensor for net in renamed for tensor in net.inputs),
        tuple(tensor for net in renamed for tensor in net.outputs),
        tuple(layer for net in renamed for layer in net.layers),
    )


def _tensors(net: Net) -> list[Tensor]:
    found = [*net.inputs, *net.outputs]
    for layer in net.layers:
        found += [*layer.inputs, *layer.outputs, *([layer.depthwise.y] if isinstance(layer, Separable) else [])]
    return found


def _problem(each: Built, loaded: Loaded, machine: Machine) -> str | None:
    feeds = {port.name: each.case.feeds.get(port.name, np.zeros(1, np.float32)) for port in loaded.entry.inputs}
    first = loaded.run(feeds)
    loaded._arena.fill(NO_BYTE)
    for array in loaded.outputs.values():
        array.reshape(-1).view(np.uint8).fill(NO_BYTE)
    second = loaded.run(feeds)
    for name in each.case.wanted:
        if first[name].tobytes() != second[name].tobytes():
            return f"{name} differs between two runs"
    return difference(each.case, first, fused=machine.fma)


def blamed(each: Built, machine: Machine) -> str:
    """Where it goes wrong: in fusion, or in a layer, with its tile; and the graph."""
    graph = onnx.printer.to_text(_without_constants(each.case.model).graph)
    if not each.case.quantized:
        fused = difference(each.case, run(each.net, each.case.feeds))
        if fused is not None:
            return f"  fusion: {fused}\n{graph}"
    memory = Memory()
    for tensor in each.net.inputs:
        memory.write(tensor, each.case.feeds[tensor.name].reshape(tensor.shape))
    lines = []
    for layer, tile in zip(each.net.layers, each.tiles, strict=True):
        run_layer(layer, memory)
        lines.append("" if tile is None else _layer_line(layer, tile, machine, memory))
    return "\n".join([*filter(None, lines), graph])


def _layer_line(layer: Layer, tile: Tile, machine: Machine, memory: Memory) -> str:
    """What is wrong with a layer alone on exact inputs; nothing where it is right."""
    arrays = {tensor.name: memory.read(tensor).astype(NUMPY[tensor.dtype]) for tensor in layer.inputs}
    found = single_layer.run_layer(layer, arrays, machine, tile)
    worst = []
    for tensor in layer.outputs:
        wanted = memory.read(tensor)
        largest = np.abs(wanted).max(initial=0)
        error = np.abs(found[tensor.name].astype(np.float64) - wanted).max(initial=0)
        if not error <= (PER_LAYER * largest if tensor.dtype == "f32" else 0):
            worst.append(f"{tensor.name} {tensor.shape} is {error:.3g} off, the largest number is {largest:.3g}")
    return f"  layer {layer.origin} by {tile}: {'; '.join(worst)}\n  {layer!r}"[:3000] if worst else ""


def _without_constants(model: onnx.ModelProto) -> onnx.ModelProto:
    found = onnx.ModelProto()
    found.CopyFrom(model)
    for tensor in found.graph.initializer:
        if np.prod(tensor.dims) > 16:
            tensor.ClearField("raw_data")
            tensor.ClearField("dims")
    return found


def fuzz_round(seed: int, machine: Machine, count: int = ROUND) -> tuple[int, list[str]]:
    """How many graphs there were, and what is wrong with them; a crash of ours is wrong too."""
    cases, problems = [], []
    for each in range(seed, seed + count):
        try:
            case = case_of(each)
        except Exception:  # noqa: BLE001 -- whatever it is, the next seed may find more
            problems.append(f"seed {each}: {traceback.format_exc()[-1500:]}")
            continue
        cases += [case] if case is not None else []
    try:
        problems += check_round(cases, machine, np.random.default_rng(seed))
    except Exception:  # noqa: BLE001
        problems.append(f"seeds {seed} to {seed + count - 1} on {machine.name}: {traceback.format_exc()[-1500:]}")
    return len(cases), problems


def main() -> int:
    """Runs until the time is up; prints what is wrong as it is found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3600.0)
    parser.add_argument("--seed", type=int, default=0, help="of the first graph")
    asked = parser.parse_args()
    end, seed, wrong = time.monotonic() + asked.seconds, asked.seed, 0
    on: Counter[str] = Counter()
    while time.monotonic() < end:
        machine = MACHINES[seed // ROUND % len(MACHINES)]
        done, problems = fuzz_round(seed, machine)
        for problem in problems:
            print(problem, flush=True)
        wrong, seed = wrong + len(problems), seed + ROUND
        on[machine.name] += done
        if seed // ROUND % 20 == 0:
            print(f"up to seed {seed}: {on.total()} graphs, {wrong} wrong, {dict(on)}", flush=True)
    print(f"up to seed {seed}: {on.total()} graphs, {wrong} wrong, {dict(on)}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
