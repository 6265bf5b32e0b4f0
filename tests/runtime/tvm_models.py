"""Libraries that TVM compiled, each in a process of its own: the compiler takes seconds to load, and has crashed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import onnx

COMPILE = """
import sys
import onnx, tvm
from tvm.relax.frontend.onnx import from_onnx
model = onnx.load(sys.argv[1])
module = from_onnx(model, keep_params_in_input=False, sanitize_input_names=False)
tvm.compile(module, target="llvm").export_library(sys.argv[2])
"""


def tvm_library(model: onnx.ModelProto, folder: Path) -> bytes:
    """The library of a model whose shapes are all fixed."""
    source, library = folder / "model.onnx", folder / "model.so"
    source.write_bytes(model.SerializeToString())
    subprocess.run([sys.executable, "-W", "ignore", "-c", COMPILE, source, library], check=True, timeout=120)
    return library.read_bytes()
