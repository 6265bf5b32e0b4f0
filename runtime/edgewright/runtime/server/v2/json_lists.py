"""Tensors from JSON lists, flat or nested as the shape says."""

from __future__ import annotations

import functools
import itertools
import math
import struct
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgewright.bundle.datatypes import NUMPY_OF_DATATYPE

from ..refusal import Refusal
from .tensors import BINARY_ONLY, objects

_COUNTED_BYTES = 64 * 1024
"""Text up to this size is read without counting its commas: it cannot take much memory."""


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
    element: Any = {"BOOL": bool, "BYTES": str, "FP32": float, "FP64": float}.get(datatype, int)
    for _ in range(depth):
        element = list[element]
    return msgspec.json.Decoder(element)


def _flattened(values: list[Any], shape: tuple[int, ...]) -> list[Any]:
    """Return nested lists as a flat one; raises `ValueError` where they are not of the shape."""
    if len(values) != shape[0]:
        raise ValueError(f"{len(values)} elements, expected {shape[0]}")
    for size in shape[1:]:
        if any(len(inner) != size for inner in values):
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
    packed = struct.pack(f"<{len(values)}{_STRUCT_CODES[datatype]}", *values)
    return np.ndarray(shape, NUMPY_OF_DATATYPE[datatype], packed)
