"""Weights beside the model (docs/ExternalData.md of the ONNX repository): where they may lie, and how they are read.

Small ones are read into the model. Large ones stay where they are, because protobuf cannot hold them: the checker, the
opset converter and shape inference see a model whose large weights are inputs, and the graph maps them from disk.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import onnx
import onnx_ir as ir

from edgewright.bundle.ustar import MAX_ENTRY_BYTES

from ..faults import ModelError
from ..graph import Graph
from ..lower.model_file import LARGEST_IN_MEMORY_BYTES, SMALLEST_EXTERNAL_BYTES
from .protos import constants


@dataclass(frozen=True)
class ExternalTensor:
    """Where the bytes of one tensor are, checked against the file and the tensor's shape."""

    tensor: onnx.TensorProto
    file: Path
    offset: int
    size_bytes: int
    is_weight: bool
    """Of the main graph; a large one may stay on disk."""


MAX_INSIDE_BYTES = 1 << 30
"""Of external data that belongs to nodes and subgraphs: it is read into the protobuf, which ends at 2 GiB."""


def find_external(path: Path, proto: onnx.ModelProto) -> tuple[ExternalTensor, ...]:
    """All tensors whose bytes are in other files.

    Raises:
        ModelError: a file is missing, lies outside of the model's folder, is too short, or too large in all.
    """
    weights = (_locate(path, tensor, is_weight=True) for tensor in proto.graph.initializer if _is_external(tensor))
    others = (_locate(path, tensor, is_weight=False) for tensor in constants(proto) if _is_external(tensor))
    found = (*weights, *others)
    total_bytes = sum(file.stat().st_size for file in {external.file for external in found})
    if total_bytes > MAX_ENTRY_BYTES:
        raise ModelError(f"{path}: {total_bytes} bytes of external data; a bundle carries at most {MAX_ENTRY_BYTES}")
    return found


def _is_external(tensor: onnx.TensorProto) -> bool:
    return bool(tensor.data_location == onnx.TensorProto.EXTERNAL)


def _locate(path: Path, tensor: onnx.TensorProto, *, is_weight: bool) -> ExternalTensor:
    root = path.parent.resolve()
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    if not location or "\0" in location or Path(location).is_absolute():
        raise _outside(path, tensor, location)
    file = (root / location).resolve()
    if not file.is_relative_to(root):
        raise _outside(path, tensor, location)
    if not file.is_file():
        raise ModelError(f"{path}: weights {tensor.name!r} need {location!r}, which is not there; copy it too")
    needed = _declared_bytes(path, tensor)
    offset = _number(path, tensor, entries, "offset", 0)
    length = _number(path, tensor, entries, "length", needed)
    if length != needed:
        raise ModelError(
            f"{path}: weights {tensor.name!r} of shape {list(tensor.dims)} take {needed} bytes, but {length} are given "
            f"for them in {location!r}; export the model again"
        )
    if offset + length > file.stat().st_size:
        raise ModelError(
            f"{path}: weights {tensor.name!r} are bytes {offset} to {offset + length} of {location!r}, which has only "
            f"{file.stat().st_size}; copy the file again"
        )
    return ExternalTensor(tensor, file, offset, length, is_weight)


def _outside(path: Path, tensor: onnx.TensorProto, location: str) -> ModelError:
    return ModelError(
        f"{path}: weights {tensor.name!r} point to {location!r}, outside of the model's folder; "
        "external data must lie beside the model"
    )


def _declared_bytes(path: Path, tensor: onnx.TensorProto) -> int:
    try:
        bits = ir.DataType(tensor.data_type).bitwidth
    except (ValueError, TypeError) as error:
        raise ModelError(f"{path}: weights {tensor.name!r} have no type whose values are of one size") from error
    if any(size < 0 for size in tensor.dims):
        raise ModelError(f"{path}: weights {tensor.name!r} have the impossible shape {list(tensor.dims)}")
    return -(-math.prod(int(size) for size in tensor.dims) * int(bits) // 8)


def _number(path: Path, tensor: onnx.TensorProto, entries: Mapping[str, str], key: str, default: int) -> int:
    text = entries.get(key, str(default))
    if not (text.isascii() and text.isdigit()):
        raise ModelError(f"{path}: weights {tensor.name!r} have the impossible {key} {text[:40]!r}; export it again")
    return int(text)


def read_small(path: Path, found: tuple[ExternalTensor, ...]) -> tuple[ExternalTensor, ...]:
    """Reads what fits into memory into the model; returns the weights that stay on disk.

    Raises:
        ModelError: the disk does not give the bytes, or constants inside of nodes are too large for a protobuf.
    """
    total_bytes = sum(external.size_bytes for external in found)
    large = tuple(
        external
        for external in found
        if external.is_weight
        and total_bytes > LARGEST_IN_MEMORY_BYTES
        and external.size_bytes > SMALLEST_EXTERNAL_BYTES
    )
    inside_bytes = total_bytes - sum(external.size_bytes for external in large)
    if inside_bytes > MAX_INSIDE_BYTES:
        raise ModelError(
            f"{path}: {inside_bytes} bytes of constants inside of nodes and subgraphs; at most {MAX_INSIDE_BYTES} are "
            "read. Export them as weights of the main graph"
        )
    for external in found:
        if external not in large:
            _read(path, external)
    return large


def _read(path: Path, external: ExternalTensor) -> None:
    tensor = external.tensor
    try:
        with external.file.open("rb") as file:
            file.seek(external.offset)
            tensor.raw_data = file.read(external.size_bytes)
    except OSError as error:
        raise ModelError(f"{path}: external data cannot be read: {external.file.name}: {error.strerror}") from error
    tensor.data_location = onnx.TensorProto.DEFAULT
    del tensor.external_data[:]


def take_out(proto: onnx.ModelProto, large: tuple[ExternalTensor, ...]) -> None:
    """Makes large weights inputs of the model, for libraries that work on protobuf."""
    inputs = {value.name for value in proto.graph.input}
    names = {external.tensor.name for external in large}
    for external in large:
        tensor = external.tensor
        if tensor.name not in inputs:
            proto.graph.input.append(
                onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
            )
    kept = [tensor for tensor in proto.graph.initializer if tensor.name not in names]
    del proto.graph.initializer[:]
    proto.graph.initializer.extend(kept)


def put_back(graph: Graph, large: tuple[ExternalTensor, ...]) -> None:
    """Makes the inputs of `take_out` weights again, which are mapped from disk when they are first read."""
    places = {external.tensor.name: external for external in large}
    for value in list(graph.graph.inputs):
        external = places.get(value.name or "")
        if external is None:
            continue
        value.const_value = ir.ExternalTensor(
            str(external.file),
            external.offset,
            external.size_bytes,
            ir.DataType(external.tensor.data_type),
            shape=ir.Shape(external.tensor.dims),
            name=external.tensor.name,
        )
        graph.graph.inputs.remove(value)
        graph.graph.register_initializer(value)
