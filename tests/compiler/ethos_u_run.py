"""Runs .tflite models in LiteRT's reference kernels, which Vela's results are defined by."""

from __future__ import annotations

from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from numpy.typing import NDArray

from edgewright.compiler.tflite.file.model import Model
from edgewright.compiler.tflite.file.write import write

Array = NDArray[Any]


def random_inputs(model: Model, seed: int) -> list[Array]:
    """Int8 over the whole range, floats of the normal distribution."""
    rng = np.random.default_rng(seed)
    arrays: list[Array] = []
    for port in model.inputs:
        tensor = model.tensors[port.tensor]
        if tensor.type == "INT8":
            arrays.append(rng.integers(-128, 128, tensor.shape, dtype=np.int8))
        else:
            arrays.append(rng.standard_normal(tensor.shape).astype(np.float32))
    return arrays


def outputs_of(model: Model, inputs: list[Array]) -> list[Array]:
    interpreter = Interpreter(
        model_content=write(model), experimental_op_resolver_type=OpResolverType.BUILTIN_REF, num_threads=1
    )
    interpreter.allocate_tensors()
    for detail, array in zip(interpreter.get_input_details(), inputs, strict=True):
        interpreter.set_tensor(detail["index"], array)
    interpreter.invoke()
    return [interpreter.get_tensor(detail["index"]) for detail in interpreter.get_output_details()]
