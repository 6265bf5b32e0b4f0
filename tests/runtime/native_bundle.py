"""Builds small real bundles of engine `native`: a classifier from our compiler, and whatever a test writes in C."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

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
from edgewright.compiler.lower.native.expression import Accumulator, Call, Row, Scalar
from edgewright.compiler.lower.native.kernels.families import default_kernels
from edgewright.compiler.lower.native.machine import Machine
from edgewright.compiler.lower.native.net import Dense, Epilogue, Net, Tensor
from edgewright.compiler.lower.native.source import C_FOLDER, make_source
from edgewright.compiler.lower.native.toolchain import build
from edgewright.targets.host import detect_host

FEATURES, HIDDEN, CLASSES = 64, 32, 10
BATCHES = (1, 8)

Tensors = Mapping[str, NDArray[Any]]

needs_gcc = pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed (apt-get install gcc)")


class Classifier:
    """Two layers with random weights: `image [-1, 64] -> scores [-1, 10]`."""

    def __init__(self, seed: int = 0) -> None:
        random = np.random.default_rng(seed)
        self._first = random.normal(size=(HIDDEN, FEATURES)).astype(np.float32) / 8
        self._shift = random.normal(size=HIDDEN).astype(np.float32)
        self._second = random.normal(size=(CLASSES, HIDDEN)).astype(np.float32) / 4

    def scores(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """What it has to say, computed by numpy."""
        hidden = np.maximum(image.astype(np.float64) @ self._first.T + self._shift, 0)
        answer: NDArray[np.float32] = (hidden @ self._second.T).astype(np.float32)
        return answer

    def net(self, batch: int) -> Net:
        image, scores = Tensor("image", (batch, FEATURES)), Tensor("scores", (batch, CLASSES))
        hidden = Tensor("hidden", (batch, HIDDEN))
        relu = Call("max", (Call("add", (Accumulator(), Row(0))), Scalar(0.0)))
        layers = (
            Dense(x=image, y=hidden, weight=self._first, epilogue=Epilogue(relu, (self._shift,))),
            Dense(x=hidden, y=scores, weight=self._second),
        )
        return Net((image,), (scores,), layers)

    def write_library(self, path: Path, machine: Machine, batches: Sequence[int] = BATCHES) -> None:
        nets = {batch: self.net(batch) for batch in batches}
        kernels = {batch: default_kernels(net.layers, machine) for batch, net in nets.items()}
        source = make_source("digits", nets, kernels, machine, "test")
        with tempfile.TemporaryDirectory() as folder:
            shutil.copyfile(build(source.files, machine, Path(folder)), path)


def compile_c(path: Path, text: str) -> None:
    """Compile a model that a test wrote itself; it includes `edgewright_native.h`."""
    command = ["gcc", "-std=gnu11", "-O1", "-shared", "-fPIC", "-w", f"-I{C_FOLDER}", "-x", "c", "-", "-o", str(path)]
    subprocess.run(command, input=text, text=True, check=True)


def write_native_bundle(
    directory: Path,
    library: Path,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    golden: tuple[Tensors, Tensors],
    *,
    name: str = "digits",
    version: str = "1",
    isa: tuple[str, ...] = (),
    options: Mapping[str, str | int | bool] | None = None,
) -> Manifest:
    """Write a bundle directory and, beside it, its archive `DIRECTORY.bundle`."""
    host = detect_host()
    (directory / "model").mkdir(parents=True)
    shutil.copyfile(library, directory / "model/model.so")
    write_golden(
        directory / "golden.safetensors",
        Golden(inputs=dict(golden[0]), outputs=dict(golden[1]), relative_tolerance=1e-4, absolute_tolerance=1e-5),
    )
    write_reference(directory / "reference.cbor", build_reference(*golden, None, tuple(inputs)))
    (directory / "sbom.cdx.json").write_text("{}")
    size_bytes = library.stat().st_size
    manifest = write_manifest(
        directory,
        Manifest(
            format_version=FORMAT_VERSION,
            model=name,
            version=version,
            security_epoch=0,
            precision="float32",
            target=TargetRequirement(name="host", digest=host.digest(), arch=host.arch, isa=isa),
            engine=EngineRequirement(name="native", version=">=1,<2", options=dict(options or {})),
            inputs=tuple(inputs),
            outputs=tuple(outputs),
            memory=MemoryNeed(model_bytes=size_bytes, peak_bytes=size_bytes + 100_000),
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
    pack(directory, directory.with_suffix(".bundle"))
    return manifest


def classifier_bundle(
    directory: Path, machine: Machine, *, seed: int = 0, batches: Sequence[int] = BATCHES, **options: Any
) -> Manifest:
    """Write a bundle of the classifier."""
    classifier = Classifier(seed)
    samples = np.random.default_rng(7).uniform(0, 1, (32, FEATURES)).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "model.so"
        classifier.write_library(library, machine, batches)
        return write_native_bundle(
            directory,
            library,
            [TensorSpec(name="image", datatype="FP32", shape=(-1, FEATURES))],
            [TensorSpec(name="scores", datatype="FP32", shape=(-1, CLASSES))],
            ({"image": samples}, {"scores": classifier.scores(samples)}),
            **options,
        )
