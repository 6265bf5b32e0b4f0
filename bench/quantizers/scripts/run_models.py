"""Runs models over samples and stores every output. Starts in any environment, and under an emulated CPU."""

import json
import sys
from pathlib import Path

job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
sys.path[:0] = job.get("site_packages", [])

import numpy as np  # noqa: E402  (the path to it is part of the job)


def onnx_outputs(path: str, samples: np.ndarray, *, exact: bool) -> dict[str, np.ndarray]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    if exact:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    source = session.get_inputs()[0]
    names = [output.name for output in session.get_outputs()]
    step = source.shape[0] if isinstance(source.shape[0], int) else job["batch"]
    rows = [session.run(names, {source.name: samples[i : i + step]}) for i in range(0, len(samples), step)]
    return {f"output{i}": np.concatenate([row[i] for row in rows]) for i in range(len(names))}


def openvino_outputs(path: str, samples: np.ndarray) -> dict[str, np.ndarray]:
    import openvino  # of another environment

    core = openvino.Core()
    model = core.read_model(path)
    for node in model.get_ordered_ops():
        if node.get_type_name() == "Softmax":
            model.add_outputs([node.input_value(0)])
    compiled = core.compile_model(model, "CPU", {"INFERENCE_NUM_THREADS": 1})
    rows = [list(compiled(samples[i : i + 1]).to_tuple()) for i in range(len(samples))]
    return {f"output{i}": np.concatenate([row[i] for row in rows]) for i in range(len(rows[0]))}


with np.load(job["samples"], allow_pickle=False) as file:
    samples = file["x"]
for item in job["models"]:
    if item["path"].endswith(".xml"):
        found = openvino_outputs(item["path"], samples)
    else:
        found = onnx_outputs(item["path"], samples, exact=job["exact"])
    np.savez(item["out"], **found)  # type: ignore[arg-type]
Path(job["result"]).write_text("{}", encoding="utf-8")
