"""Quantizes a model with onnxruntime.quantization as its documentation says: pre-process, then quantize_static."""

import json
import sys
from pathlib import Path

import numpy as np
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

TYPES = {"u8": QuantType.QUInt8, "s8": QuantType.QInt8}


class Reader(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, name: str, samples: np.ndarray) -> None:
        self._batches = iter([{name: samples[i : i + 1]} for i in range(len(samples))])

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._batches, None)


job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
options = dict(job["options"])
for key in ("activation_type", "weight_type"):
    if key in options:
        options[key] = TYPES[options[key]]
model = job["model"]
if job["pre_process"]:
    prepared = str(Path(job["out"]).with_suffix(".prepared.onnx"))
    quant_pre_process(model, prepared)
    model = prepared
with np.load(job["calibration"], allow_pickle=False) as file:
    samples = file["x"]
quantize_static(model, job["out"], Reader(job["input"], samples), **options)
Path(job["result"]).write_text("{}", encoding="utf-8")
