"""The same net in BentoML, over the same JSON."""

import os
from typing import Any

import bentoml
import numpy as np
import onnxruntime as ort


@bentoml.service(workers=1)
class Net:
    def __init__(self) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self.session = ort.InferenceSession(os.environ["BENCH_MODEL"], options, providers=["CPUExecutionProvider"])
        self.input, self.output = self.session.get_inputs()[0].name, self.session.get_outputs()[0].name

    @bentoml.api  # type: ignore[untyped-decorator]
    def infer(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        tensor = inputs[0]
        x = np.asarray(tensor["data"], np.float32).reshape(tensor["shape"])
        y = self.session.run([self.output], {self.input: x})[0]
        return {
            "outputs": [{"name": self.output, "shape": list(y.shape), "datatype": "FP32", "data": y.ravel().tolist()}]
        }
