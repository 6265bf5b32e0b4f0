"""Steps on scores: softmax, sigmoid, argmax, top-k."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..datatypes import NUMBERS
from ..steps import Argmax, Sigmoid, Softmax, TopK
from ..tensor_spec import Datatype, TensorSpec
from .bound import FLOATS, Array, Bound, ProcessingError, numpy_of, sample_shape, spec

RANKED: frozenset[Datatype] = frozenset(NUMBERS) - {"UINT64", "INT64"}
"""What FP64 holds exactly."""


def bind_softmax(_step: Softmax, tensor: TensorSpec) -> Bound:
    """exp(x - max) / sum along the last axis. A NaN makes its row NaN, and so does a row of minus infinities."""
    return _elementwise(tensor, _softmax)


def bind_sigmoid(_step: Sigmoid, tensor: TensorSpec) -> Bound:
    """Without overflow: exp is only taken of negative numbers."""
    return _elementwise(tensor, _sigmoid)


def _elementwise(tensor: TensorSpec, function: Callable[[Array], Array]) -> Bound:
    dtype = numpy_of(tensor, FLOATS)
    shape = sample_shape(tensor)
    if not shape:
        raise ProcessingError(f"{tensor.name!r} has shape {list(tensor.shape)}; expected an axis behind the batch")
    wide = np.promote_types(dtype, np.float32)

    def run(values: Array) -> tuple[Array, ...]:
        with np.errstate(all="ignore"):
            return (function(np.ascontiguousarray(values, wide)).astype(dtype, copy=False),)

    count = math.prod(shape)
    return Bound(
        takes=(tensor.name,), gives=(tensor,), run=run, scratch_bytes=3 * wide.itemsize * count, operations=20 * count
    )


def _softmax(values: Array) -> Array:
    powers: Array = values - values.max(axis=-1, keepdims=True)
    np.exp(powers, out=powers)
    powers /= powers.sum(axis=-1, keepdims=True)
    return powers


def _sigmoid(values: Array) -> Array:
    power: Array = np.exp(-np.abs(values))
    result: Array = np.where(values >= 0, 1.0, power) / (1.0 + power)
    return result.astype(values.dtype, copy=False)


def bind_argmax(_step: Argmax, tensor: TensorSpec) -> Bound:
    """The place of the largest."""
    numpy_of(tensor, RANKED)
    count = math.prod(_ranked(tensor))
    result = spec(tensor, datatype="INT64", shape=tensor.shape[:-1], layout=None)

    def run(values: Array) -> tuple[Array, ...]:
        return (_rankable(values).argmax(axis=-1).astype(np.int64, copy=False),)

    return Bound(takes=(tensor.name,), gives=(result,), run=run, scratch_bytes=8 * count, operations=2 * count)


def bind_top_k(step: TopK, tensor: TensorSpec) -> Bound:
    """The largest in falling order. The sort is stable: of equals the first comes first, on every machine."""
    numpy_of(tensor, RANKED)
    shape = _ranked(tensor)
    last = shape[-1]
    if step.k > last:
        raise ProcessingError(f"k is {step.k}; {tensor.name!r} has {last} scores")
    if step.labels and len(step.labels) != last:
        raise ProcessingError(f"{len(step.labels)} labels for {last} scores of {tensor.name!r}")
    kept = (*tensor.shape[:-1], step.k)
    values = spec(tensor, name=step.values, shape=kept, layout=None)
    indices = spec(values, name=step.indices, datatype="INT64")
    names = (spec(values, name=step.names, datatype="BYTES"),) if step.labels else ()
    labels = np.array(step.labels, np.object_)

    def run(scores: Array) -> tuple[Array, ...]:
        places = np.argsort(-_rankable(scores), axis=-1, kind="stable")[..., : step.k]
        order = np.ascontiguousarray(places, np.int64)
        best = np.take_along_axis(scores, order, axis=-1)
        return (best, order, labels[order]) if step.labels else (best, order)

    count = math.prod(shape)
    operations = count * (8 + 8 * max(1, last).bit_length())
    return Bound(
        takes=(tensor.name,), gives=(values, indices, *names), run=run, scratch_bytes=32 * count, operations=operations
    )


def _ranked(tensor: TensorSpec) -> tuple[int, ...]:
    shape = sample_shape(tensor)
    if not shape:
        raise ProcessingError(f"{tensor.name!r} has shape {list(tensor.shape)}; expected scores behind the batch")
    return shape


def _rankable(values: Array) -> NDArray[np.float64]:
    """NaN counts as minus infinity."""
    wide: NDArray[Any] = values.astype(np.float64)
    wide[np.isnan(wide)] = -np.inf
    return wide
