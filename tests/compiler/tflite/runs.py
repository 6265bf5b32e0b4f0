"""Runs the same inputs through LiteRT and ONNX Runtime."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from edgewright.compiler.graph import Graph, to_bytes
from edgewright.compiler.lower.onnxruntime import Arithmetic, open_session
from edgewright.compiler.tflite.file.model import Array, Model
from edgewright.compiler.tflite.file.write import write


def run_litert(model: Model | bytes, inputs: Mapping[str, Array], *, reference: bool = False) -> dict[str, Array]:
    """One call; ports by the names of the signature. `reference` takes LiteRT's reference kernels."""
    content = model if isinstance(model, bytes) else write(model)
    kind = OpResolverType.BUILTIN_REF if reference else OpResolverType.AUTO
    interpreter = Interpreter(model_content=content, experimental_op_resolver_type=kind, num_threads=1)
    interpreter.allocate_tensors()
    runner = interpreter.get_signature_runner("serving_default")
    found: dict[str, Array] = runner(**{name: np.asarray(array, order="C") for name, array in inputs.items()})
    return {name: array.copy() for name, array in found.items()}


def run_onnx(graph: Graph, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """One call with every operator computed as written."""
    session = open_session(to_bytes(graph), Arithmetic.EXACT)
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(inputs)), strict=True))
