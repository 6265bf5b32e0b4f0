"""Bundles of any engine around one small classifier, and whatever model file a test wrote itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edgewright.bundle.archive import pack
from edgewright.bundle.assemble import write_manifest
from edgewright.bundle.calibrate import build_reference
from edgewright.bundle.datatypes import NUMBERS
from edgewright.bundle.golden import Golden, write_golden
from edgewright.bundle.manifest import (
    FORMAT_VERSION,
    EngineRequirement,
    Interval,
    Latency,
    Lineage,
    Manifest,
    MemoryNeed,
    TargetRequirement,
    TensorSpec,
)
from edgewright.bundle.reference import write_reference
from edgewright.targets.host import detect_host

FEATURES, HIDDEN, CLASSES = 64, 16, 10
IMAGE = TensorSpec(name="image", datatype="FP32", shape=(-1, FEATURES))
SCORES = TensorSpec(name="scores", datatype="FP32", shape=(-1, CLASSES))

Tensors = Mapping[str, NDArray[Any]]


class TwoLayers:
    """`image [-1, 64] -> scores [-1, 10]` with random weights."""

    def __init__(self, seed: int = 0) -> None:
        random = np.random.default_rng(seed)
        self.first = random.normal(size=(HIDDEN, FEATURES)).astype(np.float32) / 8
        self.shift = random.normal(size=HIDDEN).astype(np.float32)
        self.second = random.normal(size=(CLASSES, HIDDEN)).astype(np.float32) / 4

    def scores(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """What it has to say, computed by numpy."""
        hidden = np.maximum(image.astype(np.float64) @ self.first.T + self.shift, 0)
        answer: NDArray[np.float32] = (hidden @ self.second.T).astype(np.float32)
        return answer

    def onnx(self, batch: int | str = "n") -> onnx.ModelProto:
        nodes = [
            helper.make_node("Gemm", ["image", "first", "shift"], ["sum"], transB=1),
            helper.make_node("Relu", ["sum"], ["hidden"]),
            helper.make_node("Gemm", ["hidden", "second"], ["scores"], transB=1),
        ]
        weights: Tensors = {"first": self.first, "shift": self.shift, "second": self.second}
        return onnx_model(nodes, {"image": [batch, FEATURES]}, {"scores": [batch, CLASSES]}, weights)


def onnx_model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, Sequence[int | str | None]],
    outputs: Mapping[str, Sequence[int | str | None]],
    constants: Tensors,
    datatype: int = TensorProto.FLOAT,
) -> onnx.ModelProto:
    graph = helper.make_graph(
        list(nodes),
        "test",
        [helper.make_tensor_value_info(name, datatype, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, datatype, shape) for name, shape in outputs.items()],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    return model


def write_engine_bundle(
    directory: Path,
    engine: str,
    files: Mapping[str, bytes],
    inputs: Sequence[TensorSpec] = (IMAGE,),
    outputs: Sequence[TensorSpec] = (SCORES,),
    golden: tuple[Tensors, Tensors] | None = None,
    *,
    version: str = "",
    options: Mapping[str, str | int | bool] | None = None,
    precision: Literal["float32", "int8"] = "float32",
    isa: tuple[str, ...] = (),
) -> Manifest:
    """Write a bundle directory and its archive `DIRECTORY.bundle`. Golden tensors are zeros where none are given."""
    (directory / "model").mkdir(parents=True)
    for name, content in files.items():
        (directory / name).write_bytes(content)
    given, expected = golden or (_zeros(inputs), _zeros(outputs))
    write_golden(
        directory / "golden.safetensors",
        Golden(inputs=dict(given), outputs=dict(expected), relative_tolerance=1e-4, absolute_tolerance=1e-4),
    )
    write_reference(directory / "reference.cbor", build_reference(given, expected, None, tuple(inputs)))
    (directory / "sbom.cdx.json").write_text("{}")
    host = detect_host()
    manifest = write_manifest(
        directory,
        Manifest(
            format_version=FORMAT_VERSION,
            model="digits",
            version="1",
            security_epoch=0,
            precision=precision,
            target=TargetRequirement(name="host", digest=host.digest(), arch=host.arch, isa=isa),
            engine=EngineRequirement(name=engine, version=version, options=dict(options or {})),
            inputs=tuple(inputs),
            outputs=tuple(outputs),
            memory=MemoryNeed(model_bytes=10_000, peak_bytes=100_000),
            latency=Latency(p50_ms=0.1, interval=Interval(low=0.05, high=0.2), kind="estimated", method="a test"),
            accuracy=None,
            lineage=Lineage(
                source_digest="sha256:" + "1" * 64, data_digest=None, measurements_digest=None, passes=(), tools={}
            ),
            entries=(),
        ),
    )
    pack(directory, directory.with_suffix(".bundle"))
    return manifest


def _zeros(specs: Sequence[TensorSpec]) -> dict[str, NDArray[Any]]:
    return {spec.name: np.zeros([abs(size) for size in spec.shape], NUMBERS[spec.datatype]) for spec in specs}
