"""Small valid bundles for tests, also those of the other parts: `from tests.bundle.samples import write_sample`."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np

from edgewright.bundle.archive import pack
from edgewright.bundle.assemble import write_manifest
from edgewright.bundle.golden import Golden, write_golden
from edgewright.bundle.manifest import (
    Accuracy,
    EngineRequirement,
    Interval,
    Latency,
    Lineage,
    Manifest,
    MemoryNeed,
    PassRecord,
    StatePair,
    TargetRequirement,
    TensorSpec,
)
from edgewright.bundle.reference import Histogram, Reference, Source, write_reference
from edgewright.bundle.steps import Normalise, Softmax

DIGEST = f"sha256:{'0123456789abcdef' * 4}"


def sample_manifest() -> Manifest:
    """A manifest with every field filled; `write_manifest` adds the entries."""
    return Manifest(
        format_version=1,
        model="digits",
        version="1",
        security_epoch=0,
        precision="int8",
        target=TargetRequirement(name="raspberry-pi-5", digest=DIGEST, arch="aarch64", isa=("asimd", "asimddp")),
        engine=EngineRequirement(name="onnxruntime", version=">=1.31,<2", options={"intra_op_threads": 1}),
        inputs=(TensorSpec(name="x", datatype="FP32", shape=(-1, 4)),),
        outputs=(TensorSpec(name="scores", datatype="FP32", shape=(-1, 3)),),
        memory=MemoryNeed(model_bytes=1000, peak_bytes=2000),
        latency=Latency(p50_ms=0.5, interval=Interval(low=0.4, high=0.7), kind="estimated", method="roofline"),
        accuracy=Accuracy(
            metric="top1",
            value=0.97,
            interval=Interval(low=0.95, high=0.985),
            float_value=0.975,
            drop=0.5,
            drop_interval=Interval(low=-0.2, high=1.2),
            samples=360,
            snr_db=31.5,
            argmax_agreement=0.99,
        ),
        flags=(),
        lineage=Lineage(
            source_digest=DIGEST,
            data_digest=DIGEST,
            measurements_digest=None,
            passes=(PassRecord(name="quantize", options={"scheme": "qdq"}, evidence={"tensors": 3}),),
            tools={"edgewright": "0.1.0", "onnxruntime": "1.31.1"},
        ),
        entries=(),
    )


def processed_manifest() -> Manifest:
    """A manifest of version 2: state, and a step on either side."""
    plain = sample_manifest()
    state_in = TensorSpec(name="h_in", datatype="FP32", shape=(-1, 8))
    state_out = TensorSpec(name="h_out", datatype="FP32", shape=(-1, 8))
    return msgspec.structs.replace(
        plain,
        format_version=2,
        inputs=(TensorSpec(name="x", datatype="UINT8", shape=(-1, 4)), state_in),
        preprocess=(Normalise(tensor="x", mean=(0.5,), std=(0.25,), scale=0.00392156862745098),),
        model_inputs=(*plain.inputs, state_in),
        model_outputs=(*plain.outputs, state_out),
        postprocess=(Softmax(tensor="scores"),),
        outputs=(*plain.outputs, state_out),
        state=(StatePair(input="h_in", output="h_out"),),
    )


def sample_reference() -> Reference:
    return Reference(
        histograms=(
            Histogram(
                name="x[0]",
                role="input",
                kind="numeric",
                edges=(-1.0, 0.0, 1.0),
                counts=(10, 40, 40, 10),
                source=Source(tensor="x", statistic="column", index=0),
            ),
            Histogram(
                name="scores class",
                role="output",
                kind="categorical",
                edges=(),
                counts=(30, 30, 40),
                source=Source(tensor="scores", statistic="class", softmax=True),
            ),
            Histogram(
                name="scores confidence",
                role="output",
                kind="numeric",
                edges=(0.5, 0.9),
                counts=(5, 15, 80),
                source=Source(tensor="scores", statistic="confidence", softmax=True),
            ),
        ),
        confidence_table=(0.4, 0.7, 0.99),
    )


def sample_golden() -> Golden:
    inputs = np.arange(8, dtype=np.float32).reshape(2, 4)
    outputs = np.array([[0.1, 0.2, 0.7], [0.8, 0.1, 0.1]], dtype=np.float32)
    return Golden(
        inputs={"x": inputs}, outputs={"scores": outputs}, relative_tolerance=0.001, absolute_tolerance=0.0001
    )


def write_sample(
    directory: Path,
    *,
    model_bytes: bytes = b"not a real model",
    reference: Reference | None = None,
    **changes: object,
) -> Manifest:
    """Write a bundle directory; `changes` replace fields of the sample manifest."""
    (directory / "model").mkdir(parents=True)
    (directory / "model" / "model.onnx").write_bytes(model_bytes)
    (directory / "sbom.cdx.json").write_text('{"bomFormat": "CycloneDX", "specVersion": "1.6"}\n')
    write_golden(directory / "golden.safetensors", sample_golden())
    write_reference(directory / "reference.cbor", reference or sample_reference())
    return write_manifest(directory, msgspec.structs.replace(sample_manifest(), **changes))


def pack_sample(folder: Path, *, name: str = "sample", **changes: object) -> tuple[Path, str]:
    """Write a sample bundle and its archive into `folder`; returns the archive and its digest."""
    write_sample(folder / name, **changes)  # type: ignore[arg-type]
    archive = folder / f"{name}.bundle"
    return archive, pack(folder / name, archive)
