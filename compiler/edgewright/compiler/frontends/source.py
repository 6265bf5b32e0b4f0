"""What a frontend hands over."""

from __future__ import annotations

from dataclasses import dataclass

from ..graph import Graph


@dataclass(frozen=True)
class SourceModel:
    """A trained model as the compiler takes it up."""

    graph: Graph
    name: str
    digest: str
    """`sha256:…` of what the user gave."""
    format: str
    """`onnx`, `tflite` or `torch`."""
