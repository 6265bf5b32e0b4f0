"""What SAME and VALID are as numbers (tensorflow/lite/kernels/padding.h)."""

from __future__ import annotations

from typing import Any

from ..file.schema import PADDING
from .step import Step

MAX_STRIDE = 1 << 15
MAX_REACH = 1 << 20
"""Rows or columns between the first and the last that a window reads."""


def window(step: Step, kernel: tuple[int, int], *, dilated: bool = False) -> dict[str, Any]:
    """Strides, dilations and pads of a window over the first input, as attributes of ONNX."""
    strides = _strides(step)
    dilations = (1, 1)
    if dilated:
        dilations = (
            step.integer("dilationHFactor", 1, MAX_STRIDE, 1),
            step.integer("dilationWFactor", 1, MAX_STRIDE, 1),
        )
    reach = [(size - 1) * dilation + 1 for size, dilation in zip(kernel, dilations, strict=True)]
    if min(kernel) < 1 or max(reach) > MAX_REACH:
        step.wrong(f"its window is {kernel} with dilations {dilations}")
    sizes = step.reading.sizes(step.input(0))[1:3]
    found: dict[str, Any] = {"strides": strides} | ({"dilations": dilations} if dilated else {})
    if step.pads is not None:
        (top, bottom), (left, right) = step.pads
        return found | {"pads": (top, left, bottom, right)}
    if not _is_same(step):
        if any(size is not None and size < each for size, each in zip(sizes, reach, strict=True)):
            step.wrong(f"its window of {tuple(reach)} does not fit a picture of {sizes}")
        return found
    if None in sizes:
        return found | {"auto_pad": "SAME_UPPER"}
    pads = []
    for size, stride, each in zip(sizes, strides, reach, strict=True):
        total = max((-(-(size or 0) // stride) - 1) * stride + each - (size or 0), 0)
        pads.append((total // 2, total - total // 2))
    return found | {"pads": (pads[0][0], pads[1][0], pads[0][1], pads[1][1])}


def transposed_window(
    step: Step, kernel: tuple[int, int], sizes: tuple[int, int], out: tuple[int, int]
) -> dict[str, Any]:
    """Of a transposed convolution from a picture of `sizes` to one of `out`."""
    strides = _strides(step)
    same = _is_same(step)
    before, after, longer = [], [], []
    for axis in range(2):
        full = (sizes[axis] - 1) * strides[axis] + kernel[axis]
        total = max(full - out[axis], 0)
        behind = max(out[axis] - full, 0)
        if sizes[axis] < 1 or out[axis] < 1 or behind >= strides[axis] or (total and not same):
            step.wrong(f"a picture of {sizes} does not become one of {out} by filters of {kernel} at stride {strides}")
        before.append(total // 2)
        after.append(total - total // 2)
        longer.append(behind)
    return {"strides": strides, "pads": (*before, *after)} | ({"output_padding": longer} if any(longer) else {})


def _strides(step: Step) -> tuple[int, int]:
    return step.integer("strideH", 1, MAX_STRIDE), step.integer("strideW", 1, MAX_STRIDE)


def _is_same(step: Step) -> bool:
    return step.integer("padding", 0, len(PADDING) - 1) == PADDING["SAME"]
