"""Steps that work on every number by itself: cast, normalise, dequantize."""

from __future__ import annotations

import math

import numpy as np

from ..datatypes import NUMBERS
from ..steps import Cast, Dequantize, Normalise
from ..tensor_spec import TensorSpec
from .bound import INTEGERS, Array, Bound, ProcessingError, numpy_of, sample_shape, spec, to_dtype


def bind_cast(step: Cast, tensor: TensorSpec) -> Bound:
    """Another datatype."""
    numpy_of(tensor)
    result = spec(tensor, datatype=step.datatype)
    count = math.prod(sample_shape(result))
    wanted = NUMBERS[step.datatype]

    def run(values: Array) -> tuple[Array, ...]:
        return (to_dtype(values, wanted),)

    return Bound(takes=(tensor.name,), gives=(result,), run=run, scratch_bytes=8 * count, operations=4 * count)


def bind_normalise(step: Normalise, tensor: TensorSpec) -> Bound:
    """(x * scale - mean) / std, one operation after the other in FP32, as training code has it."""
    numpy_of(tensor)
    result = spec(tensor, datatype="FP32")
    shape = sample_shape(result)
    axis = step.axis if step.axis >= 0 else len(shape)
    if not 1 <= axis <= len(shape):
        raise ProcessingError(f"axis {step.axis}: {tensor.name!r} has axes 1 to {len(shape)} behind the batch")
    if (np.array(step.std, np.float32) == 0).any():
        raise ProcessingError("std holds 0 (in FP32); a channel that never changes has std 1")
    along = tuple(-1 if place == axis else 1 for place in range(1 + len(shape)))
    mean, std = (_per_channel(name, getattr(step, name), shape[axis - 1]).reshape(along) for name in ("mean", "std"))
    scale, count = np.float32(step.scale), math.prod(shape)

    def run(values: Array) -> tuple[Array, ...]:
        with np.errstate(all="ignore"):
            wide = values.astype(np.float32)
            wide *= scale
            wide -= mean
            wide /= std
        return (wide,)

    return Bound(takes=(tensor.name,), gives=(result,), run=run, scratch_bytes=4 * count, operations=3 * count)


def _per_channel(name: str, values: tuple[float, ...], channels: int) -> Array:
    if len(values) not in {1, channels}:
        raise ProcessingError(f"{name} has {len(values)} entries; expected 1 or {channels}, one per channel")
    return np.array(values, np.float32)


def bind_dequantize(step: Dequantize, tensor: TensorSpec) -> Bound:
    """(x - zero_point) * scale, in FP32; the difference is exact."""
    numpy_of(tensor, INTEGERS)
    result = spec(tensor, datatype="FP32")
    count = math.prod(sample_shape(result))
    scale, zero = np.float64(step.scale), np.float64(step.zero_point)

    def run(values: Array) -> tuple[Array, ...]:
        with np.errstate(all="ignore"):
            return (((values.astype(np.float64) - zero) * scale).astype(np.float32),)

    return Bound(takes=(tensor.name,), gives=(result,), run=run, scratch_bytes=16 * count, operations=3 * count)
