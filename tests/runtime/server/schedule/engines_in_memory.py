"""Engines that are formulas, for tests of the scheduler's shells."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgewright.bundle.manifest import Manifest, StatePair, TensorSpec
from edgewright.runtime.server.pipeline import Job

Tensors = Mapping[str, NDArray[Any]]


def doubled(inputs: Tensors) -> dict[str, NDArray[Any]]:
    return {"y": inputs["x"] * 2}


class MemoryEngine:
    """An instance whose `run` is a function. It remembers how many rows each call had, and in which thread."""

    def __init__(self, run: Callable[[Tensors], dict[str, NDArray[Any]]] = doubled) -> None:
        self._run = run
        self.calls: list[int] = []
        self.threads: set[str] = set()

    def run(self, inputs: Tensors) -> dict[str, NDArray[Any]]:
        self.calls.append(len(inputs["x"]))
        self.threads.add(threading.current_thread().name)
        return self._run(inputs)

    def close(self) -> None:
        """Nothing."""


class MemoryFrame:
    """A frame over a `MemoryEngine`."""

    def __init__(self, engine: MemoryEngine, rows: int) -> None:
        self.inputs = {"x": np.zeros((rows, 2), np.float32)}
        self._engine = engine

    def run(self) -> dict[str, NDArray[Any]]:
        return self._engine.run(self.inputs)


class FramedEngine(MemoryEngine):
    """One that has frames."""

    def __init__(self, run: Callable[[Tensors], dict[str, NDArray[Any]]] = doubled) -> None:
        super().__init__(run)
        self.frames: list[int] = []

    def frame(self, rows: int) -> MemoryFrame:
        self.frames.append(rows)
        return MemoryFrame(self, rows)


def tensor(name: str, *shape: int) -> TensorSpec:
    return TensorSpec(name=name, datatype="FP32", shape=shape)


def manifest_of(
    template: Manifest,
    inputs: tuple[TensorSpec, ...] = (tensor("x", -1, 2),),
    outputs: tuple[TensorSpec, ...] = (tensor("y", -1, 2),),
    state: tuple[StatePair, ...] = (),
) -> Manifest:
    """A manifest with other tensors."""
    import msgspec

    return msgspec.structs.replace(template, inputs=inputs, outputs=outputs, state=state)


def job_of(value: float, rows: int = 1, width: int = 2, **changes: Any) -> Job:
    return Job({"x": np.full((rows, width), value, np.float32)}, rows, 0, **changes)
