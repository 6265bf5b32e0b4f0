"""Operators that give values another shape or order of axes."""

from __future__ import annotations

from math import prod

from ..orders import dense, identity, without
from ..step import Step
from .row import Row


def reshape(step: Step) -> None:
    """Reshape."""
    if step.has(1) and step.reading.known(step.input(1)) is None:
        target = step.node("Cast", step.real(1), to=7)
    else:
        target = step.row(*_target(step))
    order = step.native(0)
    if dense(order, step.shape(0)) != tuple(sorted(dense(order, step.shape(0)))):
        order = identity(len(order))
    step.finish(step.node("Reshape", step.real(0, order), target))


def _target(step: Step) -> tuple[int, ...]:
    sizes = step.numbers(1) if step.has(1) else step.row_option("newShape")
    source, rest = prod(step.shape(0)), prod(size for size in sizes if size != -1)
    fits = rest > 0 and source % rest == 0 if -1 in sizes else rest == source
    if sizes.count(-1) > 1 or any(size < -1 for size in sizes) or not fits:
        step.wrong(f"shape {sizes} does not fit {step.shape(0)}")
    if 0 in sizes or not source:
        step.refuse("it has no elements", "export the model with inputs that have elements")
    return sizes


def squeeze(step: Step) -> None:
    """Squeeze."""
    shape, rank = step.shape(0), len(step.shape(0))
    given = step.row_option("squeezeDims") or tuple(axis for axis, size in enumerate(shape) if size == 1)
    axes = sorted({step.axis(axis, rank) for axis in given})
    if any(shape[axis] != 1 for axis in axes):
        step.wrong(f"axes {axes} of {shape} are not all of size 1")
    order = step.native(0)
    left = without(order, axes)
    if left != identity(len(left)):
        order, left = identity(rank), identity(len(left))
    places = sorted(order.index(axis) for axis in axes)
    step.finish(step.node("Squeeze", step.real(0, order), step.row(*places)) if axes else step.real(0, order), left)


def expand_dims(step: Step) -> None:
    """Unsqueeze."""
    (axis,) = step.numbers(1) if len(step.numbers(1)) == 1 else step.wrong("it has not one axis")
    step.finish(step.node("Unsqueeze", step.real(0), step.row(step.axis(axis, len(step.shape(0)) + 1))))


def transpose(step: Step) -> None:
    """Transpose."""
    permutation, rank = step.numbers(1), len(step.shape(0))
    if sorted(permutation) != list(range(rank)):
        step.wrong(f"{permutation} is no order of {rank} axes")
    order = step.native(0)
    moves = [order.index(axis) for axis in permutation]
    x = step.real(0, order)
    step.finish(x if moves == list(range(rank)) else step.node("Transpose", x, perm=moves))


def broadcast_to(step: Step) -> None:
    """Expand."""
    sizes = step.numbers(1)
    if sizes != step.result_shape():
        step.wrong(f"it gives {sizes}, its result has shape {step.result_shape()}")
    step.finish(step.node("Expand", step.real(0), step.row(*sizes)))


def tile(step: Step) -> None:
    """Tile."""
    order, repeats = step.native(0), step.numbers(1)
    _check_sizes(step, tuple(a * b for a, b in zip(step.shape(0), repeats, strict=False)), len(repeats), repeats)
    step.finish(step.node("Tile", step.real(0, order), step.row(*(repeats[axis] for axis in order))), order)


def _check_sizes(step: Step, sizes: tuple[int, ...], count: int, numbers: tuple[int, ...]) -> None:
    """Checks a constant of one number per axis, and the sizes that follow from it."""
    if count != len(step.shape(0)) or any(number < 0 for number in numbers) or sizes != step.result_shape():
        step.wrong(f"{numbers} makes {sizes} of {step.shape(0)}, its result has shape {step.result_shape()}")


def pad(step: Step) -> None:
    """Pad with zeros, or with a constant."""
    _pad(step, "constant", *((step.real(2),) if step.has(2) else ()))


def mirror_pad(step: Step) -> None:
    """Pad that reflects, or that repeats the border.

    Not: SYMMETRIC by more than 1, which reflects with the border twice.
    """
    symmetric = step.integer("mode", 0, 1)
    if symmetric and max(step.numbers(1), default=0) > 1:
        step.refuse("it pads SYMMETRIC by more than 1", "pad with REFLECT or zeros")
    _pad(step, "edge" if symmetric else "reflect")


def _pad(step: Step, mode: str, *fill: str) -> None:
    shape, numbers = step.shape(0), step.numbers(1)
    before, after = numbers[0::2], numbers[1::2]
    sizes = tuple(a + b + c for a, b, c in zip(shape, before, after, strict=False))
    _check_sizes(step, sizes, len(numbers) // 2 if len(before) == len(after) else -1, numbers)
    if mode == "reflect" and any(max(pads) >= size for *pads, size in zip(before, after, shape, strict=True)):
        step.wrong(f"it reflects {numbers} of {shape}")
    if fill and prod(step.shape(2)) != 1:
        step.wrong(f"it pads with a value of shape {step.shape(2)}")
    value = [step.node("Reshape", fill[0], step.row()) if step.shape(2) else fill[0]] if fill else []
    order = step.native(0)
    pads = step.row(*(before[axis] for axis in order), *(after[axis] for axis in order))
    step.finish(step.node("Pad", step.real(0, order), pads, *value, mode=mode), order)


TABLE = {
    "BROADCAST_TO": Row(broadcast_to, 2, 2),
    "EXPAND_DIMS": Row(expand_dims, 2, 2),
    "MIRROR_PAD": Row(mirror_pad, 2, 2),
    "PAD": Row(pad, 2, 2),
    "PADV2": Row(pad, 3, 3),
    "RESHAPE": Row(reshape, 1, 2),
    "SQUEEZE": Row(squeeze, 1, 1),
    "TILE": Row(tile, 2, 2),
    "TRANSPOSE": Row(transpose, 2, 2),
}
