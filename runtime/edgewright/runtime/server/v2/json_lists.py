"""Tensors from JSON lists, flat or nested as the shape says."""

from __future__ import annotations

import functools
import itertools
import math
import struct
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgewright.bundle.datatypes import NUMPY_OF_DATATYPE

from ..refusal import Refusal
from .tensors import BINARY_ONLY, objects

_COUNTED_BYTES = 64 * 1024
"""Text up to this size is read without counting its commas: it cannot take much memory."""
_PLACES = 1024
"""Up to so many elements each has a place in a type, which takes 14 kB."""
_TYPES = 256
_PLAIN_READS = 3
"""So many lists of one kind are read without such a type: making it takes as long as reading three of them, and shapes
may be many that never come again."""

ListReader = Callable[[bytes], NDArray[Any]]
"""Returns the tensor in the text of a JSON list. What it raises says that the text is none, and not what is wrong."""
MISFITS = (msgspec.DecodeError, ValueError, OverflowError, struct.error, Refusal)
"""What a `ListReader` raises."""


def from_json(raw: bytes, datatype: str, shape: tuple[int, ...], name: str, max_depth: int) -> NDArray[Any]:
    """Return the tensor in a JSON array, flat or nested as the shape says."""
    if datatype in BINARY_ONLY:
        raise Refusal(400, f"input '{name}': {datatype} has no JSON form in the protocol; send it as binary data")
    depth = _nesting(raw)
    if depth not in {1, len(shape)} or depth > max_depth:
        raise Refusal(400, f"input '{name}': data is nested {depth} deep, expected a flat list or {len(shape)} levels")
    count = math.prod(shape)
    # A regular array of n numbers has n - 1 commas however it is nested: counted before many numbers take memory.
    if len(raw) > _COUNTED_BYTES and datatype != "BYTES" and raw.count(b",") != count - 1:
        raise Refusal(
            400, f"input '{name}': data has {raw.count(b',') + 1} elements, expected {count} for {list(shape)}"
        )
    try:
        values = _flattened(_decoder(datatype, depth).decode(raw), shape if depth > 1 else (count,))
        return _array(values, datatype, shape)
    except msgspec.DecodeError as error:
        raise Refusal(400, f"input '{name}': data is not {datatype} {list(shape)}: {error}") from error
    except (ValueError, OverflowError, struct.error) as error:
        raise _misfit(name, datatype, shape, error) from error


def list_reader(datatype: str, shape: tuple[int, ...], name: str, max_depth: int) -> ListReader:
    """Return what reads many lists of one datatype and shape, as `from_json` does."""
    count = math.prod(shape)
    if datatype not in _STRUCT_CODES or count == 0:
        return lambda text: from_json(text, datatype, shape, name, max_depth)
    dtype = NUMPY_OF_DATATYPE[datatype]
    pack = _packer(datatype, count)
    places = count if count <= _PLACES else 0
    reads = 0

    def decode(text: bytes) -> tuple[Any, ...]:
        nonlocal reads
        reads += 1
        # Looked up each time, as whoever keeps many readers would keep as many types.
        flat: tuple[Any, ...] = _flat_decoder(datatype, places if reads > _PLAIN_READS else 0).decode(text)
        return flat

    def read(text: bytes) -> NDArray[Any]:
        if len(text) > _COUNTED_BYTES and text.count(b",") != count - 1:
            raise ValueError("not the number of elements")
        if text[1:2] != b"[":
            return np.ndarray(shape, dtype, pack(*decode(text)))
        if len(shape) > max_depth:
            raise ValueError("too deep")
        inner, left = _without_ones(text, shape)
        if len(left) == 1:
            return np.ndarray(shape, dtype, pack(*decode(inner)))
        return np.ndarray(shape, dtype, pack(*_flattened(_decoder(datatype, len(left)).decode(inner), left)))

    return read


def _without_ones(text: bytes, shape: tuple[int, ...]) -> tuple[bytes, tuple[int, ...]]:
    """Take off brackets that say nothing: around the only element of a list, and around single numbers.

    The latter, each of which would be a list of its own, only where every comma stands between two brackets, so that
    no list holds two numbers. If what is left is a regular array without empty lists, the text was one too.
    """
    while len(shape) > 1 and shape[0] == 1 and _is_nested(text):
        text, shape = text[1:-1], shape[1:]
    at = text.find(b",")
    spelled = b", " if text[at : at + 2] == b", " else b","
    while len(shape) > 1 and shape[-1] == 1 and _is_nested(text):
        inner = text[1:-1].replace(b"]%b[" % spelled, spelled)
        if len(text) - len(inner) != 2 + 2 * text.count(b","):
            break
        text, shape = inner, shape[:-1]
    return text, shape


def _is_nested(text: bytes) -> bool:
    return text.startswith(b"[[") and text.endswith(b"]]")


def from_numbers(values: list[float], datatype: str, shape: tuple[int, ...], name: str) -> NDArray[Any]:
    """Return the tensor (FP32, FP64) in a flat list of numbers."""
    try:
        return _array(_flattened(values, (math.prod(shape),)), datatype, shape)
    except (ValueError, OverflowError, struct.error) as error:
        raise _misfit(name, datatype, shape, error) from error


def _misfit(name: str, datatype: str, shape: tuple[int, ...], error: Exception) -> Refusal:
    return Refusal(400, f"input '{name}': data does not fit {datatype} {list(shape)}: {error}")


def _nesting(raw: bytes) -> int:
    depth = 0
    for byte in raw:
        if byte == 0x5B:  # [
            depth += 1
        elif byte not in b" \t\r\n":
            break
    return depth


@functools.cache
def _decoder(datatype: str, depth: int) -> msgspec.json.Decoder[Any]:
    element: Any = _element(datatype)
    for _ in range(depth):
        element = list[element]
    return msgspec.json.Decoder(element)


@functools.lru_cache(_TYPES)
def _flat_decoder(datatype: str, places: int) -> msgspec.json.Decoder[Any]:
    """What is packed is a tuple; one of a known length is made without a list before it. 0 is any length."""
    element: Any = _element(datatype)
    return msgspec.json.Decoder(tuple.__class_getitem__((element,) * places if places else (element, ...)))


def _element(datatype: str) -> Any:
    return {"BOOL": bool, "BYTES": str, "FP32": float, "FP64": float}.get(datatype, int)


def _flattened(values: list[Any], shape: tuple[int, ...]) -> list[Any]:
    """Return nested lists as a flat one; raises `ValueError` where they are not of the shape."""
    if len(values) != shape[0]:
        raise ValueError(f"{len(values)} elements, expected {shape[0]}")
    for size in shape[1:]:
        if not {size}.issuperset(map(len, values)):
            raise ValueError(f"a list does not have {size} elements")
        values = values[0] if len(values) == 1 else list(itertools.chain.from_iterable(values))
    return values


_STRUCT_CODES = {
    "BOOL": "?", "UINT8": "B", "UINT16": "H", "UINT32": "I", "UINT64": "Q",
    "INT8": "b", "INT16": "h", "INT32": "i", "INT64": "q", "FP32": "f", "FP64": "d",
}  # fmt: skip
"""Packing checks ranges and takes a third of the time of `np.array` over a list."""


def _array(values: list[Any], datatype: str, shape: tuple[int, ...]) -> NDArray[Any]:
    if datatype == "BYTES":
        return objects([value.encode() for value in values], shape)
    return np.ndarray(shape, NUMPY_OF_DATATYPE[datatype], _packer(datatype, len(values))(*values))


def _packer(datatype: str, count: int) -> Callable[..., bytes]:
    return struct.Struct(f"<{count}{_STRUCT_CODES[datatype]}").pack
