"""Runs batches: rows of several jobs go into one call of the engine, and each job gets its part of the outputs."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edgewright.bundle.datatypes import NUMPY_OF_DATATYPE
from edgewright.bundle.manifest import Manifest, TensorSpec

from ...engines.protocol import Frame, Framed, Instance, WorkerLost
from ..pipeline import Tensors
from .execution import BatchTimes, Executed, Execution, Outputs
from .queue import Waiting

_FRAME_BYTES = 8 * 1024 * 1024
"""Inputs of all frames of one runner. Larger batches are joined in memory of their own: copying is then most of it."""


class Lane(Protocol):
    """Where it is noted that an execution is under way; see `black_box`."""

    def begin(self) -> None: ...

    def end(self) -> None: ...


class _NoLane:
    """Notes nothing."""

    def begin(self) -> None: ...

    def end(self) -> None: ...


class Runner:
    """Executes jobs on an engine. Batches of several jobs come from one thread at a time; `run` may from any.

    Attributes:
        batchable: whether several jobs can share a call: every tensor has a free batch as its first axis.
        row_bytes: of the inputs of one row; None where that is not known before.
    """

    def __init__(self, instance: Instance, manifest: Manifest, lane: Lane | None = None) -> None:
        """Prepares nothing.

        Args:
            instance: the loaded model.
            manifest: what its tensors are.
            lane: of the black box (`begin()`, `end()`); None where there is none.
        """
        self._instance = instance
        self._outputs = [(spec.name, _dtype(spec)) for spec in manifest.outputs]
        self._names = [spec.name for spec in manifest.inputs]
        self._lane: Lane = lane if lane is not None else _NoLane()
        self._frames: dict[int, Frame | None] = {}
        self._frame_bytes_left = _FRAME_BYTES
        self.batchable = is_batchable(manifest)
        self._same_shapes = all(-1 not in spec.shape[1:] for spec in manifest.inputs)
        row_bytes = sum(math.prod(spec.shape[1:]) * _dtype(spec).itemsize for spec in manifest.inputs)
        self.row_bytes = row_bytes if self._same_shapes and self.batchable else None

    def run(self, inputs: Tensors) -> Outputs:
        """Run one job; raises whatever the engine does, and TypeError where an output is of another datatype."""
        lane = self._lane
        lane.begin()
        try:
            outputs = self._instance.run(inputs)
        finally:
            lane.end()
        for name, dtype in self._outputs:
            if outputs[name].dtype != dtype:
                raise TypeError(f"output {name!r} is {outputs[name].dtype}, expected {dtype}")
        return outputs

    def run_batch(self, batch: Sequence[Waiting], executed: Executed) -> list[Execution]:
        """Run jobs together and say how each ended, in their order. What fails together is tried one by one."""
        try:
            return self._run_batch(batch, executed)
        except Exception as error:  # noqa: BLE001 - a fault of ours: even then each of them is answered
            return [Execution(None, error, None, 0, 0, waiting.rows) for waiting in batch]

    def _run_batch(self, batch: Sequence[Waiting], executed: Executed) -> list[Execution]:
        if len(batch) == 1:
            return [self._alone(batch[0], executed)]
        if self._same_shapes:
            return self._together(batch, executed)
        results: dict[int, Execution] = {}
        for group in _groups(batch, self._names):
            ended = [self._alone(group[0], executed)] if len(group) == 1 else self._together(group, executed)
            results.update(zip(map(id, group), ended, strict=True))
        return [results[id(waiting)] for waiting in batch]

    def warm(self, row: Tensors, rows: int) -> None:
        """Run a batch of copies of one row, as the server would."""
        if rows == 1:
            self.run(row)
        else:
            self._call([row] * rows, rows)

    def _alone(self, waiting: Waiting, executed: Executed) -> Execution:
        begun_ns = time.perf_counter_ns()
        outputs, error = None, None
        try:
            outputs = self.run(waiting.job.inputs)
        except Exception as caught:  # noqa: BLE001 - an engine may raise anything; it is this job that failed
            error = caught
        took_ns = time.perf_counter_ns() - begun_ns
        executed(BatchTimes(waiting.rows, 0, took_ns, 0))
        return Execution(outputs, error, None, begun_ns - waiting.submitted_ns, took_ns, waiting.rows)

    def _together(self, batch: Sequence[Waiting], executed: Executed) -> list[Execution]:
        begun_ns = time.perf_counter_ns()
        rows = sum(waiting.job.rows for waiting in batch)
        try:
            outputs, input_ns, infer_ns = self._call([waiting.job.inputs for waiting in batch], rows)
            parts = _parts(outputs, batch)
        except WorkerLost as lost:  # the same again would only end it again
            return [Execution(None, lost, None, begun_ns - waiting.submitted_ns, 0, rows) for waiting in batch]
        except Exception:  # noqa: BLE001 - one of them may be at fault, and then only that one fails
            return [self._alone(waiting, executed) for waiting in batch]
        took_ns = time.perf_counter_ns() - begun_ns
        executed(BatchTimes(rows, input_ns, infer_ns, took_ns - input_ns - infer_ns))
        return [
            Execution(part, None, None, begun_ns - waiting.submitted_ns, took_ns, rows)
            for part, waiting in zip(parts, batch, strict=True)
        ]

    def _call(self, inputs: Sequence[Tensors], rows: int) -> tuple[Outputs, int, int]:
        """One call for all; returns outputs, and the nanoseconds of joining and of running."""
        begun_ns = time.perf_counter_ns()
        frame = self._frame(rows)
        run: Callable[[], Outputs]
        if frame is not None:
            for name, buffer in frame.inputs.items():
                np.concatenate([each[name] for each in inputs], out=buffer)
            run = frame.run
        else:
            joined = {name: np.concatenate([each[name] for each in inputs]) for name in self._names}
            run = lambda: self._instance.run(joined)  # noqa: E731 - the other of two ways to do it
        joined_ns = time.perf_counter_ns()
        self._lane.begin()
        try:
            outputs = run()
        finally:
            self._lane.end()
        for name, dtype in self._outputs:
            if outputs[name].dtype != dtype or len(outputs[name]) != rows:
                raise TypeError(f"output {name!r} is {outputs[name].dtype} of {len(outputs[name])} rows, not {rows}")
        return outputs, joined_ns - begun_ns, time.perf_counter_ns() - joined_ns

    def _frame(self, rows: int) -> Frame | None:
        try:
            return self._frames[rows]
        except KeyError:
            frame = self._frames[rows] = self._new_frame(rows)
            return frame

    def _new_frame(self, rows: int) -> Frame | None:
        if not self._same_shapes or not isinstance(self._instance, Framed):
            return None
        size_bytes = rows * (self.row_bytes or 0)
        if size_bytes > self._frame_bytes_left:
            return None
        self._frame_bytes_left -= size_bytes
        return self._instance.frame(rows)


def is_batchable(manifest: Manifest) -> bool:
    """Whether rows of several jobs can be one batch."""
    return all(spec.shape[:1] == (-1,) for spec in (*manifest.inputs, *manifest.outputs))


def _dtype(spec: TensorSpec) -> np.dtype[Any]:
    return NUMPY_OF_DATATYPE[spec.datatype]


def _groups(batch: Sequence[Waiting], names: Sequence[str]) -> Iterable[list[Waiting]]:
    """Jobs whose rows have the same shapes."""
    groups: dict[tuple[tuple[int, ...], ...], list[Waiting]] = {}
    for waiting in batch:
        inputs = waiting.job.inputs
        groups.setdefault(tuple(inputs[name].shape[1:] for name in names), []).append(waiting)
    return groups.values()


def _parts(outputs: Mapping[str, NDArray[Any]], batch: Sequence[Waiting]) -> list[Outputs]:
    """Each job's rows: views, as no engine writes into outputs that it gave away."""
    parts, start = [], 0
    for waiting in batch:
        end = start + waiting.job.rows
        parts.append({name: array[start:end] for name, array in outputs.items()})
        start = end
    return parts
