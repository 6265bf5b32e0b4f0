"""Chooses tiles by timing them on this machine, in turn, so that what disturbs one disturbs all of them.

What was chosen is kept by shape and instruction set (`shape_key.py`): the same layer in another net is not timed again,
and a build that replays a record makes the same code.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgewright.bundle.native_library import NativeTensor

from .kernel import Tile
from .kernels.families import kernel_of, tiles_of
from .loaded import NUMPY_OF_V2, Loaded
from .machine import Machine
from .net import Alias, Array, Convolution, Dense, Layer, Net, Tensor
from .shape_key import shape_key
from .source import make_source
from .toolchain import build
from .work import work

ROUNDS = 15
ROUND_NS = 200_000
MAX_PACKED_BYTES = 64 << 20
"""Of one layer's weights over all tiles that are timed: those of larger ones take longer to pack than to gain."""
COMPILING_SHARE = 0.7
"""Of the time that tuning may take; timing needs less."""


@dataclass(frozen=True)
class Choice:
    """The fastest tile of a layer."""

    tile: str
    """As it prints; `Tile` itself where the families still offer it."""
    nanoseconds: float


Choices = Mapping[str, Choice]
"""By shape key."""


def chosen_tile(layer: Layer, machine: Machine, choices: Choices) -> Tile:
    """What was chosen for a layer, or the best guess where nothing was, or where it is not offered any more."""
    offered = tiles_of(layer, machine)
    choice = choices.get(shape_key(layer, machine))
    return next((tile for tile in offered if choice is not None and str(tile) == choice.tile), offered[0])


def tune(
    layers: Iterable[Layer],
    machine: Machine,
    known: Choices,
    limit_s: float,
    advance: Callable[[int], None] = lambda _: None,
    clock: Callable[[], float] = time.monotonic,
) -> dict[str, Choice]:
    """Choices for layers that are not known, those that cost most first, as far as the time goes."""
    wanted = {shape_key(layer, machine): layer for layer in layers if not isinstance(layer, Alias)}
    new = {
        key: layer for key, layer in wanted.items() if key not in known and len(affordable_tiles(layer, machine)) > 1
    }
    found: dict[str, Choice] = {}
    start = clock()
    with tempfile.TemporaryDirectory() as folder:
        ordered = sorted(new.items(), key=lambda item: (-work(item[1]), item[0]))

        def compiled(item: tuple[str, Layer]) -> Path | None:
            if clock() - start > limit_s * COMPILING_SHARE:
                return None
            path = Path(folder) / item[0]
            path.mkdir()
            return _library(item[1], machine, affordable_tiles(item[1], machine), path)

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            libraries = list(pool.map(compiled, ordered))
        for (key, layer), library in zip(ordered, libraries, strict=True):
            if library is not None and clock() - start < limit_s:
                timed = _timed(library, affordable_tiles(layer, machine), ROUNDS)
                best = min(timed, key=lambda tile: (timed[tile], str(tile)))
                found[key] = Choice(str(best), timed[best])
            advance(1)
    return found


def affordable_tiles(layer: Layer, machine: Machine) -> tuple[Tile, ...]:
    """The best guesses of a layer, so many that its weights, packed once for each, stay within bounds."""
    size_bytes = layer.weight.nbytes if isinstance(layer, Convolution | Dense) else 0
    return tiles_of(layer, machine)[: max(1, MAX_PACKED_BYTES // max(1, size_bytes))]


def time_tiles(layer: Layer, machine: Machine, tiles: Sequence[Tile], rounds: int = ROUNDS) -> dict[Tile, float]:
    """Nanoseconds per call of every tile: the best round of each. About 1 µs of it is the call from Python."""
    with tempfile.TemporaryDirectory() as folder:
        return _timed(_library(layer, machine, tiles, Path(folder)), tiles, rounds)


def _library(layer: Layer, machine: Machine, tiles: Sequence[Tile], folder: Path) -> Path:
    """A layer by every tile, one entry each."""
    net = Net(_distinct(layer.inputs), layer.outputs, (layer,))
    nets = {index + 1: net for index in range(len(tiles))}
    kernels = {index + 1: (kernel_of(layer, machine, tile),) for index, tile in enumerate(tiles)}
    return build(make_source("tune", nets, kernels, machine, "").files, machine, folder)


def _timed(library: Path, tiles: Sequence[Tile], rounds: int) -> dict[Tile, float]:
    entries = [Loaded(library, index) for index in range(len(tiles))]
    inputs = _random_inputs(entries[0])
    calls = [entry.bind(inputs) for entry in entries]
    best = [float("inf")] * len(tiles)
    for _ in range(rounds):
        for index, call in enumerate(calls):
            best[index] = min(best[index], _round(call))
    return dict(zip(tiles, best, strict=True))


def _random_inputs(loaded: Loaded) -> dict[str, Array]:
    random = np.random.default_rng(0)

    def values(port: NativeTensor) -> Array:
        floating = port.datatype in ("FP32", "FP16")
        found = random.normal(size=port.shape) if floating else random.integers(0, 2, port.shape)
        return np.asarray(found, NUMPY_OF_V2[port.datatype])

    return {port.name: values(port) for port in loaded.entry.inputs}


def _round(call: Callable[[], None]) -> float:
    call()
    start = time.perf_counter_ns()
    calls = 0
    while True:
        call()
        calls += 1
        spent = time.perf_counter_ns() - start
        if spent >= ROUND_NS:
            return spent / calls


def _distinct(tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
    return tuple({tensor.name: tensor for tensor in tensors}.values())
