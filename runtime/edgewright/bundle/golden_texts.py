"""Texts in golden.safetensors, which has no strings: bytes as the V2 protocol spells BYTES, and their shape beside."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import GoldenError

_LENGTH = struct.Struct("<I")


def is_text(array: NDArray[Any]) -> bool:
    """Return whether an array holds texts or bytes, and nothing else."""
    if array.dtype.kind == "O":
        return all(isinstance(element, str | bytes) for element in array.flat)
    return array.dtype.kind in "SU"


def spelled(texts: NDArray[Any]) -> NDArray[np.uint8]:
    """Return the elements one behind the other, each its length (uint32, little-endian) and its bytes (UTF-8)."""
    parts = b"".join(_LENGTH.pack(len(text)) + text for text in as_bytes(texts.flat))
    return np.frombuffer(parts, np.uint8)


def as_bytes(elements: Iterable[str | bytes]) -> Iterator[bytes]:
    """Return texts as UTF-8; bytes stay what they are."""
    return (element if isinstance(element, bytes) else element.encode() for element in elements)


def read_texts(name: str, data: bytes, shape: tuple[int, ...]) -> NDArray[Any]:
    """Return the texts of a shape, as bytes.

    Raises:
        GoldenError: the bytes are no such texts.
    """
    texts: list[bytes] = []
    position = 0
    while position + _LENGTH.size <= len(data):
        start = position + _LENGTH.size
        position = start + _LENGTH.unpack_from(data, position)[0]
        texts.append(data[start:position])
    if position != len(data) or len(texts) != math.prod(shape):
        raise GoldenError(f"golden.safetensors: tensor {name[:80]!r} does not hold texts of shape {list(shape)}.")
    array = np.empty(len(texts), np.object_)
    array[:] = texts
    return array.reshape(shape)


def differing(got: NDArray[Any], expected: NDArray[Any]) -> list[int]:
    """Return the places (flat) where two arrays of texts differ."""
    pairs = zip(as_bytes(got.flat), as_bytes(expected.flat), strict=True)
    return [place for place, (one, other) in enumerate(pairs) if one != other]
