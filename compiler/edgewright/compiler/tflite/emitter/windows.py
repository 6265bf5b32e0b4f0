"""Windows that slide over pictures: when SAME and VALID say what the graph does, and what PAD has to add.

TFLite's SAME pads `total // 2` before and the rest after, where `total` is what the last window lacks; that is ONNX's
SAME_UPPER. PyTorch's padding of 1 at stride 2 is not that: it pads before where SAME would pad after.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from ...attributes import integer, integers, text
from ..file.schema import PADDING
from .orders import CHANNELS_LAST
from .sites import Site
from .walk import Walk, numpy_of


@dataclass(frozen=True)
class Window:
    """Sizes over height and width; `pads` are what is really read outside of the picture."""

    kernel: tuple[int, int]
    strides: tuple[int, int]
    dilations: tuple[int, int]
    pads: tuple[tuple[int, int], tuple[int, int]]
    """Before and after, for height and width."""
    out: tuple[int, int]
    inputs: tuple[int, int]

    @property
    def same(self) -> bool:
        """Whether SAME pads just so."""
        return all(
            pads == same_pads(size, out, kernel, stride, dilation)
            for pads, size, out, kernel, stride, dilation in zip(
                self.pads, self.inputs, self.out, self.kernel, self.strides, self.dilations, strict=True
            )
        )

    @property
    def valid(self) -> bool:
        """Whether nothing outside of the picture is read."""
        return not any(each for pads in self.pads for each in pads)


def same_pads(size: int, out: int, kernel: int, stride: int, dilation: int) -> tuple[int, int]:
    """What SAME pads (tensorflow/lite/kernels/padding.h: ComputePaddingWithOffset); (-1, -1) where out is not SAME's."""
    if out != -(-size // stride):
        return -1, -1
    total = max((out - 1) * stride + (kernel - 1) * dilation + 1 - size, 0)
    return total // 2, total - total // 2


def window_of(walk: Walk, node: ir.Node, kernel: tuple[int, int], sizes: tuple[int, int]) -> Window:
    """The window of a convolution or pool over a picture of these sizes."""
    strides = _pair(integers(node, "strides"), 1)
    dilations = _pair(integers(node, "dilations"), 1)
    declared = integers(node, "pads") or (0, 0, 0, 0)
    auto = text(node, "auto_pad", "NOTSET")
    ceil = bool(integer(node, "ceil_mode", 0))
    pads, out = [], []
    for axis in range(2):
        reach = (kernel[axis] - 1) * dilations[axis] + 1
        before, after = declared[axis], declared[axis + 2]
        if auto in {"SAME_UPPER", "SAME_LOWER"}:
            size = -(-sizes[axis] // strides[axis])
            total = max((size - 1) * strides[axis] + reach - sizes[axis], 0)
            before = total // 2 if auto == "SAME_UPPER" else total - total // 2
        elif auto == "VALID":
            before = after = 0
            size = (sizes[axis] - reach) // strides[axis] + 1
        else:
            span = sizes[axis] + before + after - reach
            size = -(-span // strides[axis]) + 1 if ceil else span // strides[axis] + 1
            if ceil and (size - 1) * strides[axis] >= sizes[axis] + before:
                size -= 1  # no window starts in the padding behind the picture
        if size < 1:
            walk.refuse(node, f"its window does not fit a picture of {sizes}", "check the model's input size")
        pads.append((before, max((size - 1) * strides[axis] + reach - sizes[axis] - before, 0)))
        out.append(size)
    return Window(kernel, strides, dilations, (pads[0], pads[1]), (out[0], out[1]), sizes)


def picture(walk: Walk, site: Site) -> int:
    """The first input as a picture, channels last."""
    return walk.data(site, site.input(0), CHANNELS_LAST)


def padded(walk: Walk, x: int, window: Window, fill: float = 0.0) -> tuple[int, int]:
    """The picture, with a border of `fill` where TFLite's own padding does not do it, and the number of that padding."""
    if window.valid:
        return x, PADDING["VALID"]
    if window.same:
        return x, PADDING["SAME"]
    (top, bottom), (left, right) = window.pads
    batch, height, width, channels = walk.shape_of(x)
    y = walk.like(x, (batch, height + top + bottom, width + left + right, channels), "padded")
    pads = walk.draft.constant("pads", np.asarray([[0, 0], [top, bottom], [left, right], [0, 0]], np.int32))
    source = walk.draft.tensors[x]
    if fill == 0.0:
        walk.emit("PAD", (x, pads), (y,))
    else:
        kind = numpy_of(source.type)
        value = np.iinfo(kind).min if source.quantization is not None else fill  # type: ignore[type-var]
        walk.emit("PADV2", (x, pads, walk.draft.constant("fill", np.asarray([value], kind), source.quantization)), (y,))
    return y, PADDING["VALID"]


def _pair(given: tuple[int, ...] | None, default: int) -> tuple[int, int]:
    return (given[0], given[1]) if given else (default, default)
