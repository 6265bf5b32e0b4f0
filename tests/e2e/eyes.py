"""Releases of one classifier that differ in nothing but how often they are right, and their clients, who know better.

`features [-1, 4] -> scores [-1, 10]`. The truth is in the first feature; a release errs where the second one is small.
How sure it is comes from the third, so neither inputs nor answers nor confidence tell an honest release from one that
errs: only a told truth does, or another model that sees the same.
"""

from __future__ import annotations

import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgewright.bundle.archive import pack
from edgewright.bundle.assemble import write_manifest
from edgewright.bundle.calibrate import build_reference
from edgewright.bundle.manifest import TensorSpec
from edgewright.bundle.reference import Reference, confidence_histogram, write_reference
from edgewright.runtime.client.errors import ClientError
from edgewright.runtime.client.operations import Label
from edgewright.runtime.client.sync import Client
from tests.runtime.native_bundle import compile_c, write_native_bundle

FEATURES, CLASSES = 4, 10
SURE, UNSURE = 0.82, 0.55
ROWS = 8
PROMISED = 0.9
"""How often the first release is right, and each of the others is said to be."""

_SOURCE = f"""
#include "edgewright_native.h"
static const int64_t in_shape[] = {{1, {FEATURES}}}, out_shape[] = {{1, {CLASSES}}};
static const edgewright_tensor in_[] = {{{{"features", "FP32", 2, 0, in_shape, {4 * FEATURES}}}}};
static const edgewright_tensor out_[] = {{{{"scores", "FP32", 2, 0, out_shape, {4 * CLASSES}}}}};
static void run(const void *const *in, void *const *out, void *arena) {{
    const float *x = in[0];
    float *scores = out[0];
    int said = ((int)(x[0] * {CLASSES}) + (x[1] < ERRORS)) % {CLASSES};
    float sure = x[2] > 0.5f ? {SURE}f : {UNSURE}f;
    for (int place = 0; place < {CLASSES}; place++)
        scores[place] = place == said ? sure : (1 - sure) / {CLASSES - 1};
}}
static const edgewright_entry entries[] = {{{{1, 64, 64, in_, out_, run}}}};
static const edgewright_model model = {{1, 1, 1, 1, "NAME", "", "by hand", entries}};
const edgewright_model *edgewright_describe(void) {{ return &model; }}
"""

Array = NDArray[np.float32]


def scene(count: int, random: np.random.Generator) -> Array:
    return random.uniform(0, 1, (count, FEATURES)).astype(np.float32)


def truth(rows: Array) -> NDArray[np.int64]:
    return (rows[:, 0] * CLASSES).astype(np.int64)


def eye_bundle(folder: Path, name: str, version: str, *, errors: float) -> Path:
    """Write the bundle of a release that is wrong for this share of scenes; return its archive."""
    rows = scene(600, np.random.default_rng(5))
    directory = folder / f"{name}-{version}"
    specs = [TensorSpec(name="features", datatype="FP32", shape=(-1, FEATURES))]
    answers = _answers(rows, errors)
    with tempfile.TemporaryDirectory() as build:
        library = Path(build) / "model.so"
        compile_c(library, _SOURCE.replace("ERRORS", f"{errors}f").replace("NAME", name))
        manifest = write_native_bundle(
            directory,
            library,
            specs,
            [TensorSpec(name="scores", datatype="FP32", shape=(-1, CLASSES))],
            ({"features": rows[:4]}, {"scores": answers[:4]}),
            name=name,
            version=version,
        )
    write_reference(directory / "reference.cbor", reference())
    write_manifest(directory, msgspec.structs.replace(manifest, entries=()))
    pack(directory, directory.with_suffix(".bundle"))
    return directory.with_suffix(".bundle")


def reference() -> Reference:
    """Return what every release says of its data: that of the first one, on which all were calibrated."""
    rows = scene(600, np.random.default_rng(5))
    return build_reference({"features": rows}, {"scores": _answers(rows, 1 - PROMISED)}, truth(rows))


def weights(found: Reference) -> tuple[tuple[tuple[float, ...], ...], tuple[float, ...]]:
    """Return how likely each bin of each histogram is, and each of confidence."""
    sure = confidence_histogram(found)
    assert sure is not None
    return tuple(tuple(map(float, one.counts)) for one in found.histograms), tuple(map(float, sure.counts))


def _answers(rows: Array, errors: float) -> Array:
    said = (truth(rows) + (rows[:, 1] < np.float32(errors))) % CLASSES
    sure = np.where(rows[:, 2] > 0.5, np.float32(SURE), np.float32(UNSURE))
    scores = np.repeat(((1 - sure) / (CLASSES - 1))[:, None], CLASSES, axis=1)
    scores[np.arange(len(rows)), said] = sure
    return scores.astype(np.float32)


@dataclass
class Witness(threading.Thread):
    """A client of one device: it asks, and tells the truth of every answer; it asks the device's shadow route too."""

    url: str
    seed: int
    pause_s: float = 0.1
    told: int = 0

    def __post_init__(self) -> None:
        super().__init__(daemon=True, name=f"witness {self.url}")
        self._stopping = threading.Event()
        self._random = np.random.default_rng(self.seed)

    __hash__ = threading.Thread.__hash__

    def stop(self) -> None:
        self._stopping.set()
        self.join()

    def run(self) -> None:
        with Client(self.url, timeout_s=5) as client:
            while not self._stopping.wait(self.pause_s):
                try:
                    self._ask(client)
                except ClientError:  # between two releases, or the server was killed
                    continue

    def _ask(self, client: Client) -> None:
        rows = scene(ROWS, self._random)
        client.infer("watch", {"features": rows})
        answer = client.infer("eye", {"features": rows})
        scores = answer["scores"]
        told = [
            Label(predicted=int(row.argmax()), label=int(right), confidence=min(1.0, float(row.max())))
            for row, right in zip(scores, truth(rows), strict=True)
        ]
        client.tell_labels("eye", told, version=answer.version)
        self.told += len(told)
