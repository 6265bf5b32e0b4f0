"""Times the tiles of a layer on this machine, in turn, so that what disturbs one disturbs all of them."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .kernel import Tile
from .kernels.families import kernel_of
from .loaded import NUMPY_OF_V2, Loaded
from .machine import Machine
from .net import Layer, Net, Tensor
from .source import make_source
from .toolchain import build

ROUNDS = 15
ROUND_NS = 200_000


def time_tiles(layer: Layer, machine: Machine, tiles: Sequence[Tile], rounds: int = ROUNDS) -> dict[Tile, float]:
    """Nanoseconds per call of every tile: the best round of each. About 1 µs of it is the call from Python."""
    net = Net(_distinct(layer.inputs), layer.outputs, (layer,))
    nets = {index + 1: net for index in range(len(tiles))}
    kernels = {index + 1: (kernel_of(layer, machine, tile),) for index, tile in enumerate(tiles)}
    with tempfile.TemporaryDirectory() as folder:
        path = build(make_source("tune", nets, kernels, machine, "").files, machine, Path(folder))
        calls = [Loaded(path, index) for index in range(len(tiles))]
        random = np.random.default_rng(0)
        inputs = {
            port.name: random.integers(0, 2, port.shape).astype(NUMPY_OF_V2[port.datatype])
            if port.datatype != "FP32"
            else random.normal(size=port.shape).astype(np.float32)
            for port in calls[0].entry.inputs
        }
        bound = [call.bind(inputs) for call in calls]
        best = [float("inf")] * len(tiles)
        for _ in range(rounds):
            for index, call in enumerate(calls):
                best[index] = min(best[index], _round(call, bound[index]))
    return dict(zip(tiles, best, strict=True))


def _round(call: Loaded, addresses: list[int]) -> float:
    call.call(addresses)
    start = time.perf_counter_ns()
    calls = 0
    while True:
        call.call(addresses)
        calls += 1
        spent = time.perf_counter_ns() - start
        if spent >= ROUND_NS:
            return spent / calls


def _distinct(tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
    return tuple({tensor.name: tensor for tensor in tensors}.values())
