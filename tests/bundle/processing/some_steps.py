"""A strategy of steps with tensors that fit them, and how to run one step."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgewright.bundle import steps
from edgewright.bundle.datatypes import NUMBERS
from edgewright.bundle.processing.chain import Chain
from edgewright.bundle.steps import Step
from edgewright.bundle.tensor_spec import TensorSpec

Case = tuple[Step, tuple[TensorSpec, ...]]


def tensor(datatype: Any, *shape: int, name: str = "x", layout: str | None = None) -> TensorSpec:
    return TensorSpec(name=name, datatype=datatype, shape=(-1, *shape), layout=layout)


def run(step: Step, *arrays: NDArray[Any], specs: tuple[TensorSpec, ...] | None = None) -> tuple[NDArray[Any], ...]:
    """The result of one step on arrays; their specs are taken from them."""
    names = ("boxes", "scores") if isinstance(step, steps.Nms) else ("x",)
    if specs is None:
        datatypes = {dtype: name for name, dtype in NUMBERS.items()}
        specs = tuple(
            tensor(datatypes[array.dtype], *array.shape[1:], name=name)
            for name, array in zip(names, arrays, strict=True)
        )
    found = Chain((step,), specs, "test").run(dict(zip(names, arrays, strict=True)))
    return tuple(found.values())


def values(spec: TensorSpec, rows: int, seed: int) -> NDArray[Any]:
    """Numbers of all sizes, with equals, and with NaN and infinities where there are such."""
    random = np.random.default_rng(seed)
    dtype, shape = NUMBERS[spec.datatype], (rows, *spec.shape[1:])
    if dtype.kind == "b":
        return random.integers(0, 2, shape).astype(np.bool_)
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        return random.integers(limits.min, limits.max, shape, dtype, endpoint=True)
    array: NDArray[Any] = (random.integers(-6, 6, shape) / 2 * random.choice([0.25, 1.0, 1000.0], shape)).astype(dtype)
    special = random.random(shape)
    array[special < 0.02] = np.nan
    array[(special > 0.96) & (special < 0.98)] = np.inf
    array[special > 0.98] = -np.inf
    return array


_sides = st.integers(1, 12)
_floats = st.sampled_from(["FP16", "FP32", "FP64"])
_pictures = st.sampled_from(["UINT8", "INT8", "FP16", "FP32", "FP64", "INT16"])
_any = st.sampled_from(sorted(NUMBERS))
_shape = st.lists(st.integers(1, 5), max_size=3)


@st.composite
def _picture_step(draw: st.DrawFn) -> Case:
    layout: Any = draw(st.sampled_from(["NHWC", "NCHW"]))
    height, width, channels = draw(_sides), draw(_sides), draw(st.integers(1, 4))
    shape = (height, width, channels) if layout == "NHWC" else (channels, height, width)
    spec = tensor(draw(_pictures), *shape, layout=draw(st.sampled_from([layout, None])))
    if draw(st.booleans()):
        wanted = draw(st.integers(1, height)), draw(st.integers(1, width))
        return steps.Crop(tensor="x", height=wanted[0], width=wanted[1], layout=layout), (spec,)
    method: Any = draw(st.sampled_from(["nearest", "bilinear"]))
    antialias = method == "bilinear" and draw(st.booleans())
    resize = steps.Resize(
        tensor="x", height=draw(_sides), width=draw(_sides), method=method, antialias=antialias, layout=layout
    )
    return resize, (spec,)


@st.composite
def _number_step(draw: st.DrawFn) -> Case:
    shape = draw(_shape)
    kind = draw(st.sampled_from(["cast", "normalise", "dequantize", "rename", "reshape", "transpose"]))
    datatypes = st.sampled_from(["INT8", "UINT8", "INT32", "INT64", "UINT64"]) if kind == "dequantize" else _any
    spec = tensor(draw(datatypes), *shape)
    if kind == "normalise" and not shape:
        shape, spec = [3], tensor(spec.datatype, 3)
    if kind == "transpose":
        shape = shape or [2]
        axes = (0, *draw(st.permutations(range(1, len(shape) + 1))))
        return steps.Transpose(tensor="x", axes=axes), (tensor(spec.datatype, *shape),)
    step: Step
    match kind:
        case "cast":
            step = steps.Cast(tensor="x", datatype=draw(st.sampled_from(sorted(set(NUMBERS) - {"BOOL"}))))
        case "normalise":
            each = st.tuples(*[st.sampled_from([0.5, 1.0, 127.5])] * shape[-1])
            step = steps.Normalise(
                tensor="x", mean=draw(each), std=draw(each), scale=draw(st.sampled_from([1.0, 1 / 255]))
            )
        case "dequantize":
            step = steps.Dequantize(tensor="x", scale=0.125, zero_point=draw(st.integers(-128, 127)))
        case "rename":
            step = steps.Rename(tensor="x", name="y")
        case _:
            step = steps.Reshape(tensor="x", shape=(int(np.prod(shape)), 1))
    return step, (spec,)


@st.composite
def _score_step(draw: st.DrawFn) -> Case:
    shape = [*draw(_shape), draw(st.integers(1, 9))]
    spec = tensor(draw(_floats), *shape)
    kind = draw(st.sampled_from(["softmax", "sigmoid", "argmax", "top-k"]))
    if kind in {"softmax", "sigmoid"}:
        return (steps.Softmax if kind == "softmax" else steps.Sigmoid)(tensor="x"), (spec,)
    spec = tensor(draw(st.sampled_from(["INT8", "UINT8", "UINT32", "FP16", "FP32", "FP64"])), *shape)
    if kind == "argmax":
        return steps.Argmax(tensor="x"), (spec,)
    labels = draw(st.sampled_from([(), tuple(f"label {place}" for place in range(shape[-1]))]))
    return steps.TopK(tensor="x", k=draw(st.integers(1, shape[-1])), labels=labels), (spec,)


@st.composite
def _sound_step(draw: st.DrawFn) -> Case:
    frame, mels = draw(st.integers(2, 40)), draw(st.integers(1, 12))
    step = steps.LogMel(
        tensor="x",
        sample_rate_hz=1000,
        frame_length=frame,
        hop_length=draw(st.integers(1, 40)),
        fft_length=frame + draw(st.integers(0, 10)),
        window=draw(st.sampled_from(["hann", "hamming", "rectangular"])),
        spectrum=draw(st.sampled_from(["power", "magnitude"])),
        mels=mels,
        low_hz=draw(st.sampled_from([0.0, 20.0])),
        high_hz=500.0,
        scale=draw(st.sampled_from(["htk", "slaney"])),
        area_norm=draw(st.booleans()),
        logarithm=draw(st.sampled_from(["natural", "log10", "decibel"])),
        coefficients=draw(st.integers(0, mels)),
    )
    return step, (tensor(draw(st.sampled_from(["INT16", "FP32", "FP64"])), frame + draw(st.integers(0, 90))),)


@st.composite
def _box_step(draw: st.DrawFn) -> Case:
    boxes, classes = draw(st.integers(1, 12)), draw(st.integers(1, 4))
    step = steps.Nms(
        boxes="boxes",
        scores="scores",
        form=draw(st.sampled_from(["corners", "centre"])),
        iou_threshold=draw(st.sampled_from([0.0, 0.3, 0.7, 1.0])),
        score_threshold=draw(st.sampled_from([0.0, 0.4])),
        candidates=draw(st.integers(1, 20)),
        outputs=draw(st.integers(1, 15)),
    )
    datatype = draw(_floats)
    return step, (tensor(datatype, boxes, 4, name="boxes"), tensor(datatype, boxes, classes, name="scores"))


cases: st.SearchStrategy[Case] = st.one_of(_picture_step(), _number_step(), _score_step(), _sound_step(), _box_step())
