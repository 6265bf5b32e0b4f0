"""What can be compared: an ONNX or TFLite file, or the model inside of a bundle."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from edgewright.bundle.archive import unpack, verify
from edgewright.bundle.manifest import Manifest
from edgewright.bundle.paths import MANIFEST

from ..faults import DataError, ModelError
from ..frontends.file import load_file
from ..frontends.onnx import load_onnx
from ..graph import Graph, Port, signature
from ..lower import onnxruntime as engine

USTAR_MAGIC = (257, b"ustar")
"""Where a tar archive says that it is one (POSIX.1-1988)."""
MODEL = Path("model") / "model.onnx"


@dataclass(frozen=True)
class Side:
    """One of the two models."""

    label: str
    """As the user wrote it."""
    graph: Graph
    digest: str


@contextmanager
def opened(path: Path) -> Iterator[Side]:
    """A model file, a bundle or a bundle's directory; large weights may be read as long as the block lasts.

    Raises:
        ModelError: no such file, or not a model.
        BundleError: a damaged bundle.
        UnsupportedModel: an operator that does not run here.
    """
    if path.is_dir():
        if not (path / MANIFEST).is_file():
            raise ModelError(f"{path}: a folder that is no unpacked bundle. Give an .onnx or .tflite file or a .bundle")
        yield _of_bundle(path, path, verify(path))
    elif _is_archive(path):
        with tempfile.TemporaryDirectory(prefix="edgewright-diff-") as folder:
            unpacked = Path(folder) / "bundle"
            yield _of_bundle(path, unpacked, unpack(path, unpacked))
    else:
        source = load_file(path)
        yield Side(str(path), source.graph, source.digest)


def _is_archive(path: Path) -> bool:
    offset, magic = USTAR_MAGIC
    try:
        with path.open("rb") as file:
            return file.read(offset + len(magic))[offset:] == magic
    except OSError as error:
        raise ModelError(
            f"{path}: cannot be read: {error.strerror}. Give an .onnx or .tflite file or a .bundle"
        ) from error


def _of_bundle(path: Path, folder: Path, manifest: Manifest) -> Side:
    if manifest.engine.name != engine.NAME or not (folder / MODEL).is_file():
        raise ModelError(
            f"{path}: a bundle for the engine {manifest.engine.name}; layers can be compared for {engine.NAME} only"
        )
    source = load_onnx(folder / MODEL)
    return Side(str(path), source.graph, source.digest)


def shared_inputs(left: Side, right: Side) -> tuple[Port, ...]:
    """The inputs of the first model, which the second one has to take as well.

    Raises:
        DataError: they differ, so that no data fits both.
    """
    one, other = signature(left.graph).inputs, signature(right.graph).inputs
    if {port.name: port for port in one}.keys() != {port.name: port for port in other}.keys() or not all(
        _alike(port, next(each for each in other if each.name == port.name)) for port in one
    ):
        raise DataError(
            f"{left.label} takes {_words(one)}, but {right.label} takes {_words(other)}: only models with the same "
            "inputs can be compared. If one was compiled with --mean or --scale, compare it with a model that was too"
        )
    return one


def _alike(one: Port, other: Port) -> bool:
    """Same type, and shapes that agree where both are fixed."""
    same_rank = len(one.shape) == len(other.shape)
    sizes = zip(one.shape, other.shape, strict=True) if same_rank else ()
    return one.dtype == other.dtype and same_rank and all(a == b or -1 in (a, b) for a, b in sizes)


def _words(ports: tuple[Port, ...]) -> str:
    return ", ".join(
        f"{port.name} ({port.dtype.name} {'x'.join('any' if size < 0 else str(size) for size in port.shape)})"
        for port in ports
    )
