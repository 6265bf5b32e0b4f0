"""What a step becomes once the tensors before it are known: the tensors after it, its cost, and a function.

Everything is checked here, from shapes alone, before any memory is taken: a bundle that anybody wrote cannot make a
device take more than these limits for one sample.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgewright.targets.faults import UserFault

from ..datatypes import NUMBERS
from ..tensor_spec import Datatype, TensorSpec

Array = NDArray[Any]

MAX_SAMPLE_BYTES = 64 << 20
"""Of one tensor, in one sample: a picture of 8192 x 682 pixels with 3 channels in FP32."""
MAX_SCRATCH_BYTES = 256 << 20
"""Of one step, while it works on one sample."""
MAX_OPERATIONS = 1 << 33
"""Of one step, for one sample: some seconds of a slow core."""

FLOATS: frozenset[Datatype] = frozenset({"FP16", "FP32", "FP64"})
INTEGERS: frozenset[Datatype] = frozenset(NUMBERS) - FLOATS - {"BOOL"}


class ProcessingError(UserFault):
    """Steps that do not fit the tensors, each other, or the limits; the message says which and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """A step that fits its tensors."""

    takes: tuple[str, ...]
    """Names of the tensors that it works on; they go."""
    gives: tuple[TensorSpec, ...]
    """The tensors that come in their place."""
    run: Callable[..., tuple[Array, ...]]
    """From the arrays of `takes` to those of `gives`, for a batch of any size. Pure; the arrays are not written to."""
    scratch_bytes: int = 0
    """Memory while one sample is worked on, beside the tensors."""
    operations: int = 0
    """Arithmetic for one sample, about."""


def spec(like: TensorSpec, **changes: Any) -> TensorSpec:
    """A tensor as another one, but for some fields."""
    fields = {"name": like.name, "datatype": like.datatype, "shape": like.shape, "layout": like.layout}
    return TensorSpec(**(fields | changes))


def numpy_of(tensor: TensorSpec, allowed: frozenset[Datatype] = frozenset(NUMBERS)) -> np.dtype[Any]:
    """The dtype of a tensor.

    Raises:
        ProcessingError: the step cannot compute with it.
    """
    if tensor.datatype not in allowed or tensor.datatype not in NUMBERS:
        raise ProcessingError(f"{tensor.name!r} is {tensor.datatype}; expected one of {', '.join(sorted(allowed))}")
    return NUMBERS[tensor.datatype]


def sample_shape(tensor: TensorSpec, rank: int | None = None) -> tuple[int, ...]:
    """The shape without the batch, fixed and bounded; `rank` counts the batch.

    Raises:
        ProcessingError: another rank, a free size behind the batch, or too large.
    """
    shape = tensor.shape
    if len(shape) < 1 or (rank is not None and len(shape) != rank):
        wanted = "a batch in front" if rank is None else f"{rank} axes"
        raise ProcessingError(f"{tensor.name!r} has shape {list(shape)}; expected {wanted}")
    if any(size < 1 for size in shape[1:]):
        raise ProcessingError(
            f"{tensor.name!r} has shape {list(shape)}; expected fixed sizes of 1 or more behind the batch"
        )
    sample_bytes(tensor)
    return shape[1:]


def sample_bytes(tensor: TensorSpec) -> int:
    """Memory of one sample; free sizes count as 1, texts as their pointers.

    Raises:
        ProcessingError: more than `MAX_SAMPLE_BYTES`.
    """
    item = NUMBERS[tensor.datatype].itemsize if tensor.datatype in NUMBERS else 8
    size = math.prod(max(1, dimension) for dimension in tensor.shape[1:]) * item
    if size > MAX_SAMPLE_BYTES:
        raise ProcessingError(
            f"{tensor.name!r} of shape {list(tensor.shape)} takes {size} bytes a sample; at most {MAX_SAMPLE_BYTES}"
        )
    return size


def check_cost(*, scratch_bytes: int, operations: int) -> None:
    """Refuse a step that is too expensive, before its tables are made.

    Raises:
        ProcessingError: beyond the limits.
    """
    if scratch_bytes > MAX_SCRATCH_BYTES:
        raise ProcessingError(
            f"it would need {scratch_bytes} bytes of scratch for a sample; at most {MAX_SCRATCH_BYTES}"
        )
    if operations > MAX_OPERATIONS:
        raise ProcessingError(f"it would take {operations} operations for a sample; at most {MAX_OPERATIONS}")


def datatype_of(dtype: np.dtype[Any]) -> Datatype | None:
    """The protocol's name of a dtype; None where steps have none."""
    return next((name for name, known in NUMBERS.items() if known == dtype), None)


def to_dtype(values: Array, dtype: np.dtype[Any]) -> Array:
    """Rounds half to even and saturates where integers are wanted; NaN becomes 0. Else numpy's conversion."""
    if values.dtype == dtype:
        return values
    with np.errstate(all="ignore"):
        if dtype.kind not in "iu":
            return values.astype(dtype)
        limits = np.iinfo(dtype)
        if values.dtype.kind in "iu":
            ends = np.iinfo(values.dtype)
            return values.clip(max(limits.min, ends.min), min(limits.max, ends.max)).astype(dtype)
        if values.dtype.kind == "b":
            return values.astype(dtype)
        return _rounded(values, dtype)


def _rounded(values: Array, dtype: np.dtype[Any]) -> Array:
    limits = np.iinfo(dtype)
    wide = np.rint(values.astype(np.float64))
    wide[np.isnan(wide)] = 0.0
    low, high = wide <= float(limits.min), wide >= float(limits.max)  # of 64 bits, the largest float is one too many
    result = np.where(low | high, 0.0, wide).astype(dtype)
    result[low], result[high] = limits.min, limits.max
    return result
