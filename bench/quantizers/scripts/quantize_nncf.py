"""Quantizes a model with NNCF at its defaults, as ONNX or as OpenVINO IR. Runs in the peers' environment."""

import json
import sys
from pathlib import Path

import nncf  # type: ignore[import-not-found]  # of another environment
import numpy as np
import onnx
import openvino

job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
with np.load(job["calibration"], allow_pickle=False) as file:
    samples = file["x"]
dataset = nncf.Dataset([{job["input"]: samples[i : i + 1]} for i in range(len(samples))])
options = {}
if job["overflow_fix"]:
    options["advanced_parameters"] = nncf.AdvancedQuantizationParameters(
        overflow_fix=nncf.OverflowFix[job["overflow_fix"]]
    )
if job["backend"] == "onnx":
    onnx.save(nncf.quantize(onnx.load(job["model"]), dataset, **options), job["out"])
else:
    openvino.save_model(nncf.quantize(openvino.Core().read_model(job["model"]), dataset, **options), job["out"])
Path(job["result"]).write_text("{}", encoding="utf-8")
