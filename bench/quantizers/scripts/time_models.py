"""Times models one beside the other: rounds in which each takes its turn, in an order that rotates."""

import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
ROUND_TARGET_NS = 4_000_000
WARM_UP_CALLS = 10


def onnx_call(path: str, sample: np.ndarray) -> Callable[[], object]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    feeds = {session.get_inputs()[0].name: sample}
    return lambda: session.run(None, feeds)


def openvino_call(path: str, sample: np.ndarray) -> Callable[[], object]:
    import openvino  # of another environment

    properties = {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "PERFORMANCE_HINT": "LATENCY"}
    core = openvino.Core()
    model = core.read_model(path)
    model.reshape(sample.shape)  # a fixed shape is what it is fastest with
    request = core.compile_model(model, "CPU", properties).create_infer_request()
    return lambda: request.infer([sample], share_inputs=True)


def median_ns(call: Callable[[], object], calls: int) -> int:
    spent = []
    for _ in range(calls):
        start = time.perf_counter_ns()
        call()
        spent.append(time.perf_counter_ns() - start)
    return int(statistics.median(spent))


with np.load(job["samples"], allow_pickle=False) as file:
    sample = np.ascontiguousarray(file["x"][:1])
calls = {
    item["name"]: (openvino_call if item["path"].endswith(".xml") else onnx_call)(item["path"], sample)
    for item in job["models"]
}
repeats = {
    name: min(25, max(1, ROUND_TARGET_NS // max(1, median_ns(call, WARM_UP_CALLS)))) for name, call in calls.items()
}
rounds: dict[str, list[int]] = {name: [] for name in calls}
order = list(calls)
for _ in range(job["rounds"]):
    for name in order:
        calls[name]()  # brings its code and weights back into the caches that the one before has filled
        rounds[name].append(median_ns(calls[name], repeats[name]))
    order = order[1:] + order[:1]
Path(job["result"]).write_text(json.dumps({"rounds_ns": rounds}), encoding="utf-8")
