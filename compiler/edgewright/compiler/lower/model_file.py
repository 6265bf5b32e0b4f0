"""A model in the form in which engines load it: bytes or, where that would be too much, files.

Protobuf ends at 2 GiB, and long before that every copy in memory hurts. A larger model therefore is `model.onnx` with
its weights beside it in `model.onnx.data` (external data: docs/ExternalData.md of the ONNX repository). Engines map it
instead of reading it.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import onnx_ir as ir

from edgewright.bundle.files import storage_faults

from ..graph import Graph, clone, digest, to_bytes
from ..scratch import Scratch

MODEL = "model.onnx"
DATA = "model.onnx.data"

LARGEST_IN_MEMORY_BYTES = 256 << 20
"""Weights up to here stay inside of one file, of which the build may hold several copies."""
SMALLEST_EXTERNAL_BYTES = 1024
"""Smaller weights stay inside: shapes, axes and scales are read by shape inference."""
ALIGNMENT_BYTES = 4096
"""Large weights start on a page, so that they can be mapped."""


@dataclass(frozen=True)
class LargeModel:
    """A model on disk."""

    path: Path
    """Of model.onnx; model.onnx.data lies beside it."""
    digest: str
    """`sha256:…` over both files, in that order."""
    size_bytes: int
    """Of both files."""


ModelFile = bytes | LargeModel
"""The bytes of model.onnx, or the place where it lies with its weights."""


def write_model(graph: Graph, scratch: Scratch) -> ModelFile:
    """The graph as engines load it; a large one is written to a folder of its own. The same graph gives the same bytes.

    Raises:
        EnvironmentFault: the disk is full or cannot be written.
    """
    if weight_bytes(graph) <= LARGEST_IN_MEMORY_BYTES:
        return to_bytes(graph)
    folder = Path(tempfile.mkdtemp(prefix="model-", dir=scratch.folder()))
    with storage_faults(f"writing a model of {weight_bytes(graph)} bytes to {scratch.folder().parent}"):
        ir.save(
            clone(graph),
            folder / MODEL,
            external_data=DATA,
            size_threshold_bytes=SMALLEST_EXTERNAL_BYTES,
            alignment=ALIGNMENT_BYTES,
        )
        return on_disk(folder / MODEL)


def on_disk(path: Path) -> LargeModel:
    """Describes a model that lies at `path`, with its weights beside it."""
    found = hashlib.sha256()
    files = (path, path.with_name(DATA))
    for name in files:
        with name.open("rb") as file:
            while chunk := file.read(1 << 20):
                found.update(chunk)
    return LargeModel(path, f"sha256:{found.hexdigest()}", sum(name.stat().st_size for name in files))


def digest_of(model: ModelFile) -> str:
    """`sha256:…` of all that ships as the model."""
    return digest(model) if isinstance(model, bytes) else model.digest


def size_bytes(model: ModelFile) -> int:
    """Of all that ships as the model."""
    return len(model) if isinstance(model, bytes) else model.size_bytes


def copy_to(model: ModelFile, folder: Path) -> None:
    """Puts model.onnx, and model.onnx.data where there is one, into a folder."""
    if isinstance(model, bytes):
        (folder / MODEL).write_bytes(model)
        return
    for source in (model.path, model.path.with_name(DATA)):
        shutil.copyfile(source, folder / source.name)


def discard(model: ModelFile) -> None:
    """Frees the disk that a large model takes, before the build ends."""
    if isinstance(model, LargeModel):
        shutil.rmtree(model.path.parent)


def weight_bytes(graph: Graph) -> int:
    """Bytes of all weights, those of subgraphs included."""
    return sum(tensor.nbytes for tensor in _tensors(graph))


def _tensors(graph: Graph) -> list[ir.TensorProtocol]:
    tensors = (value.const_value for part in graph.graphs() for value in part.initializers.values())
    return [tensor for tensor in tensors if tensor is not None]
