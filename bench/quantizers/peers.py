"""What other quantizers make of the same net and the same calibration samples, each at its documented defaults."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx

from .environment import CACHE, PINS, SCRIPTS, ScriptFailed, digest, own_python, peers_python, run_script
from .nets import Data, Net, input_name, model_file


@dataclass(frozen=True)
class Peer:
    """One way to quantize, by the script that does it and its options."""

    name: str
    script: Literal["quantize_ort", "quantize_nncf"]
    job: dict[str, Any] = field(default_factory=dict)
    engine: Literal["onnxruntime", "openvino"] = "onnxruntime"

    @property
    def is_onnxruntime_variant(self) -> bool:
        """Whether it counts as ONNX Runtime's own quantizer."""
        return self.script == "quantize_ort"


def _ort(name: str, pre_process: bool = True, **options: Any) -> Peer:
    return Peer(f"ort {name}", "quantize_ort", {"pre_process": pre_process, "options": options})


def _nncf(name: str, backend: Literal["onnx", "openvino"], overflow_fix: str = "") -> Peer:
    engine: Literal["onnxruntime", "openvino"] = "openvino" if backend == "openvino" else "onnxruntime"
    return Peer(name, "quantize_nncf", {"backend": backend, "overflow_fix": overflow_fix}, engine)


U8S8: dict[str, Any] = {"activation_type": "u8", "weight_type": "s8"}
PEERS = (
    _ort("default"),
    _ort("default, not pre-processed", pre_process=False),
    _ort("u8s8", **U8S8),
    _ort("u8s8 per-channel", **U8S8, per_channel=True),
    _ort("u8s8 per-channel reduce_range", **U8S8, per_channel=True, reduce_range=True),
    _ort("u8s8 per-channel, not pre-processed", pre_process=False, **U8S8, per_channel=True),
    _ort("u8u8", activation_type="u8", weight_type="u8"),
    _nncf("nncf onnx", "onnx"),
    _nncf("nncf onnx overflow_fix", "onnx", "ENABLE"),
    _nncf("nncf openvino", "openvino"),
    _nncf("nncf openvino overflow_fix", "openvino", "ENABLE"),
)
"""`default` is S8S8 per tensor. All ranges are MinMax, which is the default of quantize_static."""
EXACT_REFERENCES = ("ort u8s8 per-channel", "ort u8s8 per-channel, not pre-processed")
"""Full range and per channel; executed exactly they are what int8 can be worth, whoever runs it."""


def quantized(peer: Peer, net: Net, data: Data) -> Path:
    """The peer's model file, made now or before from the same bytes, samples, options and versions.

    Raises:
        ScriptFailed: the peer cannot quantize this net.
    """
    model = model_file(net)
    key = digest(
        model.read_bytes(),
        data.calibration.tobytes(),
        (SCRIPTS / f"{peer.script}.py").read_bytes(),
        repr((sorted(peer.job.items()), PINS)),
    )
    suffix = ".xml" if peer.engine == "openvino" else ".onnx"
    path = CACHE / "peers" / key / f"model{suffix}"
    failure = path.parent / "failed.txt"
    if path.exists():
        return path
    if failure.exists():
        raise ScriptFailed(failure.read_text(encoding="utf-8"))
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        _make(peer, model, data, path)
    except ScriptFailed as error:
        failure.write_text(str(error), encoding="utf-8")
        raise
    return path


def _make(peer: Peer, model: Path, data: Data, path: Path) -> None:
    python = own_python() if peer.is_onnxruntime_variant else peers_python()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        np.savez(work / "calibration.npz", x=data.calibration)
        shutil.copy(model, work / "float.onnx")
        job = {
            **peer.job,
            "model": str(work / "float.onnx"),
            "input": input_name(onnx.load(model)),
            "calibration": str(work / "calibration.npz"),
            "out": str(work / path.name),
        }
        run_script(peer.script, job, python)
        for made in work.glob("model.*"):
            shutil.move(made, path.parent / made.name)
