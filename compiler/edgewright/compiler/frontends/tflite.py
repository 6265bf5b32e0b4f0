"""TFLite in: a .tflite file as a graph, its quantization kept."""

from __future__ import annotations

from pathlib import Path

from ..faults import ModelError
from ..graph import digest
from ..tflite.file.read import read
from ..tflite.reader.read_graph import graph_of
from .source import SourceModel

MAX_MODEL_BYTES = 2 * 1024**3 - 1
"""Offsets in such a file end here."""


def load_tflite(path: Path) -> SourceModel:
    """Reads a model file.

    Raises:
        ModelError: unreadable, damaged, too large, or a file that contradicts itself.
        UnsupportedModel: an operator, or a use of one, that cannot be compiled.
    """
    content = _content(path)
    return SourceModel(
        graph=graph_of(read(content, str(path)), str(path)), name=path.stem, digest=digest(content), format="tflite"
    )


def _content(path: Path) -> bytes:
    try:
        size_bytes = path.stat().st_size
        if not path.is_file():
            raise ModelError(f"{path}: not a file")
        if size_bytes > MAX_MODEL_BYTES:
            raise ModelError(f"{path}: {size_bytes} bytes; at most {MAX_MODEL_BYTES} can be a TFLite file")
        return path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror}") from error
