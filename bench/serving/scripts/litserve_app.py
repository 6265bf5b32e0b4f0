"""The same net in LitServe, over the same JSON."""

from __future__ import annotations

import os
from typing import Any

import litserve
import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray


class Net(litserve.LitAPI):  # type: ignore[misc] # LitServe is not installed where this is checked
    def setup(self, device: str) -> None:  # noqa: ARG002 - LitServe passes it
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self.session = ort.InferenceSession(os.environ["BENCH_MODEL"], options, providers=["CPUExecutionProvider"])
        self.input, self.output = self.session.get_inputs()[0].name, self.session.get_outputs()[0].name

    # LitServe reads the annotations: one that is no model of pydantic makes the body a query parameter.
    def decode_request(self, request):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN201
        tensor = request["inputs"][0]
        return np.asarray(tensor["data"], np.float32).reshape(tensor["shape"])

    def predict(self, x: NDArray[np.float32]) -> Any:
        return self.session.run([self.output], {self.input: x})[0]

    def encode_response(self, y: Any) -> Any:
        return {"outputs": [{"name": self.output, "shape": y.shape, "datatype": "FP32", "data": y.ravel().tolist()}]}


if __name__ == "__main__":
    server = litserve.LitServer(Net(), accelerator="cpu", workers_per_device=1, fast_queue=True)
    server.run(port=int(os.environ["BENCH_PORT"]), num_api_servers=1, log_level="warning", access_log=False)
