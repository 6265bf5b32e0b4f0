"""Operators that take a part of a value."""

from __future__ import annotations

from ..orders import Order, identity, without
from ..step import Step
from .row import Row

MASK = 2**8 - 1


def slice_(step: Step) -> None:
    """Slice."""
    shape, starts, sizes = step.shape(0), step.numbers(1), step.numbers(2)
    if not len(shape) == len(starts) == len(sizes):
        step.wrong(f"it starts at {starts} and takes {sizes} of {shape}")
    ends = [size if count == -1 else start + count for size, start, count in zip(shape, starts, sizes, strict=True)]
    if any(not 0 <= start <= end <= size for start, end, size in zip(starts, ends, shape, strict=True)):
        step.wrong(f"it takes {starts} to {ends} of {shape}")
    order = step.native(0)
    whole = {axis for axis, end in enumerate(ends) if (starts[axis], end) == (0, shape[axis])}
    step.finish(_sliced(step, order, starts, tuple(ends), (1,) * len(shape), whole), order)


def strided_slice(step: Step) -> None:
    """Slice, and Squeeze of the axes of which one element is taken.

    Not: new axes, an ellipsis, ends that count from the beginning.
    """
    shape, rank = step.shape(0), len(step.shape(0))
    begins, ends, strides = step.numbers(1), step.numbers(2), step.numbers(3)
    if step.integer("ellipsisMask", 0) or step.integer("newAxisMask", 0) or step.flag("offset"):
        step.refuse("it has new axes, an ellipsis or offsets", "export the model with plain slices")
    if not len(begins) == len(ends) == len(strides) <= rank or 0 in strides:
        step.wrong(f"it takes {begins} to {ends} by {strides} of {shape}")
    masks = [step.integer(name, 0, MASK) for name in ("beginMask", "endMask", "shrinkAxisMask")]
    found = [
        _range(size, begin, end, stride, tuple(bool(mask >> axis & 1) for mask in masks))
        for axis, (size, begin, end, stride) in enumerate(zip(shape, begins, ends, strides, strict=False))
    ]
    gone = {axis for axis in range(len(found)) if masks[2] >> axis & 1}
    if any(not 0 <= begins[axis] + (shape[axis] if begins[axis] < 0 else 0) < shape[axis] for axis in gone):
        step.wrong(f"it takes {begins} of {shape}")
    _strided(step, found + [(0, size, 1) for size in shape[len(found) :]], gone)


def _range(size: int, begin: int, end: int, stride: int, masks: tuple[bool, ...]) -> tuple[int, int, int]:
    """Start, end and stride along an axis, as ONNX takes them; the end of a backward range may be -size - 1."""
    if masks[2]:
        start = begin + size if begin < 0 else begin
        return start, start + 1, 1
    low, high = (0, size) if stride > 0 else (-1, size - 1)
    start = (low if stride > 0 else high) if masks[0] else min(max(begin + size if begin < 0 else begin, low), high)
    stop = (high if stride > 0 else low) if masks[1] else min(max(end + size if end < 0 else end, low), high)
    return start, -size - 1 if stop < 0 else stop, stride


def _strided(step: Step, ranges: list[tuple[int, int, int]], gone: set[int]) -> None:
    shape, order = step.shape(0), step.native(0)
    left = without(order, gone)
    if gone and left != identity(len(left)):
        order, left = identity(len(shape)), identity(len(left))
    whole = {axis for axis, each in enumerate(ranges) if each == (0, shape[axis], 1)} - gone
    starts, ends, strides = zip(*ranges, strict=True) if ranges else ((), (), ())
    y = _sliced(step, order, starts, ends, strides, whole)
    if gone:
        places = sorted(order.index(axis) for axis in gone)
        y = step.node("Squeeze", step.rounded(y, step.input(0)), step.row(*places))
    step.finish(y, left)


def _sliced(
    step: Step,
    order: Order,
    starts: tuple[int, ...],
    ends: tuple[int, ...],
    strides: tuple[int, ...],
    whole: set[int],
) -> str:
    """The part of the input; axes that stay whole are not named, since one of them may be free."""
    axes = [axis for axis in range(len(order)) if axis not in whole]
    x = step.real(0, order)
    if not axes:
        return x
    rows = [step.row(*(numbers[axis] for axis in axes)) for numbers in (starts, ends)]
    places = step.row(*(order.index(axis) for axis in axes))
    return step.node("Slice", x, *rows, places, step.row(*(strides[axis] for axis in axes)))


def gather(step: Step) -> None:
    """Gather.

    Not: batches of indices.
    """
    if step.integer("batchDims", -8, 8):
        step.refuse("it gathers per sample", "gather with the same indices for all samples")
    if step.type(1) not in {"INT32", "INT64"}:
        step.wrong(f"its indices are {step.type(1)}, expected INT32 or INT64")
    axis = step.axis(step.integer("axis", -8, 8), len(step.shape(0)))
    known = step.reading.known(step.input(1))
    if known is not None and known.size and not (known.min() >= 0 and known.max() < step.shape(0)[axis]):
        step.wrong(f"its indices reach from {known.min()} to {known.max()}, axis {axis} is {step.shape(0)[axis]}")
    step.finish(step.node("Gather", step.real(0), step.real(1), axis=axis))


TABLE = {
    "GATHER": Row(gather, 2, 2),
    "SLICE": Row(slice_, 3, 3),
    "STRIDED_SLICE": Row(strided_slice, 4, 4),
}
