"""A compiled model as a shared library: what it says of itself, and how it is called (docs/formats/native.md).

This is the only place that knows the ABI in Python; the compiler measures through it and devices serve through it.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from pathlib import Path

ABI = 1
MAX_RANK = 16


class _Tensor(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p),
        ("datatype", ctypes.c_char_p),
        ("rank", ctypes.c_uint32),
        ("reserved", ctypes.c_uint32),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("size_bytes", ctypes.c_uint64),
    )


class _Entry(ctypes.Structure):
    _fields_ = (
        ("batch", ctypes.c_uint32),
        ("arena_alignment", ctypes.c_uint32),
        ("arena_bytes", ctypes.c_uint64),
        ("inputs", ctypes.POINTER(_Tensor)),
        ("outputs", ctypes.POINTER(_Tensor)),
        ("run", ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)),
        ("run_part", ctypes.c_void_p),
        ("part_arena_bytes", ctypes.c_uint64),
        ("max_parts", ctypes.c_uint32),
        ("reserved", ctypes.c_uint32),
    )


class _Model(ctypes.Structure):
    _fields_ = (
        ("abi", ctypes.c_uint32),
        ("input_count", ctypes.c_uint32),
        ("output_count", ctypes.c_uint32),
        ("entry_count", ctypes.c_uint32),
        ("model", ctypes.c_char_p),
        ("isa", ctypes.c_char_p),
        ("toolchain", ctypes.c_char_p),
        ("entries", ctypes.POINTER(_Entry)),
        ("reserved", ctypes.c_void_p * 4),
    )


@dataclass(frozen=True)
class NativeTensor:
    """One input or output of an entry."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    size_bytes: int


@dataclass(frozen=True)
class NativeEntry:
    """One batch size."""

    batch: int
    arena_bytes: int
    arena_alignment: int
    inputs: tuple[NativeTensor, ...]
    outputs: tuple[NativeTensor, ...]


class NativeLibrary:
    """A loaded library. Loading runs no code of it but `edgewright_describe`."""

    def __init__(self, path: Path) -> None:
        self._library = ctypes.CDLL(str(path), mode=ctypes.RTLD_LOCAL)
        describe = self._library.edgewright_describe
        describe.restype = ctypes.POINTER(_Model)
        model = describe().contents
        if model.abi != ABI:
            raise ValueError(f"{path.name} has ABI {model.abi}, this version reads {ABI}")
        self.isa = tuple(model.isa.decode().split())
        self.toolchain: str = model.toolchain.decode()
        self.entries = tuple(_entry(model, model.entries[index]) for index in range(model.entry_count))
        self._run = [model.entries[index].run for index in range(model.entry_count)]

    def call(self, entry: int, inputs: list[int], outputs: list[int], arena: int) -> None:
        """Runs an entry on addresses of buffers; the interpreter lock is not held meanwhile."""
        self._run[entry]((ctypes.c_void_p * len(inputs))(*inputs), (ctypes.c_void_p * len(outputs))(*outputs), arena)


def _entry(model: _Model, entry: _Entry) -> NativeEntry:
    return NativeEntry(
        batch=entry.batch,
        arena_bytes=entry.arena_bytes,
        arena_alignment=entry.arena_alignment,
        inputs=tuple(_tensor(entry.inputs[index]) for index in range(model.input_count)),
        outputs=tuple(_tensor(entry.outputs[index]) for index in range(model.output_count)),
    )


def _tensor(tensor: _Tensor) -> NativeTensor:
    shape = tuple(tensor.shape[axis] for axis in range(min(tensor.rank, MAX_RANK)))
    return NativeTensor(tensor.name.decode(), tensor.datatype.decode(), shape, tensor.size_bytes)
