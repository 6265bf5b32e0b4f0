"""The contents of a file's constants, each once, aligned as runtimes map them."""

from __future__ import annotations

import hashlib
from typing import Any, Final

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from ...faults import UnsupportedModel
from .model import Array

ALIGNMENT_BYTES: Final = 16
"""`force_align: 16` of Buffer.data in schema.fbs; kernels load vectors from there. Generated code does not keep it."""
MAX_FILE_BYTES: Final = 2**31 - 1
"""Offsets of flatbuffers are signed 32-bit numbers."""


class Buffers:
    """Equal contents lie in one buffer; the first is empty, as the format wants."""

    def __init__(self, limit_bytes: int = MAX_FILE_BYTES) -> None:
        self.tables: list[Any] = [schema.BufferT()]
        self.size_bytes = 0
        self._limit_bytes = limit_bytes
        self._known: dict[bytes, int] = {}

    def of(self, array: Array, name: str) -> int:
        """The index of the buffer with these numbers, little-endian in C order; `name` is for messages.

        Raises:
            UnsupportedModel: all contents together are larger than a file can be.
        """
        self._bounded(array.nbytes, name)  # before anything is copied
        content = _bytes_of(array)
        digest = hashlib.sha256(content.data).digest()
        if digest not in self._known:
            self._bounded(self.size_bytes + array.nbytes, name)
            self.size_bytes += array.nbytes
            self._known[digest] = len(self.tables)
            self.tables.append(_Aligned(content))
        return self._known[digest]

    def _bounded(self, size_bytes: int, name: str) -> None:
        if size_bytes > self._limit_bytes:
            raise UnsupportedModel(
                f"constants up to {name!r} take {size_bytes} bytes, but a .tflite file has at most "
                f"{self._limit_bytes}: store weights in int8 (--budget, --plan) or half precision, or split the model"
            )


class _Aligned:
    """A Buffer table in the object interface of the schema, whose data begin at a multiple of 16 bytes."""

    def __init__(self, content: Array) -> None:
        self._content = content

    def Pack(self, builder: Any) -> int:  # noqa: N802 -- what the generated tables call
        size = self._content.size
        builder.StartVector(1, size, ALIGNMENT_BYTES)
        builder.head = head = builder.Head() - size  # as CreateNumpyVector does, which aligns to the element only
        memoryview(builder.Bytes)[head : head + size] = self._content.data
        data = builder.EndVector()
        schema.BufferStart(builder)
        schema.BufferAddData(builder, data)
        return int(schema.BufferEnd(builder))


def _bytes_of(array: Array) -> Array:
    """A view of the array's bytes; a copy where it is neither contiguous nor little-endian."""
    little = np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<"), copy=False)
    return little.reshape(-1).view(np.uint8)
