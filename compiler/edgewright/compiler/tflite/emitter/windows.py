"""Windows that slide over pictures: when SAME and VALID say what the graph does, and what PAD has to add.

TFLite's SAME pads `total // 2` before and the rest after, where `total` is what the last window lacks; that is ONNX's
SAME_UPPER. PyTorch's padding of 1 at stride 2 is not that: it pads before where SAME would pad after. A sequence
(N, C, L) is a picture of height 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from ...attributes import integer, integers, text
from ..file.schema import PADDING
from .orders import CHANNELS_LAST, SEQUENCE_AS_PICTURE, Order
from .sites import Site
from .walk import Walk, numpy_of

Pads = tuple[tuple[int, int], tuple[int, int]]
"""Before and after, for height and width."""


@dataclass(frozen=True)
class Window:
    """Sizes over height and width; `pads` are what is really read outside of the picture."""

    kernel: tuple[int, int]
    strides: tuple[int, int]
    dilations: tuple[int, int]
    pads: Pads
    declared: Pads
    """What the graph says; rounding sizes up reads more, rounding them down less."""
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
    """What SAME pads (tensorflow/lite/kernels/padding.h); (-1, -1) where the output is not of SAME's size."""
    if out != -(-size // stride):
        return -1, -1
    total = max((out - 1) * stride + (kernel - 1) * dilation + 1 - size, 0)
    return total // 2, total - total // 2


def whole(sizes: tuple[int, int]) -> Window:
    """One window over all of a picture."""
    nothing = ((0, 0), (0, 0))
    return Window(sizes, sizes, (1, 1), nothing, nothing, (1, 1), sizes)


def window_of(walk: Walk, node: ir.Node, kernel: tuple[int, ...], sizes: tuple[int, int]) -> Window:
    """The window of a convolution or pool over a picture of these sizes; one size of a kernel is its width."""
    strides = pair(integers(node, "strides"), 1)
    dilations = pair(integers(node, "dilations"), 1)
    declared = pads_of(integers(node, "pads"))
    kernel = pair(kernel, 1)
    if min(*strides, *dilations, *kernel) < 1 or min(declared[0] + declared[1]) < 0:
        walk.refuse(node, "it has a size, stride or dilation below 1 or a padding below 0", "correct the model")
    pads, out = [], []
    for axis in range(2):
        found = _along(node, kernel[axis], strides[axis], dilations[axis], declared[axis], sizes[axis])
        if found is None:
            walk.refuse(node, f"its window does not fit a picture of {sizes}", "check the model's input size")
        pads.append(found[0])
        out.append(found[1])
    read = (pads[0], pads[1])
    said = declared if text(node, "auto_pad", "NOTSET") == "NOTSET" else read
    return Window(kernel, strides, dilations, read, said, (out[0], out[1]), sizes)


def _along(
    node: ir.Node, kernel: int, stride: int, dilation: int, declared: tuple[int, int], size: int
) -> tuple[tuple[int, int], int] | None:
    """What is read outside of one axis, and the size of the result; None where no window fits."""
    auto = text(node, "auto_pad", "NOTSET")
    reach = (kernel - 1) * dilation + 1
    before, after = declared
    if auto in {"SAME_UPPER", "SAME_LOWER"}:
        out = -(-size // stride)
        total = max((out - 1) * stride + reach - size, 0)
        before = total // 2 if auto == "SAME_UPPER" else total - total // 2
    elif auto == "VALID":
        before, out = 0, (size - reach) // stride + 1
    else:
        span, ceil = size + before + after - reach, bool(integer(node, "ceil_mode", 0))
        out = -(-span // stride) + 1 if ceil else span // stride + 1
        if ceil and (out - 1) * stride >= size + before:
            out -= 1  # no window starts in the padding behind the picture
    if out < 1:
        return None
    return (before, max((out - 1) * stride + reach - size - before, 0)), out


def picture(walk: Walk, site: Site) -> tuple[int, Order]:
    """The first input as a picture, channels last, and the order in which it lies."""
    order = picture_order(walk, site)
    return walk.data(site, site.input(0), order), order


def picture_order(walk: Walk, site: Site) -> Order:
    """In which a picture or a sequence is a picture for TFLite."""
    rank = len(walk.shape(site.input(0)))
    if rank not in {3, 4}:
        walk.refuse(site.node, f"it has {rank - 2} spatial axes", "use one or two")
    return CHANNELS_LAST if rank == 4 else SEQUENCE_AS_PICTURE


def padded(walk: Walk, x: int, window: Window, *, lowest: bool = False) -> tuple[int, int]:
    """The picture, with a border where no padding of TFLite does it, and the number of the padding then.

    The border is of zeros, or with `lowest` of the least number that there is.
    """
    if window.valid:
        return x, PADDING["VALID"]
    if window.same:
        return x, PADDING["SAME"]
    return bordered(walk, x, window.pads, lowest=lowest), PADDING["VALID"]


def bordered(walk: Walk, x: int, pads: Pads, *, lowest: bool = False) -> int:
    """A picture with a border: PAD, PADV2 where it is of something else than zeros."""
    (top, bottom), (left, right) = pads
    batch, height, width, channels = walk.shape_of(x)
    y = walk.like(x, (batch, height + top + bottom, width + left + right, channels), "padded")
    amounts = walk.draft.constant("pads", np.asarray([[0, 0], [top, bottom], [left, right], [0, 0]], np.int32))
    fill = _lowest(walk, x) if lowest else None
    if fill is None:
        walk.emit("PAD", (x, amounts), (y,))
    else:
        walk.emit("PADV2", (x, amounts, fill), (y,))
    return y


def _lowest(walk: Walk, x: int) -> int | None:
    """The least number of a tensor as a constant; None where that stands for zero, which PAD adds on its own."""
    source = walk.draft.tensors[x]
    kind = numpy_of(source.type)
    if source.quantization is None:
        return walk.draft.constant("fill", np.asarray([-np.inf], kind))
    least = np.iinfo(kind).min
    if source.quantization.zero_points[0] == least:
        return None
    return walk.draft.constant("fill", np.asarray([least], kind), source.quantization)


def pair(given: tuple[int, ...] | None, default: int) -> tuple[int, int]:
    """Numbers over height and width; one number is for the width of a sequence."""
    if not given:
        return default, default
    return (default, given[0]) if len(given) == 1 else (given[0], given[1])


def pads_of(given: tuple[int, ...] | None) -> Pads:
    """ONNX's list (all before, then all after) by axis."""
    if not given:
        return (0, 0), (0, 0)
    if len(given) == 2:
        return (0, 0), (given[0], given[1])
    return (given[0], given[2]), (given[1], given[3])
