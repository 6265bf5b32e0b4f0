"""Steps that move numbers and change none: transpose, reshape, rename."""

from __future__ import annotations

import math

import numpy as np

from ..steps import Rename, Reshape, Transpose
from ..tensor_spec import TensorSpec
from .bound import Array, Bound, ProcessingError, sample_shape, spec


def bind_transpose(step: Transpose, tensor: TensorSpec) -> Bound:
    """Axes in another order; letters of a layout move with them."""
    shape = (tensor.shape[0] if tensor.shape else 0, *sample_shape(tensor))
    axes = step.axes
    if axes[0] != 0 or sorted(axes) != list(range(len(shape))):
        raise ProcessingError(
            f"axes {list(axes)}: expected 0, then 1 to {len(shape) - 1} in some order, for shape {list(tensor.shape)}"
        )
    layout = tensor.layout
    moved = "".join(layout[axis] for axis in axes) if layout is not None and len(layout) == len(axes) else None
    result = spec(tensor, shape=tuple(shape[axis] for axis in axes), layout=moved)

    def run(values: Array) -> tuple[Array, ...]:
        return (np.ascontiguousarray(values.transpose(axes)),)

    return Bound(takes=(tensor.name,), gives=(result,), run=run)


def bind_reshape(step: Reshape, tensor: TensorSpec) -> Bound:
    """The values of each sample in another shape."""
    shape = sample_shape(tensor)
    if math.prod(step.shape) != math.prod(shape):
        raise ProcessingError(f"{tensor.name!r}: {list(shape)} has not as many values as {list(step.shape)}")
    result = spec(tensor, shape=(tensor.shape[0], *step.shape), layout=None)

    def run(values: Array) -> tuple[Array, ...]:
        return (values.reshape(len(values), *step.shape),)

    return Bound(takes=(tensor.name,), gives=(result,), run=run)


def bind_rename(step: Rename, tensor: TensorSpec) -> Bound:
    """Another name."""

    def run(values: Array) -> tuple[Array, ...]:
        return (values,)

    return Bound(takes=(tensor.name,), gives=(spec(tensor, name=step.name),), run=run)
