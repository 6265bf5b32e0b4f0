"""What convolutions and pools share: windows, padding, and layouts of one and two dimensions."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from .....attributes import integer, integers, needed, text
from ...net import Border
from ..walk import UNIT, Order, Walk

PICTURE: Order = (0, 2, 3, 1)
SEQUENCE: Order = (0, UNIT, 2, 1)
"""A picture of height 1."""


@dataclass(frozen=True)
class Windows:
    """Where windows lie on a picture; sequences are pictures of height 1."""

    order: Order
    size: tuple[int, int]
    """Of the input."""
    window: tuple[int, int]
    strides: tuple[int, int]
    dilations: tuple[int, int]
    begin: tuple[int, int]
    """Padding above and to the left."""
    end: tuple[int, int]
    """Padding below and to the right, as the operator counts it."""
    out: tuple[int, int]

    def border(self, value: float) -> Border:
        """As wide as the windows reach."""
        reach = [
            max(0, (out - 1) * stride + (window - 1) * dilation + 1 - begin - size)
            for out, stride, window, dilation, begin, size in zip(
                self.out, self.strides, self.window, self.dilations, self.begin, self.size, strict=True
            )
        ]
        return Border(self.begin[0], self.begin[1], reach[0], reach[1], value)

    @property
    def covers_all(self) -> bool:
        """Whether one window is the whole picture."""
        return self.window == self.size and self.out == (1, 1) and not any((*self.begin, *self.end))


def windows_of(walk: Walk, node: ir.Node, kernel: tuple[int, ...]) -> Windows:
    """Of a convolution or a pool with this kernel.

    Raises:
        UnsupportedModel: three dimensions or more, padding that is negative, or no window that lies on its input.
    """
    shape = walk.shape(needed(node, 0))
    if len(shape) not in (3, 4):
        walk.refuse(
            node, f"its input has shape {shape}", "native code computes one and two dimensions; reshape around it"
        )
    count = len(kernel)
    strides = integers(node, "strides") or (1,) * count
    dilations = integers(node, "dilations") or (1,) * count
    begin, end = _padding(node, shape[2:], kernel, strides, dilations)
    if min((*begin, *end)) < 0:
        walk.refuse(node, "its padding is negative", "slice its input instead")
    ceil = bool(integer(node, "ceil_mode", 0))
    out = tuple(
        _count(size + before + after - (window - 1) * dilation - 1, stride, size + before if ceil else None)
        for size, window, stride, dilation, before, after in zip(
            shape[2:], kernel, strides, dilations, begin, end, strict=True
        )
    )
    if min(out) < 1:
        walk.refuse(
            node, f"its windows of {kernel} are larger than its padded input of {shape[2:]}",
            "pad its input, or take smaller windows",
        )  # fmt: skip
    order = PICTURE if count == 2 else SEQUENCE
    return Windows(
        order, _two(shape[2:], 1), _two(kernel, 1), _two(strides, 1), _two(dilations, 1), _two(begin, 0), _two(end, 0),
        _two(out, 1),
    )  # fmt: skip


def _two(numbers: tuple[int, ...], missing: int) -> tuple[int, int]:
    return (missing, numbers[0]) if len(numbers) == 1 else (numbers[0], numbers[1])


def _count(room: int, stride: int, last: int | None) -> int:
    """Of windows in a line, rounded up where `last` is given: none of them begins there or beyond."""
    if last is None:
        return room // stride + 1
    count = -(-room // stride) + 1
    return count - 1 if (count - 1) * stride >= last else count


def _padding(
    node: ir.Node,
    size: tuple[int, ...],
    kernel: tuple[int, ...],
    strides: tuple[int, ...],
    dilations: tuple[int, ...],
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    mode = text(node, "auto_pad", "NOTSET")
    if mode in ("SAME_UPPER", "SAME_LOWER"):
        total = [
            max(0, (-(-length // stride) - 1) * stride + (window - 1) * dilation + 1 - length)
            for length, window, stride, dilation in zip(size, kernel, strides, dilations, strict=True)
        ]
        less, more = tuple(each // 2 for each in total), tuple(each - each // 2 for each in total)
        return (less, more) if mode == "SAME_UPPER" else (more, less)
    pads = None if mode == "VALID" else integers(node, "pads")
    pads = pads or (0,) * (2 * len(kernel))
    return pads[: len(kernel)], pads[len(kernel) :]
