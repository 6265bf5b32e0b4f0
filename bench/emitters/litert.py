"""A .tflite file with one input over many samples, in LiteRT."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from numpy.typing import NDArray

Array = NDArray[Any]


class Litert:
    """A model, ready to run; `reference` takes the reference kernels, else optimised ones and XNNPACK."""

    def __init__(self, model: bytes, *, reference: bool = False) -> None:
        kind = OpResolverType.BUILTIN_REF if reference else OpResolverType.AUTO
        self._interpreter = Interpreter(model_content=model, experimental_op_resolver_type=kind, num_threads=1)
        self._interpreter.allocate_tensors()
        self._input = self._interpreter.get_input_details()[0]
        self._outputs = self._interpreter.get_output_details()

    def rounded(self, x: NDArray[np.float32]) -> Array:
        """Real values as the integers that the input takes; as they are where it takes real ones."""
        if self._input["dtype"] == np.float32:
            return x
        scale, zero_point = self._input["quantization"]
        limits = np.iinfo(self._input["dtype"])
        steps = np.clip(np.rint(x / scale + zero_point), limits.min, limits.max)
        integers: Array = steps.astype(self._input["dtype"])
        return integers

    def run(self, x: Array) -> list[Array]:
        """Every output for all samples, one after the other; integers where the model gives integers."""
        rows: list[list[Array]] = []
        for sample in x:
            self._interpreter.set_tensor(self._input["index"], sample.reshape(self._input["shape"]))
            self._interpreter.invoke()
            rows.append([self._interpreter.get_tensor(output["index"]) for output in self._outputs])
        return [np.concatenate([np.atleast_1d(each) for each in column]) for column in zip(*rows, strict=True)]

    def run_named(self, inputs: Mapping[str, Array]) -> list[Array]:
        """Every output of one call with several inputs, by the names of the signature."""
        runner = self._interpreter.get_signature_runner()
        found: Mapping[str, Array] = runner(**{name: np.ascontiguousarray(array) for name, array in inputs.items()})
        return [array.copy() for array in found.values()]

    def step(self) -> float:
        """Between two values of the first output; 0 where it is real."""
        return float(self._outputs[0]["quantization"][0])

    def real(self, outputs: list[Array]) -> list[Array]:
        """What the outputs mean."""
        return [_real(each, detail) for each, detail in zip(outputs, self._outputs, strict=True)]


def _real(array: Array, detail: dict[str, Any]) -> Array:
    scale, zero_point = detail["quantization"]
    if array.dtype == np.float32:
        return array
    meant: Array = (array.astype(np.float32) - zero_point) * np.float32(scale)
    return meant
