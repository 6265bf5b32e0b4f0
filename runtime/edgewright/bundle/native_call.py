"""Calls of a compiled model on numpy arrays: the same for devices, which serve it, and the compiler, which times it.

A call costs a microsecond beside the model itself, because small models take ten: arrays are passed by address, nothing
is copied or converted that fits, and everything that does not depend on the values is prepared once per batch size.
"""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgewright.targets.faults import UserFault

from .array_address import address_of
from .native_library import NativeLibrary
from .native_plan import Plan, Ports, Shape, make_plan
from .native_threads import Pool, divided, useful_threads

MAX_PLANS = 256
"""Batch sizes whose preparation is kept."""


Run = Callable[[Mapping[str, NDArray[Any]]], dict[str, NDArray[Any]]]


class InputRefused(UserFault):
    """An input of another form than the model's."""


class _Frame:
    """What one call at a time may use: tables of pointers, and an arena."""

    __slots__ = ("arena", "input_table", "inputs", "memory", "output_table", "outputs")

    def __init__(self, input_count: int, output_count: int, arena_bytes: int) -> None:
        self.inputs = (ctypes.c_void_p * input_count)()
        self.outputs = (ctypes.c_void_p * output_count)()
        self.input_table = ctypes.byref(self.inputs)
        self.output_table = ctypes.byref(self.outputs)
        # Pages of its own: aligned for every instruction set, taken when they are touched, given back when closed.
        self.memory = mmap.mmap(-1, max(arena_bytes, 1), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self.arena = ctypes.c_void_p(ctypes.addressof(ctypes.c_char.from_buffer(self.memory)))


class NativeBatch:
    """Input buffers for a batch of one size, aligned as the library wants them."""

    __slots__ = ("_run", "inputs")

    def __init__(self, run: Run, ports: Ports, rows: int) -> None:
        self._run = run
        self.inputs = {port.name: np.zeros(port.of(rows), port.dtype) for port in ports.inputs}

    def run(self) -> dict[str, NDArray[Any]]:
        """Returns every output by name, in arrays of its own."""
        return self._run(self.inputs)


class NativeInstance:
    """A loaded library; `run` may be called from any number of threads, and holds no lock while the model runs."""

    def __init__(self, library: NativeLibrary, ports: Ports, threads: int = 1) -> None:
        """Takes a library over: closing the instance closes it.

        Args:
            library: the model.
            ports: its tensors.
            threads: of one call, at most; see `useful_threads`. They are started here and stopped by `close`. Of
                several calls at one time one has them all, and the others run in a thread each.

        Raises:
            EnvironmentFault: the system gives no more threads.
        """
        self._library = library
        threads = useful_threads(library, threads)
        self._pool = Pool(threads) if threads > 1 else None
        count = len(library.entries)
        self._functions = [
            library.function(index) if self._pool is None else divided(library, index, self._pool)
            for index in range(count)
        ]
        self._ports = ports
        self._leading = ports.leading
        self._plans: dict[int, Plan] = {}
        self._frames: list[_Frame] = []
        self._closed = False

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Returns every output by name, in arrays of its own.

        Raises:
            InputRefused: an input is missing, or has another datatype or shape than the manifest says.
        """
        try:
            plan = self._plans[1 if self._leading is None else len(inputs[self._leading])]
        except (KeyError, TypeError):
            plan = self._plan(inputs)
        try:
            frame = self._frames.pop()
        except IndexError:
            frame = self._new_frame()
        try:
            return self._run(plan, frame, inputs)
        finally:
            self._frames.append(frame)

    def frame(self, rows: int) -> NativeBatch:
        """Returns buffers to write a batch into."""
        return NativeBatch(self.run, self._ports, rows)

    def _run(self, plan: Plan, frame: _Frame, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        if len(inputs) != len(plan.inputs):
            raise InputRefused(f"inputs {sorted(inputs)}, expected {[port.name for port in self._ports.inputs]}")
        kept = []  # alive until the library has read them
        table = frame.inputs
        for place, name, shape, dtype in plan.inputs:
            array = inputs.get(name)
            if (
                type(array) is not np.ndarray
                or array.dtype is not dtype
                or array.shape != shape
                or not array.flags.c_contiguous
            ):
                array = _fitted(array, name, shape, dtype)
            address = address_of(array)
            if address % dtype.alignment:
                array = array.copy()
                address = address_of(array)
            kept.append(array)
            table[place] = address
        outputs = {}
        table = frame.outputs
        for place, name, shape, dtype in plan.outputs:
            outputs[name] = array = np.empty(shape, dtype)
            table[place] = address_of(array)
        if plan.only is not None:
            plan.only(frame.input_table, frame.output_table, frame.arena)
        else:
            _run_parts(plan, frame)
        return outputs

    def _plan(self, inputs: Mapping[str, NDArray[Any]]) -> Plan:
        """The plan for as many samples as there are; made once for each number."""
        if self._closed:
            raise RuntimeError("this model is closed")
        rows = 1
        if self._leading is not None:
            leading = inputs.get(self._leading)
            if not isinstance(leading, np.ndarray) or not leading.ndim:
                raise InputRefused(f"input '{self._leading}' is missing or not an array with a batch axis")
            rows = len(leading)
        plan = self._plans.get(rows) or make_plan(self._library.entries, self._functions, self._ports, rows)
        if len(self._plans) < MAX_PLANS:
            self._plans[rows] = plan
        return plan

    def _new_frame(self) -> _Frame:
        arena_bytes = max(max(entry.arena_bytes, entry.part_arena_bytes) for entry in self._library.entries)
        return _Frame(len(self._ports.inputs), len(self._ports.outputs), arena_bytes)

    def close(self) -> None:
        self._closed = True
        self._plans.clear()
        self._frames.clear()
        self._functions.clear()
        if self._pool is not None:
            self._pool.close()
        self._library.close()


def _run_parts(plan: Plan, frame: _Frame) -> None:
    """Largest entries first, each on its part of the arrays."""
    inputs, outputs = frame.inputs, frame.outputs
    for part in plan.parts:
        for _ in range(part.count):
            part.run(frame.input_table, frame.output_table, frame.arena)
            for place, step in enumerate(part.input_steps):
                inputs[place] = (inputs[place] or 0) + step
            for place, step in enumerate(part.output_steps):
                outputs[place] = (outputs[place] or 0) + step


def _fitted(array: Any, name: str, shape: Shape, dtype: np.dtype[Any]) -> NDArray[Any]:
    """The array in one piece and in this machine's byte order; values and form are never changed."""
    if not isinstance(array, np.ndarray):
        what = "is missing" if array is None else f"is of type {type(array).__name__}"
        raise InputRefused(f"input '{name}' {what}, expected an array of {dtype} {list(shape)}")
    if array.shape != shape or array.dtype.newbyteorder("=") != dtype:
        raise InputRefused(f"input '{name}' is {array.dtype} {list(array.shape)}, expected {dtype} {list(shape)}")
    return np.array(array, dtype, order="C")
