"""The frontend of a model file: its name says which, or the mark that every .tflite carries."""

from __future__ import annotations

from pathlib import Path

from .onnx import load_onnx
from .source import SourceModel

SUFFIX = ".tflite"
MARK = (4, b"TFL3")
"""Where a flatbuffer says which one it is (file_identifier of TensorFlow's schema.fbs)."""


def load_file(path: Path) -> SourceModel:
    """Reads an ONNX or a TFLite file.

    Raises:
        ModelError: the file is none, or a damaged one.
        UnsupportedModel: something in it cannot be compiled.
    """
    if path.suffix != SUFFIX and not _is_marked(path):
        return load_onnx(path)
    from .tflite import load_tflite  # start-up time: LiteRT's schema

    return load_tflite(path)


def _is_marked(path: Path) -> bool:
    offset, mark = MARK
    try:
        with path.open("rb") as file:
            return file.read(offset + len(mark))[offset:] == mark
    except OSError:
        return False  # the frontend says what is wrong
