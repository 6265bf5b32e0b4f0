"""Where the time of a compiled net goes: every layer between its neighbours, with what it multiplies.

The walk through the net reads the processor's clock between layers; that is done here, to the text of the walk, and
has no place in what ships. Each layer's figure is the least of many calls.
"""

from __future__ import annotations

import ctypes
import re
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from edgewright.compiler.graph import Graph
from edgewright.compiler.lower.native.library import choose_kernels, nets_of
from edgewright.compiler.lower.native.loaded import NUMPY_OF_V2, Loaded
from edgewright.compiler.lower.native.machine import Machine
from edgewright.compiler.lower.native.net import Alias, Array, Layer
from edgewright.compiler.lower.native.source import MODEL_FILE, make_source
from edgewright.compiler.lower.native.toolchain_choice import find_toolchain
from edgewright.compiler.lower.native.toolchain_options import COMPILE, LINK, isa_options
from edgewright.compiler.lower.native.tune import Choices, chosen_tile
from edgewright.compiler.lower.native.work import PRODUCTS, work

CALLS = 2000
SPENT_S = 4.0
_CALL = re.compile(r"^    /\* (.*) \*/$", re.MULTILINE)
_CLOCK = """
#include <stdint.h>
static uint64_t ticks[4096], before;
__attribute__((visibility("default"))) uint64_t *ew_ticks(void) { return ticks; }
static void ew_tick(int layer) {
    uint64_t now = __builtin_ia32_rdtsc();
    if (layer >= 0 && now - before < ticks[layer]) ticks[layer] = now - before;
    before = __builtin_ia32_rdtsc();
}
"""


@dataclass(frozen=True)
class LayerTime:
    """One layer of a net."""

    layer: Layer
    tile: str
    nanoseconds: float
    macs: int


def layer_times(graph: Graph, machine: Machine, choices: Choices) -> list[LayerTime]:
    """Every layer of the smallest entry in its place, in the order of the net; x86-64 only."""
    nets = nets_of(graph, machine)
    batch = min(nets)
    net = nets[batch]
    kernels = choose_kernels({batch: net}, machine, choices)
    files = dict(make_source("layers", {batch: net}, kernels, machine, "").files)
    files[MODEL_FILE] = _with_clock(files[MODEL_FILE].decode()).encode()
    with tempfile.TemporaryDirectory() as name:
        nanoseconds = _measured(_built(files, machine, Path(name)))
    layers = [layer for layer in net.layers if not isinstance(layer, Alias)]
    return [
        LayerTime(layer, str(chosen_tile(layer, machine, choices)), spent, _macs(layer))
        for layer, spent in zip(layers, nanoseconds[: len(layers)], strict=True)
    ]


def show(title: str, times: list[LayerTime]) -> None:
    """Prints a table."""
    total = sum(one.nanoseconds for one in times)
    table = Table(title=f"{title}: {total / 1e3:.2f} µs in {len(times)} layers", title_justify="left")
    for column in ("layer", "tile", "µs", "share", "GMAC/s"):
        table.add_column(column, justify="left" if column in ("layer", "tile") else "right")
    for one in times:
        shapes = ["x".join(map(str, x.shape)) for x in (*one.layer.inputs[:1], *one.layer.outputs[:1])]
        name = f"{type(one.layer).__name__} {' > '.join(shapes)}"
        rate = f"{one.macs / one.nanoseconds:.1f}" if one.macs else ""
        table.add_row(name, one.tile, f"{one.nanoseconds / 1e3:.2f}", f"{one.nanoseconds / total:.1%}", rate)
    Console(width=160).print(table)


def _macs(layer: Layer) -> int:
    return work(layer) if isinstance(layer, PRODUCTS) else 0


def _with_clock(text: str) -> str:
    head, walk = text.split("static void run_", 1)
    body, rest = walk.split("\n}\n", 1)
    count = len(_CALL.findall(body))
    numbers = iter(range(-1, count))
    body = _CALL.sub(lambda found: f"    ew_tick({next(numbers)});\n{found.group(0)}", body)
    return f"{head}{_CLOCK}static void run_{body}\n    ew_tick({count - 1});\n}}\n{rest}"


def _built(files: Mapping[str, bytes], machine: Machine, folder: Path) -> Path:
    toolchain = find_toolchain(machine)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    sources = [name for name in files if name.endswith(".c")]
    command = [*toolchain.command, *COMPILE, *isa_options(machine, toolchain.name), *LINK, "-o", "layers.so", *sources]
    subprocess.run([*command, "-lgcc"] if toolchain.name == "gcc" else command, cwd=folder, check=True)
    return folder / "layers.so"


def _measured(library: Path) -> list[float]:
    loaded = Loaded(library)
    random = np.random.default_rng(0)
    inputs: dict[str, Array] = {
        port.name: np.asarray(random.normal(size=port.shape) * 30, NUMPY_OF_V2[port.datatype])
        for port in loaded.entry.inputs
    }
    call = loaded.bind(inputs)
    read = ctypes.CDLL(str(library)).ew_ticks
    read.restype = ctypes.POINTER(ctypes.c_uint64)
    ticks = np.ctypeslib.as_array(read(), (4096,))
    ticks[:] = np.iinfo(np.uint64).max
    start, calls = time.perf_counter(), 0
    while calls < CALLS or time.perf_counter() - start < SPENT_S / 4:
        call()
        calls += 1
        if time.perf_counter() - start > SPENT_S:
            break
    return [float(count) / _ticks_per_ns() for count in ticks.copy() if count < np.iinfo(np.uint64).max]


def _ticks_per_ns() -> float:
    facts = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    found = re.search(r"^cpu MHz\s*:\s*([\d.]+)$", facts, re.MULTILINE)
    return float(found.group(1)) / 1e3 if found else 1.0
