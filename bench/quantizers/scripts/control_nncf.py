"""NNCF's quantize_with_accuracy_control at its defaults, with every evaluation counted. Runs where NNCF is.

Without a `max_drop` in the job, the budget is half of what NNCF's default int8 loses.
"""

import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import nncf  # type: ignore[import-not-found]  # of another environment
import numpy as np
import onnx
import onnxruntime
import openvino

job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
BEST = 1.0
"""What the float model scores. Distortion is told as what it lacks to 1: NNCF divides by the float model's score."""
counted = {"evaluations": 0, "samples": 0}


def opened(model: Any) -> Callable[[np.ndarray], np.ndarray]:
    """What answers one sample, whichever of the two NNCF hands over."""
    if isinstance(model, onnx.ModelProto):
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return lambda x: np.asarray(session.run(None, {job["input"]: x})[0])
    compiled = openvino.compile_model(model, "CPU") if isinstance(model, openvino.Model) else model
    return lambda x: np.asarray(compiled(x)[0])


def score(model: Any, items: Iterable[tuple[np.ndarray, np.ndarray]]) -> tuple[float, list[float]]:
    """The metric, higher is better, and its part of every sample."""
    call = opened(model)
    pairs = [(call(x).ravel(), truth.ravel()) for x, truth in items]
    if len(pairs) > 1:  # with one sample NNCF only asks what kind of metric this is
        counted["evaluations"] += 1
        counted["samples"] += len(pairs)
    if job["metric"] == "agreement":
        same = [float(found.argmax() == truth.argmax()) for found, truth in pairs]
        return float(np.mean(same)), same
    noise = [float(np.sum((found - truth) ** 2)) for found, truth in pairs]
    signal = sum(float(np.sum(truth**2)) for _, truth in pairs)
    return BEST - float(np.sqrt(sum(noise) / signal)), [-each for each in noise]


with np.load(job["data"], allow_pickle=False) as file:
    calibration, tune, truth = file["calibration"], file["tune"], file["truth"]
inputs = nncf.Dataset([{job["input"]: calibration[i : i + 1]} for i in range(len(calibration))])
pairs = [(tune[i : i + 1], truth[i]) for i in range(len(tune))]
validation = nncf.Dataset(pairs, lambda pair: {job["input"]: pair[0]})
is_onnx = job["backend"] == "onnx"
model = onnx.load(job["model"]) if is_onnx else openvino.Core().read_model(job["model"])
max_drop = job["max_drop"]
if max_drop is None:
    plain = nncf.quantize(model, inputs)
    max_drop = (BEST - score(plain, pairs)[0]) / 2
    counted.update(evaluations=0, samples=0)
controlled = nncf.quantize_with_accuracy_control(model, inputs, validation, score, max_drop=max_drop)
spent = dict(counted)
drop = BEST - score(controlled, pairs)[0]
if is_onnx:
    onnx.save(controlled, job["out"])
else:
    openvino.save_model(controlled, job["out"])
Path(job["result"]).write_text(json.dumps({**spent, "max_drop": max_drop, "drop": drop}), encoding="utf-8")
