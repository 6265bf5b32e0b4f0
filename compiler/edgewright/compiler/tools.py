"""Which installed packages have a say in the bytes of a bundle."""

from __future__ import annotations

from importlib import metadata

TOOLS = ("edgewright", "numpy", "onnx", "onnx-ir", "onnxruntime", "onnxscript")


def tool_versions(source_format: str) -> dict[str, str]:
    """Their versions, by name; torch counts where the model came through it."""
    names = (*TOOLS, "torch") if source_format == "torch" else TOOLS
    return {name: metadata.version(name) for name in sorted(names)}
