"""Bundles with steps around a small model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
from numpy.typing import NDArray

from edgewright.bundle.assemble import write_manifest
from edgewright.bundle.calibrate import build_reference
from edgewright.bundle.golden import Golden, write_golden
from edgewright.bundle.manifest import Manifest, TensorSpec
from edgewright.bundle.processing.chain import Chain
from edgewright.bundle.reference import write_reference
from edgewright.bundle.steps import Step
from tests.runtime.small_bundle import SmallBundle

Tensors = Mapping[str, NDArray[Any]]


def with_steps(
    small: SmallBundle,
    inputs: tuple[TensorSpec, ...],
    before: tuple[Step, ...],
    after: tuple[Step, ...],
    golden: Tensors,
) -> Path:
    """Give a bundle directory steps: its manifest, self-test and reference are then the client's."""
    manifest, directory = small.manifest, small.directory
    chain = Chain(after, manifest.outputs, "after")
    outputs = chain.run(small.run(Chain(before, inputs, "before").run(golden)))
    tested = {name: array for name, array in outputs.items() if array.dtype != object}
    write_golden(
        directory / "golden.safetensors",
        Golden(inputs=dict(golden), outputs=tested, relative_tolerance=1e-4, absolute_tolerance=1e-5),
    )
    write_reference(directory / "reference.cbor", build_reference(golden, outputs, None, inputs))
    changed: Manifest = msgspec.structs.replace(
        manifest,
        format_version=2,
        inputs=inputs,
        outputs=chain.result,
        preprocess=before,
        postprocess=after,
        model_inputs=manifest.inputs,
        model_outputs=manifest.outputs,
    )
    write_manifest(directory, changed)
    return directory
