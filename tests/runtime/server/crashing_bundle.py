"""A native model that does on command what drivers do unasked: it answers, crashes, ends its process, or sleeps.

`image [-1, 64] -> scores [-1, 10]`: every score of a row is the row's first value, and some values command.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from edgewright.bundle.manifest import Manifest
from tests.runtime.engine_bundles import CLASSES, FEATURES, IMAGE, SCORES
from tests.runtime.native_bundle import compile_c, write_native_bundle

CRASH, EXIT, SLEEP = 1000.0, 2000.0, 3000.0

_COMMANDS = f"""
    if (image[0] == {CRASH}f) *(volatile int *)0 = 1;
    if (image[0] == {EXIT}f) _exit(7);
    if (image[0] == {SLEEP}f) sleep(600);
"""
_SOURCE = f"""
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>
#include "edgewright_native.h"

static void run(const void *const *inputs, void *const *outputs, void *arena) {{
    const float *image = inputs[0];
    float *scores = outputs[0];
    COMMANDS
    for (int place = 0; place < {CLASSES}; place++) scores[place] = image[0];
}}

static const int64_t image_shape[] = {{1, {FEATURES}}}, scores_shape[] = {{1, {CLASSES}}};
static const edgewright_tensor image = {{"image", "FP32", 2, 0, image_shape, {4 * FEATURES}}};
static const edgewright_tensor scores = {{"scores", "FP32", 2, 0, scores_shape, {4 * CLASSES}}};
static const edgewright_entry entry = {{1, 64, 0, &image, &scores, run, 0, 0, 0, 0}};
static const edgewright_model model = {{EDGEWRIGHT_NATIVE_ABI, 1, 1, 1, "NAME", "", "test", &entry, {{0}}}};

const edgewright_model *edgewright_describe(void) {{ return &model; }}
"""


def crashing_bundle(directory: Path, *, version: str = "1") -> Manifest:
    """Write the bundle directory of model `fragile`, and its archive beside it."""
    return _write(directory, "fragile", version, _COMMANDS)


def steady_bundle(directory: Path) -> Manifest:
    """Write model `steady`, which takes no commands: it answers whatever comes."""
    return _write(directory, "steady", "1", "")


def _write(directory: Path, name: str, version: str, commands: str) -> Manifest:
    image = np.linspace(0, 1, 2 * FEATURES, dtype=np.float32).reshape(2, FEATURES)
    golden = {"image": image}, {"scores": np.repeat(image[:, :1], CLASSES, axis=1)}
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "model.so"
        compile_c(library, _SOURCE.replace("COMMANDS", commands).replace("NAME", name))
        return write_native_bundle(directory, library, [IMAGE], [SCORES], golden, name=name, version=version)
