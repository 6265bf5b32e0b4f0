"""A model in the form in which engines load it: bytes or, where that would be too much, files.

Protobuf ends at 2 GiB, and long before that every copy in memory hurts. The weights of a larger model lie beside its
ONNX file (external data: docs/ExternalData.md of the ONNX repository), where engines map them instead of reading them.

During a build all such files lie in one scratch folder, and every weight is written to it once: graphs whose weights
are `settled` there share them, however many models are made of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import onnx_ir as ir

from edgewright.bundle.files import storage_faults

from ..graph import Graph, clone, content_of, digest, tensor_digest, to_bytes
from ..scratch import Scratch

MODEL = "model.onnx"
DATA_SUFFIX = ".data"
DATA = MODEL + DATA_SUFFIX
"""The weights of a large model."""

LARGEST_IN_MEMORY_BYTES = 256 << 20
"""Weights up to here stay inside of one file, of which the build may hold several copies."""
SMALLEST_EXTERNAL_BYTES = 1024
"""Smaller weights stay inside: shapes, axes and scales are read by shape inference."""
ALIGNMENT_BYTES = 4096
"""Large weights start on a page, so that they can be mapped."""


@dataclass(frozen=True)
class LargeModel:
    """A model on disk, in the scratch folder of a build."""

    path: Path
    """Of the ONNX file; its weights lie in the same folder, some of them in files that other models use too."""
    graph: Graph = field(repr=False)
    """The same, settled."""
    own: Path | None = None
    """The file with weights that no other model uses."""


ModelFile = bytes | LargeModel
"""The bytes of model.onnx, or the place where it lies with its weights."""


def settled(graph: Graph, scratch: Scratch) -> Graph:
    """The same graph with its weights in files of the scratch folder, as far as they are not there already.

    A graph whose weights fit into memory is returned as it is.

    Raises:
        EnvironmentFault: the disk is full or cannot be written.
    """
    return _settled(graph, scratch)[0]


def _settled(graph: Graph, scratch: Scratch) -> tuple[Graph, Path | None]:
    """And the file that was written for it."""
    if weight_bytes(graph) <= LARGEST_IN_MEMORY_BYTES:
        return graph, None
    folder = scratch.folder()
    new = [tensor for tensor in _large(graph) if not _lies_in(folder, tensor)]
    if not new:
        return graph, None
    file = scratch.new_file(DATA_SUFFIX)
    with storage_faults(f"writing {sum(tensor.nbytes for tensor in new)} bytes of weights to {folder.parent}"):
        offsets = _write(new, file)
    return _placed(graph, lambda tensor: _external(tensor, str(file), offsets.get(id(tensor)))), file


def write_model(graph: Graph, scratch: Scratch) -> ModelFile:
    """The graph as engines load it; the same graph gives the same bytes.

    Raises:
        EnvironmentFault: the disk is full or cannot be written.
    """
    if weight_bytes(graph) <= LARGEST_IN_MEMORY_BYTES:
        return to_bytes(graph)
    placed, own = _settled(graph, scratch)
    path = scratch.new_file(".onnx")
    with storage_faults(f"writing a model to {scratch.folder().parent}"):
        path.write_bytes(to_bytes(_placed(placed, _beside)))
    return LargeModel(path, placed, own)


def digest_of(model: ModelFile) -> str:
    """`sha256:…` of all that the model is; it does not depend on where its weights lie."""
    if isinstance(model, bytes):
        return digest(model)
    hashed = hashlib.sha256(to_bytes(_placed(model.graph, lambda tensor: _external(tensor, "", 0))))
    for tensor in _large(model.graph):
        hashed.update(tensor_digest(tensor).encode())
    return f"sha256:{hashed.hexdigest()}"


def size_bytes(model: ModelFile) -> int:
    """Of all that ships as the model."""
    if isinstance(model, bytes):
        return len(model)
    return model.path.stat().st_size + sum(tensor.nbytes for tensor in _large(model.graph))


def copy_to(model: ModelFile, folder: Path, name: str = MODEL) -> tuple[str, ...]:
    """Puts the model as `name` into a folder, its weights, where it is large, beside it; returns the names of both."""
    if isinstance(model, bytes):
        (folder / name).write_bytes(model)
        return (name,)
    data = name + DATA_SUFFIX
    offsets = _write(list(_large(model.graph)), folder / data)
    shipped = _placed(model.graph, lambda tensor: _external(tensor, data, offsets[id(tensor)]))
    (folder / name).write_bytes(to_bytes(shipped))
    return name, data


def discard(model: ModelFile) -> None:
    """Frees the disk that a large model takes, before the build ends; what others use stays."""
    if isinstance(model, LargeModel):
        model.path.unlink()
        if model.own is not None:
            model.own.unlink()


def weight_bytes(graph: Graph) -> int:
    """Bytes of all weights, those of subgraphs included."""
    return sum(value.const_value.nbytes for value in _weights(graph) if value.const_value is not None)


def _weights(graph: Graph) -> Iterator[ir.Value]:
    for part in graph.graphs():
        yield from part.initializers.values()


def _large(graph: Graph) -> Iterator[ir.TensorProtocol]:
    """Tensors that lie outside of the ONNX file, each once."""
    tensors = (value.const_value for value in _weights(graph))
    found = {id(tensor): tensor for tensor in tensors if tensor is not None and _is_large(tensor)}
    yield from found.values()


def _is_large(tensor: ir.TensorProtocol) -> bool:
    return tensor.nbytes > SMALLEST_EXTERNAL_BYTES and tensor.dtype != ir.DataType.STRING


def _lies_in(folder: Path, tensor: ir.TensorProtocol) -> bool:
    return isinstance(tensor, ir.ExternalTensor) and Path(tensor.path).parent == folder


def _write(tensors: list[ir.TensorProtocol], path: Path) -> dict[int, int]:
    """Writes tensors behind each other; where each begins, by its identity."""
    offsets = {}
    with path.open("wb") as file:
        for tensor in tensors:
            offsets[id(tensor)] = _append(tensor, file)
    return offsets


def _append(tensor: ir.TensorProtocol, file: BinaryIO) -> int:
    offset = -(-file.tell() // ALIGNMENT_BYTES) * ALIGNMENT_BYTES
    file.write(bytes(offset - file.tell()))
    file.write(content_of(tensor))
    return offset


def _placed(graph: Graph, place: Callable[[ir.TensorProtocol], ir.TensorProtocol]) -> Graph:
    """A copy whose large weights are where `place` says."""
    result = clone(graph)
    places: dict[int, ir.TensorProtocol] = {}
    for value in _weights(result):
        tensor = value.const_value
        if tensor is not None and _is_large(tensor):
            if id(tensor) not in places:
                places[id(tensor)] = place(tensor)
            value.const_value = places[id(tensor)]
    return result


def _external(tensor: ir.TensorProtocol, location: str, offset: int | None) -> ir.TensorProtocol:
    """A tensor in a file; without an offset it stays where it is."""
    if offset is None:
        return tensor
    return ir.ExternalTensor(
        location, offset, tensor.nbytes, tensor.dtype, shape=ir.Shape(tensor.shape.numpy()), name=tensor.name or ""
    )


def _beside(tensor: ir.TensorProtocol) -> ir.TensorProtocol:
    """A settled tensor as an ONNX file in the same folder names it."""
    if not isinstance(tensor, ir.ExternalTensor):
        raise TypeError(f"{tensor.name!r} is not settled")
    return _external(tensor, Path(tensor.path).name, tensor.offset)
