"""Runs an entry of a library by one thread and by several, on numpy arrays."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from edgewright.bundle.native_library import NativeLibrary
from edgewright.bundle.native_threads import Pool
from edgewright.compiler.lower.native.loaded import NUMPY_OF_V2
from edgewright.compiler.lower.native.net import Array


class SharedCalls:
    """A library, and memory for one call at a time."""

    def __init__(self, path: Path) -> None:
        self.library = NativeLibrary(path)

    def run(self, entry: int, inputs: Mapping[str, Array], pool: Pool | None = None) -> dict[str, Array]:
        """The outputs; by the threads of a pool, or by this one. What was not written is 0xAB."""
        ports = self.library.entries[entry]
        given: list[Array] = [
            np.ascontiguousarray(inputs[port.name], NUMPY_OF_V2[port.datatype]).reshape(port.shape)
            for port in ports.inputs
        ]
        made: dict[str, Array] = {port.name: np.empty(port.shape, NUMPY_OF_V2[port.datatype]) for port in ports.outputs}
        for array in made.values():
            array.view(np.uint8).fill(0xAB)
        tables = tuple(
            ctypes.byref((ctypes.c_void_p * len(arrays))(*(array.ctypes.data for array in arrays)))
            for arrays in (given, list(made.values()))
        )
        size, alignment = max(ports.arena_bytes, ports.part_arena_bytes), ports.arena_alignment
        memory = np.full(size + alignment, 0xAB, np.uint8)
        arena = ctypes.c_void_p(-(-memory.ctypes.data // alignment) * alignment)
        if pool is None:
            self.library.function(entry)(*tables, arena)
        else:
            run_part = self.library.part_function(entry)
            assert run_part is not None
            assert pool.call(run_part, tables, arena, alignment)
        return made
