"""What calibration takes in memory, and a compilation in time."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from .environment import ScriptFailed, own_python, run_script
from .nets import SHARED, Net, model_file

CALIBRATION_SAMPLES = 10_000
IMAGE = (96, 96, 3)
KWS_MODEL = "mlperf_tiny/onnx/kws_f32.onnx"
KWS_DATA = "mlperf_tiny/kws01.npz"


def calibration_memory(net: Net) -> dict[str, Any]:
    """Growth of a process that calibrates 10 000 pictures; they are read from a file as they are needed."""
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "x.npy"
        pictures = np.lib.format.open_memmap(data, "w+", np.float32, (CALIBRATION_SAMPLES, *IMAGE))
        random = np.random.default_rng(0)
        for start in range(0, CALIBRATION_SAMPLES, 100):
            pictures[start : start + 100] = random.random((100, *IMAGE), dtype=np.float32)
        pictures.flush()
        found = run_script("calibrate", {"model": str(model_file(net)), "data": str(data)}, own_python())
        return {**found, "data_bytes": data.stat().st_size, "model_bytes": model_file(net).stat().st_size}


def compile_seconds() -> dict[str, float]:
    """Wall clock of `edgewright compile` on KWS with nothing kept, and again.

    Raises:
        ScriptFailed: the command ended with an error.
    """
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        with np.load(SHARED / KWS_DATA, allow_pickle=False) as file:
            np.savez(work / "data.npz", x=file["x"], y=file["y"])
        return {name: _compile(work, name) for name in ("cold_s", "cached_s")}


def _compile(work: Path, name: str) -> float:
    command = [sys.executable, "-m", "edgewright.runtime.cli", "compile", str(SHARED / KWS_MODEL)]
    options = ["--data", str(work / "data.npz"), "--target", "host", "--out", str(work / name)]
    folding = ["--engine", "onnxruntime", "--mean", "83", "--scale", "0.5847029"]
    start = time.perf_counter()
    done = subprocess.run(
        [*command, *options, *folding],
        env={**os.environ, "XDG_CACHE_HOME": str(work / "cache")},
        capture_output=True,
        text=True,
        check=False,
    )
    took_s = time.perf_counter() - start
    if done.returncode != 0:
        raise ScriptFailed(f"edgewright compile: exit {done.returncode}\n{done.stderr[-2000:]}")
    return round(took_s, 2)
