"""A compiled model as a shared library: what it says of itself, and how it is called (docs/formats/native.md).

This is the only place that knows the ABI in Python; the compiler measures through it and devices serve through it.

A library is code: whoever loads one has decided to trust its bytes, and nothing here can make that undone. What is read
of its description is bounded all the same, so that a damaged or foreign file is a sentence and not a crash.
"""

from __future__ import annotations

import ctypes
import math
import os
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import BundleError

ABI = 1
MAX_RANK = 16
MAX_TENSORS = 256
"""Inputs, and outputs."""
MAX_ENTRIES = 64
MAX_BATCH = 1 << 16
MAX_TEXT_BYTES = 4096
MAX_BYTES = 1 << (40 if ctypes.sizeof(ctypes.c_void_p) == 8 else 31)
"""Of a tensor, and of an arena."""
MAX_PARTS = 1024
"""Threads of one call."""
MAX_ALIGNMENT = 4096
"""What a page gives."""
ITEM_BYTES = {
    "BOOL": 1, "UINT8": 1, "INT8": 1, "UINT16": 2, "INT16": 2, "FP16": 2, "UINT32": 4, "INT32": 4, "FP32": 4,
    "UINT64": 8, "INT64": 8, "FP64": 8,
}  # fmt: skip
"""Datatypes that a library may have; strings and bfloat16 have no array on the device."""


class NativeLibraryError(BundleError):
    """This file is not a compiled model, or not one that this version can call."""


class _Tensor(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_void_p),
        ("datatype", ctypes.c_void_p),
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
        ("run", ctypes.c_void_p),
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
        ("model", ctypes.c_void_p),
        ("isa", ctypes.c_void_p),
        ("toolchain", ctypes.c_void_p),
        ("entries", ctypes.POINTER(_Entry)),
        ("reserved", ctypes.c_void_p * 4),
    )


_RUN = ctypes.CFUNCTYPE(None)
"""Of an entry's `run` and `run_part`. Without declared arguments ctypes passes its own objects as they are, its fastest
way; they must be given such objects only. The interpreter lock is released for the call."""

_system = ctypes.CDLL(None)
_system.dlclose.argtypes = (ctypes.c_void_p,)
_system.strnlen.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
_system.strnlen.restype = ctypes.c_size_t


@dataclass(frozen=True)
class NativeTensor:
    """One input or output of an entry."""

    name: str
    datatype: str
    """As in the V2 protocol."""
    shape: tuple[int, ...]
    """The entry's batch included."""
    size_bytes: int


@dataclass(frozen=True)
class NativeEntry:
    """One batch size."""

    batch: int
    arena_bytes: int
    arena_alignment: int
    inputs: tuple[NativeTensor, ...]
    outputs: tuple[NativeTensor, ...]
    part_arena_bytes: int = 0
    """Of a call by several threads."""
    max_parts: int = 0
    """Threads that can share a call; 0 where it cannot be shared."""


class NativeLibrary:
    """A loaded library. Loading runs no code of it but `edgewright_describe`.

    Attributes:
        isa: processor features that the code needs, as /proc/cpuinfo spells them.
        toolchain: what compiled it.
        entries: one per batch size, ascending.
    """

    def __init__(self, path: Path, descriptor: int | None = None) -> None:
        """Loads a library.

        Args:
            path: the file.
            descriptor: loads the very file that is open here, whatever `path` has come to name meanwhile.

        Raises:
            NativeLibraryError: it cannot be loaded, has another ABI, or describes itself in a way that cannot be.
        """
        name = path.name
        # Without a slash the loader would search its own folders instead.
        address = str(path.absolute())
        # A descriptor of our own, for as long as the library is loaded: the loader knows libraries by the name that it
        # was given, and would take another file that got the same number for this one.
        kept = -1
        if descriptor is not None:
            kept = os.dup(descriptor)
            address = f"/proc/self/fd/{kept}"
        try:
            library = ctypes.CDLL(address, mode=ctypes.RTLD_LOCAL | os.RTLD_NOW)
        except OSError as error:
            _close(kept)
            reason = str(error).removeprefix(f"{address}: ")
            raise NativeLibraryError(f"{name} cannot be loaded: {reason}") from error
        handle: int = library._handle  # noqa: SLF001 - documented, in spite of its name
        self._unload = weakref.finalize(self, _unload, handle, kept)
        self._unload.atexit = False  # other threads may still be inside
        try:
            self._read(library, name)
        except BaseException:
            self.close()
            raise

    def _read(self, library: ctypes.CDLL, name: str) -> None:
        try:
            describe = library.edgewright_describe
        except AttributeError as error:
            raise NativeLibraryError(f"{name} is a library, but not a compiled model") from error
        describe.restype = ctypes.POINTER(_Model)
        pointer = describe()
        if not pointer:
            raise NativeLibraryError(f"{name} does not describe itself")
        model: _Model = pointer.contents
        if model.abi != ABI:
            raise NativeLibraryError(
                f"{name} has ABI {model.abi}, this version calls {ABI}: compile the model again with this version"
            )
        try:
            self.isa = tuple(_text(model.isa, "isa").split())
            self.toolchain = _text(model.toolchain, "toolchain")
            self.entries = _entries(model)
        except _Impossible as problem:
            raise NativeLibraryError(f"{name} describes itself in a way that cannot be: {problem}") from problem
        entries = [model.entries[index] for index in range(len(self.entries))]
        self._run: list[Callable[..., None]] = [_RUN(entry.run) for entry in entries]
        self._run_part = [_RUN(entry.run_part) if entry.run_part else None for entry in entries]

    def function(self, entry: int) -> Callable[..., None]:
        """`run` of an entry, for callers that count nanoseconds; gone after `close`.

        It takes three ctypes pointers (`byref` of an array of `c_void_p` to the inputs, the same of the outputs, and
        the arena as `c_void_p`), checks nothing, and does not hold the interpreter lock while it runs.
        """
        return self._run[entry]

    def part_function(self, entry: int) -> Callable[..., None] | None:
        """`run_part` of an entry, for `native_threads`; None where a call cannot be shared.

        As `function`, with two arguments more: the part and the number of parts, as `c_uint32`.
        """
        return self._run_part[entry]

    def call(self, entry: int, inputs: list[int], outputs: list[int], arena: int) -> None:
        """Runs an entry on addresses of buffers; the interpreter lock is not held meanwhile."""
        self._run[entry](
            (ctypes.c_void_p * len(inputs))(*inputs),
            (ctypes.c_void_p * len(outputs))(*outputs),
            ctypes.c_void_p(arena),
        )

    def close(self) -> None:
        """Unloads it, as the end of this object does. No call is under way and none follows."""
        self._run, self._run_part = [], []
        self._unload()


def _unload(handle: int, descriptor: int) -> None:
    _system.dlclose(handle)
    _close(descriptor)


def _close(descriptor: int) -> None:
    if descriptor >= 0:
        os.close(descriptor)


class _Impossible(Exception):
    """Something that a description says and that cannot be."""


def _entries(model: _Model) -> tuple[NativeEntry, ...]:
    if not 1 <= model.entry_count <= MAX_ENTRIES or not model.entries:
        raise _Impossible(f"{model.entry_count} entries, expected 1 to {MAX_ENTRIES}")
    if max(model.input_count, model.output_count) > MAX_TENSORS or not model.output_count:
        raise _Impossible(
            f"{model.input_count} inputs and {model.output_count} outputs, expected at most {MAX_TENSORS} of each and "
            "at least one output"
        )
    entries = tuple(_entry(model, model.entries[index]) for index in range(model.entry_count))
    batches = [entry.batch for entry in entries]
    if batches != sorted(set(batches)):
        raise _Impossible(f"batch sizes {batches}, expected ascending ones")
    return entries


def _entry(model: _Model, entry: _Entry) -> NativeEntry:
    alignment = entry.arena_alignment
    if not 1 <= entry.batch <= MAX_BATCH or not entry.run:
        raise _Impossible(f"an entry for batch {entry.batch} at address {entry.run or 0:#x}")
    if not 1 <= alignment <= MAX_ALIGNMENT or alignment & (alignment - 1) or entry.arena_bytes > MAX_BYTES:
        raise _Impossible(f"an arena of {entry.arena_bytes} bytes at multiples of {alignment}")
    if entry.run_part and not (1 <= entry.max_parts <= MAX_PARTS and alignment <= entry.part_arena_bytes <= MAX_BYTES):
        raise _Impossible(f"calls in {entry.max_parts} parts with an arena of {entry.part_arena_bytes} bytes")
    return NativeEntry(
        batch=entry.batch,
        arena_bytes=entry.arena_bytes,
        arena_alignment=alignment,
        inputs=_tensors(entry.inputs, model.input_count, "inputs"),
        outputs=_tensors(entry.outputs, model.output_count, "outputs"),
        part_arena_bytes=entry.part_arena_bytes if entry.run_part else 0,
        max_parts=entry.max_parts if entry.run_part else 0,
    )


def _tensors(first: Any, count: int, role: str) -> tuple[NativeTensor, ...]:
    if count and not first:
        raise _Impossible(f"no {role} where {count} are announced")
    tensors = tuple(_tensor(first[index]) for index in range(count))
    if len({tensor.name for tensor in tensors}) != count:
        raise _Impossible(f"two {role} of the same name")
    return tensors


def _tensor(tensor: _Tensor) -> NativeTensor:
    name, datatype = _text(tensor.name, "a tensor's name"), _text(tensor.datatype, "a tensor's datatype")
    if tensor.rank > MAX_RANK or (tensor.rank and not tensor.shape):
        raise _Impossible(f"tensor {name[:80]!r} has rank {tensor.rank}, expected at most {MAX_RANK}")
    shape = tuple(tensor.shape[axis] for axis in range(tensor.rank))
    item_bytes = ITEM_BYTES.get(datatype)
    if item_bytes is None or any(size < 0 for size in shape) or tensor.size_bytes > MAX_BYTES:
        raise _Impossible(f"tensor {name[:80]!r} is {datatype[:20]!r} {list(shape)}")
    if math.prod(shape) * item_bytes != tensor.size_bytes:
        raise _Impossible(f"tensor {name[:80]!r} is {datatype} {list(shape)} in {tensor.size_bytes} bytes")
    return NativeTensor(name, datatype, shape, tensor.size_bytes)


def _text(address: int | None, what: str) -> str:
    if not address:
        raise _Impossible(f"{what} is missing")
    length = _system.strnlen(address, MAX_TEXT_BYTES)
    if length == MAX_TEXT_BYTES:
        raise _Impossible(f"{what} has no end within {MAX_TEXT_BYTES} bytes")
    try:
        return ctypes.string_at(address, length).decode()
    except UnicodeDecodeError as error:
        raise _Impossible(f"{what} is not UTF-8") from error
