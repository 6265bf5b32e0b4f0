"""A command that is stopped in its work leaves nothing behind, not even of a model too large for memory."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import numpy_helper

from edgewright.compiler.lower.model_file import LARGEST_IN_MEMORY_BYTES
from edgewright.compiler.scratch import PREFIX

COMMAND = (sys.executable, "-m", "edgewright.runtime.cli")
COLUMNS = 1024
ROWS = LARGEST_IN_MEMORY_BYTES // COLUMNS // 4
DEADLINE_S = 60.0


def large_net(folder: Path) -> Path:
    """A look-up in a table of zeros that takes no room on the disk, and a product."""
    size_bytes = ROWS * COLUMNS * 4
    with (folder / "table.bin").open("wb") as file:
        file.truncate(size_bytes)
    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17]>
        g (int64[N] x) => (float[N, 4] y) { rows = Gather(table, x) y = MatMul(rows, w) }"""
    )
    model.graph.initializer.append(numpy_helper.from_array(np.ones((COLUMNS, 4), np.float32), "w"))
    table = model.graph.initializer.add(name="table", data_type=onnx.TensorProto.FLOAT, dims=[ROWS, COLUMNS])
    table.data_location = onnx.TensorProto.EXTERNAL
    table.external_data.add(key="location", value="table.bin")
    onnx.save(model, folder / "large.onnx")
    return folder / "large.onnx"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("command", ["compile", "quantize"])
def test_nothing_is_left(tmp_path: Path, command: str, number: signal.Signals) -> None:
    model = large_net(tmp_path)
    np.savez(tmp_path / "data.npz", x=np.arange(64))
    out = tmp_path / "out"
    out.mkdir()
    options = {
        "compile": [
            *("--target", "host", "--engine", "onnxruntime", "--no-cache"),
            *("--data", str(tmp_path / "data.npz"), "--out", str(out)),
        ],
        "quantize": ["--method", "weights", "--out", str(out / "q.onnx")],
    }[command]
    process = subprocess.Popen([*COMMAND, command, str(model), *options], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + DEADLINE_S
    while not list(out.glob(f"{PREFIX}*/*")):
        assert process.poll() is None, "it ended before it wrote a weight"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(number)
    _, told = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 130, told
    assert told.splitlines()[-1] == "edgewright: interrupted; no half-written file is left"
    assert not list(out.iterdir())
