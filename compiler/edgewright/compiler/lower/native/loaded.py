"""A compiled library that runs on numpy arrays: for tuning, scoring and tests on this machine."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from edgewright.bundle.native_library import NativeLibrary, NativeTensor

from .memory import ALIGNMENT_BYTES
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
        self._function = self.library.function(entry)
        arena = np.zeros(self.entry.arena_bytes + ALIGNMENT_BYTES, np.uint8)
        start = -(-arena.ctypes.data // ALIGNMENT_BYTES) * ALIGNMENT_BYTES
        self._arena = arena
        self._arena_start = ctypes.c_void_p(start)
        self.outputs: dict[str, Array] = {port.name: _buffer(port) for port in self.entry.outputs}
        self._output_table = _table(list(self.outputs.values()))

    def bind(self, inputs: Mapping[str, Array]) -> Callable[[], None]:
        """One inference into `outputs`, as a call that costs half a microsecond beside the inference itself.

        The inputs are copied as they are now, to places that are aligned as the outputs are: where data lies must not
        decide which of two tiles is the faster one. The call keeps the library and all that it touches.
        """
        arrays = [_buffer(port) for port in self.entry.inputs]
        for port, array in zip(self.entry.inputs, arrays, strict=True):
            array[...] = np.reshape(inputs[port.name], port.shape)
        function, table, output_table, arena = self._function, _table(arrays), self._output_table, self._arena_start

        def call() -> None:
            function(table, output_table, arena)

        call.__dict__["kept"] = (self, arrays)
        return call

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """One inference; the outputs are copies."""
        self.bind(inputs)()
        return {name: array.copy() for name, array in self.outputs.items()}


def _buffer(port: NativeTensor) -> Array:
    """An aligned array of zeros."""
    bytes_ = np.zeros(port.size_bytes + ALIGNMENT_BYTES, np.uint8)
    start = -bytes_.ctypes.data % ALIGNMENT_BYTES
    return bytes_[start : start + port.size_bytes].view(NUMPY_OF_V2[port.datatype]).reshape(port.shape)


def _table(arrays: list[Array]) -> ctypes.Array[ctypes.c_void_p]:
    return (ctypes.c_void_p * len(arrays))(*(array.ctypes.data for array in arrays))
