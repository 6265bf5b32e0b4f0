"""Runs every net of a folder in ONNX Runtime; started under another CPU's emulation by `test_emulator.py`.

Arguments: the folder with `*.onnx` beside `*.npz`, and the folder of onnxruntime and numpy. Writes `*.npy`.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, sys.argv[2])

import numpy as np
import onnxruntime

for model in sorted(Path(sys.argv[1]).glob("*.onnx")):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    np.save(model.with_suffix(".npy"), session.run(None, dict(np.load(model.with_suffix(".npz"))))[0])
