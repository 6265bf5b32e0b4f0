"""Tensors between their V2 spelling as little-endian bytes and numpy arrays; `json_lists` reads the other one.

Every function here takes bytes that a client chose. A size is checked before memory is taken for it: a tensor is never
larger than the bytes that came in for it.
"""

from __future__ import annotations

import math
import struct
import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgewright.bundle.datatypes import NUMPY_OF_DATATYPE

from ..http.messages import Payload
from ..refusal import Refusal

BINARY_ONLY = frozenset({"FP16", "BF16"})
"""Datatypes that the protocol does not spell in JSON."""

if sys.byteorder != "little":  # pragma: no cover - no supported board is big-endian
    raise ImportError("tensors are exchanged in little-endian order and this machine is big-endian")

MAX_TEXTS = 256 * 1024
"""Elements of a BYTES tensor: each is an object of its own, and millions of them keep the event loop for seconds."""

_COPIED_BYTES = 4 * 1024
"""A copy of so little is cheaper than a view of it, and a response is joined into one write anyway."""


def element_count(shape: tuple[int, ...], datatype: str, limit_bytes: int, name: str) -> int:
    """Return the number of elements of a shape that a client claims.

    Raises:
        Refusal: the tensor would be larger than any body that is accepted.
    """
    count = math.prod(shape)
    if datatype == "BYTES" and count > MAX_TEXTS:
        raise Refusal(413, f"input '{name}': {count} BYTES elements; at most {MAX_TEXTS} are taken at once")
    if count * NUMPY_OF_DATATYPE[datatype].itemsize > limit_bytes:
        raise Refusal(413, f"input '{name}': shape {list(shape)} is larger than the limit of {limit_bytes} bytes")
    return count


def binary_size(shape: tuple[int, ...], datatype: str) -> int | None:
    """Return how many bytes the tensor has in binary form, None where its elements tell."""
    return None if datatype == "BYTES" else math.prod(shape) * NUMPY_OF_DATATYPE[datatype].itemsize


def from_binary(data: memoryview, datatype: str, shape: tuple[int, ...], name: str) -> NDArray[Any]:
    """Return the tensor in the bytes, without a copy where they are aligned."""
    if datatype == "BYTES":
        return _bytes_from_binary(data, shape, name)
    expected = binary_size(shape, datatype)
    if len(data) != expected:
        raise Refusal(
            400, f"input '{name}': {len(data)} bytes of binary data, expected {expected} for {datatype} {list(shape)}"
        )
    return placed(data, 0, datatype, shape, name)


def placed(data: memoryview, start: int, datatype: str, shape: tuple[int, ...], name: str) -> NDArray[Any]:
    """Return the tensor that begins at `start`; whoever calls has checked that the bytes are there."""
    array: NDArray[Any] = np.ndarray(shape, NUMPY_OF_DATATYPE[datatype], data, start)
    if datatype == "BOOL" and array.size and array.view(np.uint8).max() > 1:
        raise Refusal(400, f"input '{name}': a BOOL is one byte, 0 or 1")
    return array if array.flags.aligned else array.copy()


def _bytes_from_binary(data: memoryview, shape: tuple[int, ...], name: str) -> NDArray[Any]:
    elements: list[bytes] = []
    position = 0
    count = math.prod(shape)
    while position + 4 <= len(data) and len(elements) < count:
        (length,) = struct.unpack_from("<I", data, position)
        elements.append(bytes(data[position + 4 : position + 4 + length]))
        position += 4 + length
    if position != len(data) or len(elements) != count:
        raise Refusal(
            400,
            f"input '{name}': BYTES data must be {count} elements, each its length as uint32 and its bytes",
        )
    return objects(elements, shape)


def objects(elements: list[bytes], shape: tuple[int, ...]) -> NDArray[Any]:
    """Return a BYTES tensor."""
    array = np.empty(len(elements), np.object_)
    array[:] = elements
    return array.reshape(shape)


def to_binary(array: NDArray[Any], datatype: str) -> Payload:
    """Return a tensor as row-major little-endian bytes."""
    if datatype == "BYTES":
        elements = [_as_bytes(element) for element in array.ravel()]
        return b"".join(struct.pack("<I", len(element)) + element for element in elements)
    if array.nbytes <= _COPIED_BYTES:
        return array.tobytes()
    return np.ascontiguousarray(array).data.cast("B")


def to_json(array: NDArray[Any], datatype: str) -> list[Any]:
    """Return a tensor as a flat list. NaN and the infinities are written as null: JSON has no such numbers."""
    if datatype == "BYTES":
        return [_as_bytes(element).decode(errors="replace") for element in array.ravel()]
    numbers: list[Any] = array.ravel().tolist()
    return numbers


def _as_bytes(element: object) -> bytes:
    return element if isinstance(element, bytes) else str(element).encode()
