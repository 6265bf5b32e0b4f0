"""A compiled library that runs on numpy arrays: for measuring, scoring and tests on this machine."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from edgewright.bundle.native_library import NativeLibrary

from .net import Array

NUMPY_OF_V2 = {
    "FP32": np.float32, "FP16": np.float16, "UINT8": np.uint8, "INT8": np.int8, "UINT16": np.uint16, "INT16": np.int16,
    "INT32": np.int32, "INT64": np.int64, "BOOL": np.bool_,
}  # fmt: skip


class Loaded:
    """One entry of a library, with buffers of its own; not for several threads."""

    def __init__(self, path: Path, entry: int = 0) -> None:
        self.library = NativeLibrary(path)
        self.entry = self.library.entries[entry]
        self._index = entry
        arena = np.zeros(self.entry.arena_bytes + 64, np.uint8)
        self._arena_start = -(-arena.ctypes.data // 64) * 64
        self._arena = arena
        self.outputs: dict[str, Array] = {
            port.name: np.zeros(port.shape, NUMPY_OF_V2[port.datatype]) for port in self.entry.outputs
        }
        self._output_addresses = [array.ctypes.data for array in self.outputs.values()]

    def bind(self, inputs: Mapping[str, Array]) -> list[int]:
        """Keeps the inputs, in the library's types and order, and returns their addresses."""
        self._inputs: list[Array] = [
            np.ascontiguousarray(inputs[port.name], NUMPY_OF_V2[port.datatype]).reshape(port.shape)
            for port in self.entry.inputs
        ]
        return [array.ctypes.data for array in self._inputs]

    def call(self, addresses: list[int]) -> None:
        """One inference into `outputs`."""
        self.library.call(self._index, addresses, self._output_addresses, self._arena_start)

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """One inference; the outputs are copies."""
        self.call(self.bind(inputs))
        return {name: array.copy() for name, array in self.outputs.items()}
