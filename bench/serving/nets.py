"""The nets that are served: KWS (MLPerf Tiny), an identity over a picture, one of some milliseconds, one of 40 MB."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edgewright.bundle.archive import unpack
from edgewright.bundle.manifest import TensorSpec
from tests.runtime.small_bundle import write_bundle

SHARED = Path(__file__).resolve().parents[3] / "shared/data"
KWS = SHARED / "mlperf_tiny/onnx/kws_f32.onnx"
KWS_DATA = SHARED / "mlperf_tiny/kws01.npz"
KWS_SCALE, KWS_ZERO_POINT = 0.5847029, 83


@dataclass(frozen=True)
class Net:
    """A net as an ONNX file for the peers, and as bundles by engine for us."""

    name: str
    onnx: Path
    bundles: dict[str, Path]
    """Unpacked, by engine."""
    digests: dict[str, str]
    input: TensorSpec
    sample: NDArray[np.float32]


def kws(base: Path, edgewright: Path) -> Net:
    """The DS-CNN, compiled by us for this machine: in float for each engine, and as it ships by default."""
    data = np.load(KWS_DATA)
    x = (data["x"].astype(np.float32) - KWS_ZERO_POINT) * np.float32(KWS_SCALE)
    np.savez(base / "kws.npz", x=x, y=data["y"])
    # A drop that no int8 plan meets: the peers serve the float net, so do we. `int8` is what ships by default.
    options = {engine: ["--engine", engine, "--max-drop", "0.001%"] for engine in ("onnxruntime", "native")}
    bundles, digests = {}, {}
    for name, more in {**options, "int8": []}.items():
        out = base / f"kws-{name}"
        command = [str(edgewright), "compile", str(KWS), "--target", "host", "--data", str(base / "kws.npz")]
        command += ["--out", str(out), "--name", "kws", "--tune", "5", *more]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode not in {0, 3}:
            raise RuntimeError(f"compiling KWS failed: {done.stderr}")
        manifest = unpack(out / "host.bundle", out / "unpacked")
        bundles[name], digests[name] = out / "unpacked", "sha256:" + "0" * 64
    return Net("kws", KWS, bundles, digests, manifest.inputs[0], x[:1])


def generated(base: Path, name: str, model: onnx.ModelProto, *, version: str = "1") -> Net:
    """A net as a bundle for ONNX Runtime."""
    shape = [dim.dim_value or 1 for dim in model.graph.input[0].type.tensor_type.shape.dim]
    sample = np.random.default_rng(1).uniform(size=shape).astype(np.float32)
    path = base / f"{name}-{version}.onnx"
    onnx.save(model, path)
    bundle = write_bundle(base / f"{name}-{version}", model, {"x": sample}, name=name, version=version)
    found = {"onnxruntime": bundle.directory}
    return Net(name, path, found, {"onnxruntime": bundle.digest}, bundle.manifest.inputs[0], sample)


def identity() -> onnx.ModelProto:
    """1 x 3 x 224 x 224 in, the same out."""
    return _model([helper.make_node("Identity", ["x"], ["y"])], [], ["n", 3, 224, 224], ["n", 3, 224, 224])


def convolutions(layers: int = 4, channels: int = 64) -> onnx.ModelProto:
    """Some milliseconds of 3 x 3 convolutions on 32 x 32; the output is small."""
    random = np.random.default_rng(0)
    nodes, weights, value, fan_in = [], [], "x", 3
    for layer in range(layers):
        w = (random.normal(size=(channels, fan_in, 3, 3)) / (9 * fan_in) ** 0.5).astype(np.float32)
        weights.append(numpy_helper.from_array(w, f"w{layer}"))
        nodes.append(helper.make_node("Conv", [value, f"w{layer}"], [f"c{layer}"], pads=[1, 1, 1, 1]))
        nodes.append(helper.make_node("Relu", [f"c{layer}"], [f"r{layer}"]))
        value, fan_in = f"r{layer}", channels
    nodes += [helper.make_node("GlobalAveragePool", [value], ["p"]), helper.make_node("Flatten", ["p"], ["y"])]
    return _model(nodes, weights, ["n", 3, 32, 32], ["n", channels])


def forty_megabytes(seed: int) -> onnx.ModelProto:
    """One product with 40 MB of weights."""
    w = np.random.default_rng(seed).normal(size=(3200, 3200)).astype(np.float32) / np.float32(3200)
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    return _model(nodes, [numpy_helper.from_array(w, "w")], ["n", 3200], ["n", 3200])


def _model(nodes: list[Any], weights: list[Any], shape_in: list[Any], shape_out: list[Any]) -> onnx.ModelProto:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape_in)
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, shape_out)
    graph = helper.make_graph(nodes, "net", [x], [y], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
