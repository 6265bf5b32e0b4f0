"""From an unpacked bundle to a model that has proved itself: load, golden self-test, warm-up, timing.

Used by the server (in a thread), by the trial process and by `edgewright run`. Nothing here knows of HTTP.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from edgewright.bundle.archive import read_manifest
from edgewright.bundle.datatypes import NUMPY_OF_DATATYPE
from edgewright.bundle.golden import Golden, compare, read_golden
from edgewright.bundle.manifest import Manifest
from edgewright.bundle.reference import Reference, read_reference
from edgewright.targets.faults import UserFault

from ..engines.processed import load_with_steps
from ..engines.protocol import Instance, LoadOptions
from .schedule.latency_model import Point
from .warm_up import warm_up

GOLDEN_FILE = "golden.safetensors"
REFERENCE_FILE = "reference.cbor"


class GoldenTestFailed(UserFault):
    """The model loads and runs on this machine, but gives other numbers than its target should."""


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model that passed its golden self-test on this machine."""

    manifest: Manifest
    instance: Instance
    reference: Reference
    reference_digest: str
    p50_s: float
    """Median time of one inference with batch 1 (or the model's fixed batch) after the warm-up."""
    load_s: float
    warm_up: tuple[Point, ...] = ()
    """Rows and seconds of every batch size that was run before it serves; 1 row (or the fixed batch) first."""


def load_bundle(directory: Path, options: LoadOptions, max_batch_rows: int = 1) -> LoadedModel:
    """Load the model of an unpacked bundle and prove it.

    Args:
        directory: the bundle.
        options: of this machine.
        max_batch_rows: batches up to this size are warmed up, as far as that takes no long time.

    Raises:
        BundleError: the directory is not a bundle that can be read.
        ModelRefused: the engine cannot load it.
        EngineMissing: its engine is not on this machine.
        ProcessingError: its steps do not fit its tensors.
        GoldenTestFailed: it gives other numbers than it should.
    """
    begun_s = time.perf_counter()
    manifest = read_manifest(directory)
    reference_bytes = (directory / REFERENCE_FILE).read_bytes()
    reference = read_reference(reference_bytes)
    golden = read_golden(directory / GOLDEN_FILE)
    _check_datatypes(manifest)
    instance = load_with_steps(directory, manifest, options)
    try:
        _prove(manifest, instance, golden)
        points = warm_up(instance, manifest, _one_row(manifest, golden), max_batch_rows)
    except BaseException:
        instance.close()
        raise
    digest = "sha256:" + hashlib.sha256(reference_bytes).hexdigest()
    load_s = time.perf_counter() - begun_s
    return LoadedModel(manifest, instance, reference, digest, points[0][1], load_s, points)


def _check_datatypes(manifest: Manifest) -> None:
    for spec in (*manifest.inputs, *manifest.outputs):
        if spec.datatype not in NUMPY_OF_DATATYPE:
            raise UserFault(f"{manifest.model}: tensor {spec.name!r} is {spec.datatype}, which this server cannot hold")


def _prove(manifest: Manifest, instance: Instance, golden: Golden) -> None:
    try:
        outputs = instance.run(golden.inputs)
    except Exception as error:  # whatever an engine raises, the test has failed and the reason is told
        raise GoldenTestFailed(f"{manifest.model} {manifest.version}: golden inputs cannot be run: {error}") from error
    verdict = compare(golden, outputs)
    if not verdict.passed:
        raise GoldenTestFailed(f"{manifest.model} {manifest.version}: golden self-test failed: {verdict.detail}")


def _one_row(manifest: Manifest, golden: Golden) -> Mapping[str, NDArray[Any]]:
    free = {spec.name for spec in manifest.inputs if spec.shape and spec.shape[0] == -1}
    return {name: array[:1] if name in free else array for name, array in golden.inputs.items()}
