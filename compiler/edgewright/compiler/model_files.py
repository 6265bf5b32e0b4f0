"""Which files an ONNX model consists of, read without the `onnx` package, whose import takes half a second.

An ONNX file is a protobuf message: fields of (number, wire type), of which only those are looked into that lead to a
tensor's `external_data` (onnx.proto: ModelProto.graph = 7, .functions = 25; GraphProto.node = 1, .initializer = 5,
.sparse_initializer = 15; FunctionProto.node = 7; NodeProto.attribute = 5; AttributeProto.t = 5, .g = 6, .tensors = 10,
.graphs = 11, .sparse_tensor = 22, .sparse_tensors = 23; SparseTensorProto.values = 1, .indices = 2;
TensorProto.external_data = 13). Everything else is stepped over, so that a file of gigabytes takes milliseconds.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path

MAX_DEPTH = 64
VARINT, FIXED64, LENGTH_DELIMITED, FIXED32 = 0, 1, 2, 5
MAX_VARINT_BYTES = 10

_TENSOR = "tensor"
_LOOK_INTO: dict[str, dict[int, str]] = {
    "model": {7: "graph", 25: "function"},
    "graph": {1: "node", 5: _TENSOR, 15: "sparse"},
    "function": {7: "node"},
    "node": {5: "attribute"},
    "attribute": {5: _TENSOR, 6: "graph", 10: _TENSOR, 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: _TENSOR, 2: _TENSOR},
    _TENSOR: {13: "entry"},
}


class NotProtobuf(ValueError):
    """The bytes are no protobuf message, or one that is nested beyond reason."""


def model_files(path: Path) -> tuple[Path, ...]:
    """The file itself, then those that its external tensors name, sorted.

    Raises:
        OSError: it cannot be read.
        NotProtobuf: it is damaged, or no ONNX file; what exactly is wrong, the frontend says.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        locations = set(_locations(content, 0, len(content), "model", 0))
    return (path, *(path.parent / location for location in sorted(locations)))


def _locations(content: mmap.mmap | bytes, start: int, end: int, kind: str, depth: int) -> Iterator[str]:
    if depth > MAX_DEPTH:
        raise NotProtobuf(f"messages nested deeper than {MAX_DEPTH}")
    for number, first, last in _fields(content, start, end):
        inner = _LOOK_INTO[kind].get(number)
        if inner == "entry":
            key, value = _entry(content, first, last)
            if key == b"location":
                yield value.decode("utf-8", errors="surrogateescape")
        elif inner is not None:
            yield from _locations(content, first, last, inner, depth + 1)


def _entry(content: mmap.mmap | bytes, start: int, end: int) -> tuple[bytes, bytes]:
    """A StringStringEntryProto: key = 1, value = 2."""
    found = {number: bytes(content[first:last]) for number, first, last in _fields(content, start, end)}
    return found.get(1, b""), found.get(2, b"")


def _fields(content: mmap.mmap | bytes, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """The length-delimited fields of a message: number, first byte, byte after the last."""
    position = start
    while position < end:
        tag, position = _varint(content, position, end)
        wire = tag & 7
        if wire == VARINT:
            _, position = _varint(content, position, end)
        elif wire == FIXED64:
            position += 8
        elif wire == FIXED32:
            position += 4
        elif wire == LENGTH_DELIMITED:
            length, position = _varint(content, position, end)
            if position + length > end:
                raise NotProtobuf("a field ends beyond its message")
            yield tag >> 3, position, position + length
            position += length
        else:
            raise NotProtobuf(f"wire type {wire}")
    if position != end:
        raise NotProtobuf("a field ends beyond its message")


def _varint(content: mmap.mmap | bytes, position: int, end: int) -> tuple[int, int]:
    value = 0
    for index in range(MAX_VARINT_BYTES):
        if position + index >= end:
            break
        byte = content[position + index]
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return value, position + index + 1
    raise NotProtobuf("a number does not end")
