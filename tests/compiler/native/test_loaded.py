"""Libraries on numpy arrays: calls that outlive what they were made from, and buffers that lie as tuning wants them."""

from __future__ import annotations

import gc
from pathlib import Path

import numpy as np

from edgewright.compiler.lower.native.loaded import Loaded
from edgewright.compiler.lower.native.memory import ALIGNMENT_BYTES
from edgewright.compiler.lower.native.toolchain import build
from tests.compiler.native.cross import dense_net, random_inputs, small_source
from tests.compiler.native.single_layer import HERE


def test_a_call_keeps_the_library_and_takes_inputs_from_anywhere(tmp_path: Path) -> None:
    path = build(small_source(HERE).files, HERE, tmp_path)
    inputs = random_inputs(dense_net())
    loaded = Loaded(path)
    outputs = loaded.outputs["t3"]
    expected = loaded.run(inputs)["t3"]
    odd = np.ndarray(inputs["t0"].shape, np.float32, bytearray(inputs["t0"].nbytes + 1), offset=1)
    odd[...] = inputs["t0"]
    call = loaded.bind({"t0": odd})
    assert outputs.ctypes.data % ALIGNMENT_BYTES == 0
    del loaded
    gc.collect()
    outputs[...] = 0
    call()
    assert outputs.tobytes() == expected.tobytes()
