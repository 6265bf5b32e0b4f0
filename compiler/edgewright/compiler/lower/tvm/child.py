"""The process that TVM compiles in: `python -m … MODEL.onnx LIBRARY.so TARGET.json SHAPES.json LINKER…`.

Run by `model.py`. It imports nothing of Edgewright, so that what TVM needs and what it breaks stay here.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import onnx
import tvm
from tvm import relax
from tvm.relax.frontend.onnx import from_onnx


def main(arguments: Sequence[str]) -> None:
    """Compiles one model."""
    model_path, library_path, target, shapes, *linker = arguments
    module = from_onnx(onnx.load(model_path), shape_dict=json.loads(shapes), sanitize_input_names=False)
    executable = tvm.compile(
        relax.transform.DecomposeOpsForInference()(module), target=tvm.target.Target(json.loads(target))
    )

    def link(output: str, objects: Sequence[str], options: Any = None, **_: Any) -> None:
        subprocess.run([*linker, "-shared", "-fPIC", "-o", output, *objects, *(options or ())], check=True)

    # TVM asks a linker function for its format and for the target that it links for.
    link.output_format = "so"  # type: ignore[attr-defined]
    link.need_system_lib = False  # type: ignore[attr-defined]
    executable.export_library(library_path, fcompile=link)


if __name__ == "__main__":
    main(sys.argv[1:])
