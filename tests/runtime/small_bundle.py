"""Builds small real bundles: a network shaped like a digits classifier, and an echo of several datatypes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edgewright.bundle.archive import pack
from edgewright.bundle.assemble import write_manifest
from edgewright.bundle.calibrate import build_reference
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

CLASSES = 10
FEATURES = 64
DATATYPES = {
    "BOOL": (TensorProto.BOOL, np.bool_),
    "UINT8": (TensorProto.UINT8, np.uint8),
    "UINT16": (TensorProto.UINT16, np.uint16),
    "UINT32": (TensorProto.UINT32, np.uint32),
    "UINT64": (TensorProto.UINT64, np.uint64),
    "INT8": (TensorProto.INT8, np.int8),
    "INT16": (TensorProto.INT16, np.int16),
    "INT32": (TensorProto.INT32, np.int32),
    "INT64": (TensorProto.INT64, np.int64),
    "FP16": (TensorProto.FLOAT16, np.float16),
    "FP32": (TensorProto.FLOAT, np.float32),
    "FP64": (TensorProto.DOUBLE, np.float64),
}
"""Those of numbers; `BYTES` there is, too."""
TEXTS = {"BYTES": (TensorProto.STRING, np.object_)}
_ALL = {**DATATYPES, **TEXTS}

Tensors = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class SmallBundle:
    """An unpacked bundle, its archive, and how to get the right answers without a server."""

    directory: Path
    archive: Path
    digest: str
    manifest: Manifest

    def run(self, inputs: Tensors) -> dict[str, NDArray[Any]]:
        """Return what the model says, straight from the engine."""
        session = ort.InferenceSession(self.directory / "model/model.onnx", providers=["CPUExecutionProvider"])
        names = [output.name for output in session.get_outputs()]
        return dict(zip(names, session.run(names, dict(inputs)), strict=True))


def digits_model(seed: int = 0, hidden: int = 16) -> onnx.ModelProto:
    """Return a two-layer classifier `image [-1, 64] -> scores [-1, 10]` with random weights."""
    random = np.random.default_rng(seed)
    weights: dict[str, NDArray[Any]] = {
        "w1": random.normal(size=(FEATURES, hidden)).astype(np.float32) / 8,
        "b1": random.normal(size=hidden).astype(np.float32),
        "w2": random.normal(size=(hidden, CLASSES)).astype(np.float32) / 4,
        "b2": random.normal(size=CLASSES).astype(np.float32),
    }
    nodes = [
        helper.make_node("Gemm", ["image", "w1", "b1"], ["h"]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("Gemm", ["r", "w2", "b2"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["scores"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "digits",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", FEATURES])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", CLASSES])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    return _model(graph)


def echo_model(datatypes: tuple[str, ...], shape: tuple[int | str, ...]) -> onnx.ModelProto:
    """Return a model that gives each input back: `in_fp32 -> out_fp32`, and so on."""
    nodes, inputs, outputs = [], [], []
    for datatype in datatypes:
        name, kind = datatype.lower(), _ALL[datatype][0]
        nodes.append(helper.make_node("Identity", [f"in_{name}"], [f"out_{name}"]))
        inputs.append(helper.make_tensor_value_info(f"in_{name}", kind, shape))
        outputs.append(helper.make_tensor_value_info(f"out_{name}", kind, shape))
    return _model(helper.make_graph(nodes, "echo", inputs, outputs))


def _model(graph: onnx.GraphProto) -> onnx.ModelProto:
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    return model


def write_bundle(
    directory: Path,
    model: onnx.ModelProto,
    golden_inputs: Tensors,
    *,
    name: str = "digits",
    version: str = "1",
    engine_version: str = ">=1.20",
    golden_shift: float = 0.0,
    target: str = "host",
) -> SmallBundle:
    """Write a bundle directory and its archive. `golden_shift` moves the expected outputs: the self-test must fail."""
    (directory / "model").mkdir(parents=True)
    (directory / "model/model.onnx").write_bytes(model.SerializeToString(deterministic=True))
    session = ort.InferenceSession(directory / "model/model.onnx", providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    outputs = dict(zip(names, session.run(names, dict(golden_inputs)), strict=True))
    shifted = {
        key: (value + golden_shift).astype(value.dtype) if golden_shift else value for key, value in outputs.items()
    }
    golden = Golden(inputs=dict(golden_inputs), outputs=shifted, relative_tolerance=1e-4, absolute_tolerance=1e-5)
    write_golden(directory / "golden.safetensors", golden)
    inputs_spec = tuple(_spec(value) for value in model.graph.input)
    outputs_spec = tuple(_spec(value) for value in model.graph.output)
    write_reference(directory / "reference.cbor", build_reference(golden_inputs, outputs, None, inputs_spec))
    (directory / "sbom.cdx.json").write_text("{}")
    manifest = write_manifest(
        directory,
        Manifest(
            format_version=FORMAT_VERSION,
            model=name,
            version=version,
            security_epoch=0,
            precision="float32",
            target=TargetRequirement(name=target, digest="sha256:" + "0" * 64, arch="x86_64", isa=()),
            engine=EngineRequirement(
                name="onnxruntime", version=engine_version, options={"intra_op_threads": 1, "allow_spinning": False}
            ),
            inputs=inputs_spec,
            outputs=outputs_spec,
            memory=MemoryNeed(model_bytes=10_000, peak_bytes=100_000),
            latency=Latency(
                p50_ms=0.1, interval=Interval(low=0.05, high=0.2), kind="estimated", method="a test bundle"
            ),
            accuracy=None,
            lineage=Lineage(
                source_digest="sha256:" + "1" * 64, data_digest=None, measurements_digest=None, passes=(), tools={}
            ),
            entries=(),
        ),
    )
    archive = directory.with_suffix(".bundle")
    return SmallBundle(directory, archive, pack(directory, archive), manifest)


def digits_bundle(directory: Path, *, seed: int = 0, hidden: int = 16, **options: Any) -> SmallBundle:
    """Write a digits-like bundle; `seed` chooses the weights."""
    samples = np.random.default_rng(7).uniform(0, 1, (32, FEATURES)).astype(np.float32)
    return write_bundle(directory, digits_model(seed, hidden), {"image": samples}, **options)


def echo_bundle(directory: Path, datatypes: tuple[str, ...] = tuple(DATATYPES), **options: Any) -> SmallBundle:
    """Write a bundle that gives every input back, shape [-1, 3] each; `BYTES` may be among the datatypes."""
    numbers = np.arange(12).reshape(4, 3)
    values: dict[str, NDArray[Any]] = {
        f"in_{kind.lower()}": numbers.astype(str).astype(np.object_) if kind in TEXTS else numbers.astype(_ALL[kind][1])
        for kind in datatypes
    }
    return write_bundle(directory, echo_model(datatypes, ("n", 3)), values, **{"name": "echo", **options})


def _spec(value: onnx.ValueInfoProto) -> TensorSpec:
    kind = value.type.tensor_type
    datatype: Any = next(name for name, (code, _) in _ALL.items() if code == kind.elem_type)
    return TensorSpec(name=value.name, datatype=datatype, shape=tuple(d.dim_value or -1 for d in kind.shape.dim))
