"""From an unpacked bundle to a model that has proved itself in a process of its own."""

from __future__ import annotations

import hashlib
import time

from edgewright.bundle.archive import read_manifest
from edgewright.bundle.reference import read_reference

from ..loading import REFERENCE_FILE, LoadedModel
from .instance import WorkerInstance
from .process import Launch


def load_in_worker(launch: Launch, execution_timeout_s: float) -> LoadedModel:
    """Load the model of an unpacked bundle in a worker, where the golden test and the warm-up run, too.

    Raises:
        Fault: see `loading.load_bundle`.
    """
    begun_s = time.perf_counter()
    manifest = read_manifest(launch.directory)
    reference_bytes = (launch.directory / REFERENCE_FILE).read_bytes()
    reference = read_reference(reference_bytes)
    instance = WorkerInstance(launch, execution_timeout_s)
    digest = "sha256:" + hashlib.sha256(reference_bytes).hexdigest()
    proved, load_s = instance.proved, time.perf_counter() - begun_s
    return LoadedModel(manifest, instance, reference, digest, proved.p50_s, load_s, proved.warm_up)
