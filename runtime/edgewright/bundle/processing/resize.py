"""Pictures in another size. Separable: rows first, then columns, each as a sum of a few taps in FP32.

Half-pixel centres: output pixel i looks at (i + 0.5) * scale - 0.5 of the input, scale = input / output size. Bilinear
weighs by a triangle of radius 1; with antialias by one of radius scale where the picture shrinks, as Pillow does
(libImaging/Resample.c; it rounds to bytes between rows and columns, so bytes may differ by 1) and ONNX Resize with
antialias=1 and exclude_outside=1. Taps beyond the border are left out, and the rest weighs more.
Nearest takes floor((i + 0.5) * scale) exactly, as PyTorch's `nearest-exact`; Pillow rounds some of these the other way.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..steps import Resize
from ..tensor_spec import Datatype, TensorSpec
from .bound import FLOATS, Array, Bound, ProcessingError, check_cost, numpy_of, spec, to_dtype
from .pictures import height_axis, shape_of, sides

DATATYPES: frozenset[Datatype] = FLOATS | {"UINT8", "INT8", "UINT16", "INT16"}
"""What FP32 holds exactly; FP64 is computed in FP32 too."""

Taps = tuple[NDArray[np.intp], NDArray[np.float32]]
"""Places [taps, size] and their weights."""


def bind(step: Resize, tensor: TensorSpec) -> Bound:
    """The resize for pictures of one size."""
    dtype = numpy_of(tensor, DATATYPES)
    height, width, channels = sides(tensor, step.layout)
    if step.antialias and step.method == "nearest":
        raise ProcessingError("antialias is for bilinear; nearest takes single pixels")
    result = spec(tensor, shape=shape_of(tensor.shape[0], step.height, step.width, channels, step.layout))
    sides(result, step.layout)
    count = max(_tap_count(step, height, step.height), _tap_count(step, width, step.width))
    between = step.height * width * channels
    pixels = between + step.height * step.width * channels
    in_fp32 = 4 * (height * width * channels + 2 * pixels)
    cost = {
        "scratch_bytes": dtype.itemsize * between if step.method == "nearest" else in_fp32,
        "operations": 2 * count * pixels,
    }
    check_cost(**cost)
    axis = height_axis(step.layout)
    if step.method == "nearest":
        rows, columns = _nearest(height, step.height), _nearest(width, step.width)
        return Bound(
            takes=(tensor.name,),
            gives=(result,),
            run=lambda pictures: (pictures.take(rows, axis=axis).take(columns, axis=axis + 1),),
            **cost,
        )
    vertical, horizontal = _taps(step, height, step.height), _taps(step, width, step.width)

    def run(pictures: Array) -> tuple[Array, ...]:
        resized = np.empty((len(pictures), *result.shape[1:]), dtype)
        with np.errstate(all="ignore"):  # infinities and NaN are data here
            for place, picture in enumerate(pictures):  # one at a time: the memory of a batch is that of its results
                wide = picture.astype(np.float32)
                resized[place] = to_dtype(_mixed(_mixed(wide, vertical, axis - 1), horizontal, axis), dtype)
        return (resized,)

    return Bound(takes=(tensor.name,), gives=(result,), run=run, **cost)


def _nearest(size: int, wanted: int) -> NDArray[np.intp]:
    # In integers: floor((2 i + 1) size / (2 wanted)).
    places: NDArray[np.intp] = ((2 * np.arange(wanted, dtype=np.intp) + 1) * size) // (2 * wanted)
    return places


def _radius(step: Resize, size: int, wanted: int) -> float:
    return max(1.0, size / wanted) if step.antialias else 1.0


def _tap_count(step: Resize, size: int, wanted: int) -> int:
    return 1 if step.method == "nearest" else math.ceil(2 * _radius(step, size, wanted)) + 1


def _taps(step: Resize, size: int, wanted: int) -> Taps:
    radius, count = _radius(step, size, wanted), _tap_count(step, size, wanted)
    centres = (np.arange(wanted) + 0.5) * (size / wanted) - 0.5
    places = np.floor(centres - radius).astype(np.intp) + 1 + np.arange(count)[:, None]
    weights = np.maximum(0.0, 1.0 - np.abs(places - centres) / radius)
    weights[(places < 0) | (places >= size)] = 0.0
    weights /= weights.sum(axis=0)
    used = weights.any(axis=1)
    return places.clip(0, size - 1)[used], weights[used].astype(np.float32)


def _mixed(picture: NDArray[np.float32], taps: Taps, axis: int) -> NDArray[np.float32]:
    places, weights = taps
    along: list[Any] = [None] * picture.ndim
    along[axis] = slice(None)
    mixed: NDArray[np.float32] = picture.take(places[0], axis=axis)
    mixed *= weights[0][tuple(along)]
    for place, weight in zip(places[1:], weights[1:], strict=True):
        taken = picture.take(place, axis=axis)
        taken *= weight[tuple(along)]
        mixed += taken
    return mixed
