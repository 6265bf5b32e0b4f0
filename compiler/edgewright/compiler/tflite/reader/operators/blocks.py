"""Operators that move blocks between space and channels or batch."""

from __future__ import annotations

from math import prod

from ..orders import CHANNELS_FIRST
from ..step import Step
from .row import Row

MAX_BLOCK = 1 << 10


def depth_to_space(step: Step) -> None:
    """DepthToSpace."""
    block, channels = step.integer("blockSize", 1, MAX_BLOCK), step.picture()[3]
    if channels % block**2:
        step.wrong(f"{channels} channels are not blocks of {block}x{block}")
    step.finish(step.node("DepthToSpace", step.real(0, CHANNELS_FIRST), blocksize=block, mode="DCR"), CHANNELS_FIRST)


def space_to_depth(step: Step) -> None:
    """SpaceToDepth."""
    block, (_, height, width, _) = step.integer("blockSize", 1, MAX_BLOCK), step.picture()
    if height % block or width % block:
        step.wrong(f"a picture of {(height, width)} is not blocks of {block}x{block}")
    step.finish(step.node("SpaceToDepth", step.real(0, CHANNELS_FIRST), blocksize=block), CHANNELS_FIRST)


def space_to_batch_nd(step: Step) -> None:
    """Pad, Reshape, Transpose, Reshape; with a convolution and BATCH_TO_SPACE_ND behind it, a Conv with dilations."""
    blocks, numbers, shape = step.numbers(1), step.numbers(2), step.shape(0)
    count = _checked(step, blocks, numbers)
    before, after = (0, *numbers[0::2], *(0,) * (len(shape) - 1 - count)), (
        0, *numbers[1::2], *(0,) * (len(shape) - 1 - count))  # fmt: skip
    x = step.real(0)
    padded = [size + a + b for size, a, b in zip(shape, before, after, strict=True)]
    if any(numbers):
        x = step.rounded(step.node("Pad", x, step.row(*before, *after)), step.input(0))
    if any(size % block for size, block in zip(padded[1:], blocks, strict=False)):
        step.wrong(f"{padded} is not made of blocks {blocks}")
    inner = [each for size, block in zip(padded[1:], blocks, strict=False) for each in (size // block, block)]
    rest = padded[1 + count :]
    x = step.rounded(step.node("Reshape", x, step.row(padded[0], *inner, *rest)), step.input(0))
    axes = [
        *range(2, 2 + 2 * count, 2),
        0,
        *range(1, 1 + 2 * count, 2),
        *range(1 + 2 * count, 1 + 2 * count + len(rest)),
    ]
    x = step.rounded(step.node("Transpose", x, perm=axes), step.input(0))
    step.finish(step.node("Reshape", x, step.row(padded[0] * prod(blocks), *inner[0::2], *rest)))


def batch_to_space_nd(step: Step) -> None:
    """Reshape, Transpose, Reshape, Slice."""
    blocks, crops, shape = step.numbers(1), step.numbers(2), step.shape(0)
    count = _checked(step, blocks, crops)
    if shape[0] % prod(blocks):
        step.wrong(f"a batch of {shape[0]} is not made of blocks {blocks}")
    batch, rest = shape[0] // prod(blocks), shape[1 + count :]
    x = step.rounded(step.node("Reshape", step.real(0), step.row(*blocks, batch, *shape[1:])), step.input(0))
    axes = [count, *(each for axis in range(count) for each in (count + 1 + axis, axis))]
    axes += range(2 * count + 1, 2 * count + 1 + len(rest))
    x = step.rounded(step.node("Transpose", x, perm=axes), step.input(0))
    sizes = [size * block for size, block in zip(shape[1:], blocks, strict=False)]
    y = step.node("Reshape", x, step.row(batch, *sizes, *rest))
    if any(crops):
        ends = [size - crop for size, crop in zip(sizes, crops[1::2], strict=True)]
        if any(start >= end for start, end in zip(crops[0::2], ends, strict=True)):
            step.wrong(f"nothing is left of {sizes} without {crops}")
        y = step.rounded(y, step.input(0))
        y = step.node("Slice", y, step.row(*crops[0::2]), step.row(*ends), step.row(*range(1, 1 + count)))
    step.finish(y)


def _checked(step: Step, blocks: tuple[int, ...], numbers: tuple[int, ...]) -> int:
    """The number of axes in blocks."""
    if step.reading.free_batch:
        step.refuse("it moves blocks into a batch that is free", "export the model with a fixed batch")
    if not 1 <= len(blocks) < len(step.shape(0)) - 1 or len(numbers) != 2 * len(blocks):
        step.wrong(f"blocks {blocks} and {numbers} do not fit {step.shape(0)}")
    if min(blocks) < 1 or max(blocks) > MAX_BLOCK or min(numbers) < 0 or not prod(step.shape(0)):
        step.wrong(f"blocks {blocks} and {numbers} do not fit {step.shape(0)}")
    return len(blocks)


TABLE = {
    "BATCH_TO_SPACE_ND": Row(batch_to_space_nd, 3, 3),
    "DEPTH_TO_SPACE": Row(depth_to_space, 1, 1),
    "SPACE_TO_BATCH_ND": Row(space_to_batch_nd, 3, 3),
    "SPACE_TO_DEPTH": Row(space_to_depth, 1, 1),
}
