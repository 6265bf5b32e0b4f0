"""Steps with any options for tensors of any shape: refused at once, or they keep to what they say.

What was not refused has the shapes and datatypes that it promised, takes no more memory than it predicted, and whatever
numbers come in, nothing is raised.
"""

from __future__ import annotations

import math
import random
import time
import tracemalloc
import warnings
from typing import Any, get_args

import msgspec
import numpy as np

from edgewright.bundle import steps
from edgewright.bundle.datatypes import NUMBERS as KNOWN
from edgewright.bundle.processing import ProcessingError
from edgewright.bundle.processing.chain import Chain
from edgewright.bundle.tensor_spec import TensorSpec
from tests.bundle.processing.some_steps import tensor, values
from tests.runtime.fuzzing import fuzz

SMALL = [1, 2, 3, 4, 5, 7, 8, 16, 40]
HUGE = [255, 511, 1000, 4096, 8191, 8192, 2**16, 2**20, 2**24, 2**31 - 1, 2**40]
NUMBERS = [0.0, -1.0, 1.0, 0.5, 1e-6, 1e-38, 1e-45, 1e30, -1e30, 8000.0, 20.0]
RUN_OPERATIONS = 1 << 22
RUN_VALUES = 1 << 18
SLACK_BYTES = 2 << 20


def size(chance: random.Random) -> int:
    return chance.choice(SMALL if chance.random() < 0.9 else HUGE)


WORDS: dict[str, list[Any]] = {
    "tensor": ["x"],
    "boxes": ["x"],
    "scores": ["y", "y", "x"],
    "method": ["nearest", "bilinear"],
    "layout": ["NHWC", "NCHW"],
    "window": ["hann", "hamming", "rectangular"],
    "spectrum": ["power", "magnitude"],
    "logarithm": ["natural", "log10", "decibel"],
    "form": ["corners", "centre"],
    "datatype": [*KNOWN],
    "antialias": [False, True],
    "area_norm": [False, True],
    "axis": [-1, 0, 1, 2, 3, 15],
    "zero_point": [0, 1, -128, 2**31 - 1, -(2**31)],
    **dict.fromkeys(("low_hz", "high_hz", "floor", "iou_threshold", "score_threshold"), NUMBERS),
    "name": ["name", "x", "y"],
    "values": ["values", "x", "y"],
    "indices": ["indices", "values"],
    "names": ["names"],
    **{name: [name] for name in ("output_boxes", "output_scores", "output_classes", "output_count")},
    "labels": [[], ["a", "b", "c"]],
}


def option(name: str, chance: random.Random) -> Any:
    """Any value that an option may be given, of its kind."""
    if name in WORDS:
        return chance.choice(WORDS[name])
    if name in {"mean", "std"}:
        return [chance.choice(NUMBERS) for _ in range(chance.choice([1, 1, 3, 4]))]
    if name == "axes":
        axes = chance.choice([1, 2, 3])
        return [0, *chance.sample(range(1, axes + 1), axes)]
    if name == "shape":
        return [size(chance) for _ in range(chance.randrange(4))]
    return size(chance)


def some_step(chance: random.Random) -> Any:
    """A step as a manifest may have it, None where its options are refused with the manifest."""
    kind = chance.choice(get_args(steps.Step))
    fields = msgspec.structs.fields(kind)
    given = {f.name: option(f.name, chance) for f in fields if f.required or chance.random() < 0.5}
    if kind is steps.LogMel:
        given["scale"] = chance.choice(["htk", "slaney"])
    elif "scale" in given:
        given["scale"] = chance.choice(NUMBERS)
    try:
        return msgspec.convert(given, kind)
    except msgspec.ValidationError:
        return None


SOUND = {"tensor": "x", "sample_rate_hz": 1000, "frame_length": 40, "hop_length": 16, "fft_length": 64}
SOUND |= {"mels": 8, "high_hz": 500.0}
BOXES = {"boxes": "x", "scores": "y"}
FITTING: list[tuple[Any, dict[str, Any], tuple[TensorSpec, ...]]] = [
    (steps.LogMel, SOUND, (tensor("FP32", 400),)),
    (steps.LogMel, SOUND, (tensor("INT16", 400),)),
    (steps.Nms, BOXES, (tensor("FP32", 40, 4), tensor("FP32", 40, 3, name="y"))),
    (steps.Resize, {"tensor": "x", "height": 5, "width": 9}, (tensor("UINT8", 8, 16, 3),)),
]


def nearly_fitting(chance: random.Random) -> tuple[list[Any], tuple[TensorSpec, ...]]:
    """A step that fits its tensors, but for a few options."""
    kind, given, tensors = chance.choice(FITTING)
    others = [f.name for f in msgspec.structs.fields(kind) if f.name not in {"scale", "layout"}]
    changed = {name: option(name, chance) for name in chance.sample(others, chance.randrange(4))}
    try:
        return [msgspec.convert({**given, **changed}, kind)], tensors
    except msgspec.ValidationError:
        return [], tensors


def some_tensors(chance: random.Random) -> tuple[TensorSpec, ...]:
    rank = chance.choice([0, 1, 1, 2, 2, 3, 3, 3, 4])
    shape = [size(chance) for _ in range(rank)]
    if chance.random() < 0.1:
        shape[-1:] = [chance.choice([4, -1, 0])]
    x = tensor(chance.choice([*KNOWN]), *shape, layout=chance.choice([None, None, "NHWC", "NCHW"]))
    if chance.random() < 0.3:
        return (x, tensor(x.datatype, *shape[:-1], size(chance), name="y"))
    return (x,)


def bound(row: list[Any], given: tuple[TensorSpec, ...]) -> Chain | None:
    """The steps bound to the tensors, None where they are refused: either way soon, and without much memory."""
    begun_s = time.process_time()
    try:
        return Chain(row, given, "fuzz")
    except ProcessingError:
        return None
    finally:
        assert time.process_time() - begun_s < 5, (row, given)


def few(spec: TensorSpec) -> bool:
    return min(spec.shape[1:], default=1) > 0 and math.prod(spec.shape[1:]) <= RUN_VALUES


def check_steps(chance: random.Random) -> None:
    given = some_tensors(chance)
    row = [step for _ in range(chance.choice([1, 1, 2, 4])) if (step := some_step(chance)) is not None]
    if chance.random() < 0.3:
        row, given = nearly_fitting(chance)
    chain = bound(row, given)
    if chain is None or chain.operations > RUN_OPERATIONS or not all(map(few, (*given, *chain.result))):
        return
    rows = chance.choice([1, 2, 5])
    arrays = {spec.name: values(spec, rows, chance.randrange(2**31)) for spec in given}
    kept = {name: array.copy() for name, array in arrays.items()}
    before = tracemalloc.get_traced_memory()[0]
    tracemalloc.reset_peak()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = chain.run(arrays)
    peak = tracemalloc.get_traced_memory()[1] - before
    assert peak <= rows * chain.scratch_bytes * 2 + SLACK_BYTES, (chain.scratch_bytes, peak)
    for spec in chain.result:
        array = found[spec.name]
        assert array.shape == (rows, *spec.shape[1:]), spec
        assert spec.datatype == "BYTES" or array.dtype == KNOWN[spec.datatype], spec
    for name, array in kept.items():
        np.testing.assert_array_equal(arrays[name], array)


def test_any_steps_for_any_tensors() -> None:
    tracemalloc.start()
    try:
        fuzz(check_steps)
    finally:
        tracemalloc.stop()
