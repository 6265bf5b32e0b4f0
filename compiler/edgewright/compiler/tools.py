"""Which installed packages have a say in the bytes of a bundle."""

from __future__ import annotations

from importlib import metadata

TOOLS = ("ai-edge-litert", "edgewright", "numpy", "onnx", "onnx-ir", "onnxruntime", "onnxscript")

OPTIONAL_TOOLS = ("apache-tvm", "ethos-u-vela", "openvino", "tflite-runtime")
"""Engines and compilers that are used where they are installed."""


def optional_versions() -> dict[str, str]:
    """Versions of those of the optional tools that are installed."""
    found = {}
    for name in OPTIONAL_TOOLS:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def tool_versions(source_format: str) -> dict[str, str]:
    """Their versions, by name; torch counts where the model came through it."""
    names = (*TOOLS, "torch") if source_format == "torch" else TOOLS
    return {name: metadata.version(name) for name in sorted(names)}
