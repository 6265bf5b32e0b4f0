"""Transposed convolutions over pictures and sequences."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from ....attributes import integer, integers, text
from ...file.model import Array
from ...file.schema import PADDING
from ..sites import Form, Site
from ..walk import Walk, fused
from ..weights import weight_and_bias
from ..windows import pads_of, pair, picture
from .convolutions import as_picture
from .operator import INT8_AND_16, Operator
from .slicing import taken


@dataclass(frozen=True)
class _Along:
    """One axis: what the products fill (`full`), and which run of it is the result."""

    size: int
    stride: int
    reach: int
    before: int
    out: int

    @property
    def full(self) -> int:
        """All that the products reach, and what the result has beyond that."""
        return max((self.size - 1) * self.stride + self.reach, self.before + self.out)

    @property
    def same(self) -> bool:
        """Whether SAME cuts off just so (tensorflow/lite/kernels/padding.h, from the result's size)."""
        total = max((self.size - 1) * self.stride + self.reach - self.out, 0)
        return self.size == -(-self.out // self.stride) and self.before == total // 2


def conv_transpose(walk: Walk, site: Site) -> None:
    """TRANSPOSE_CONV; SLICE behind it where neither SAME nor VALID cuts off what the graph does.

    The operator states the whole shape of its result: a batch that callers could resize becomes fixed.

    Not: weights that are computed; three spatial axes.
    """
    filters = walk.constant(site.input(1))
    if filters is None:
        walk.refuse(site.node, "its weights are computed", "make them a constant of the model")
    x, order = picture(walk, site)
    batch, height, width, _ = walk.shape_of(x)
    walk.free_batch = False
    groups, dilations = integer(site.node, "group", 1), pair(integers(site.node, "dilations"), 1)
    w, b = weight_and_bias(walk, site, x, 1, 2, lambda array: _filters(array, groups, dilations), axis=0)
    along = _geometry(walk, site.node, walk.shape_of(w)[1:3], (height, width))
    same = all(axis.same for axis in along)
    sizes = [axis.out if same else axis.full for axis in along]
    shape = (batch, *sizes, walk.shape_of(w)[0])
    whole = same or all(axis.full == axis.out for axis in along)
    y = walk.result(site, shape, order) if whole else _uncut(walk, site, shape)
    walk.emit(
        "TRANSPOSE_CONV",
        (walk.draft.constant("result_shape", np.asarray(shape, np.int32)), w, x, b),
        (y,),
        padding=PADDING["SAME" if same else "VALID"],
        strideH=along[0].stride,
        strideW=along[1].stride,
        fusedActivationFunction=fused(site),
    )
    if not whole:
        runs = [range(batch), *(range(axis.before, axis.before + axis.out) for axis in along), range(shape[3])]
        walk.finish(site, taken(walk, site.node, y, runs, site.results[0].name or ""), order)


def _uncut(walk: Walk, site: Site, shape: tuple[int, ...]) -> int:
    """A result with what is cut off later."""
    name = f"{site.results[0].name}_uncut"
    if not site.integer:
        return walk.draft.tensor(name, "FLOAT32", shape)
    return walk.draft.tensor(name, site.encodings[0].type, shape, site.encodings[0].quantization)


def _filters(array: Array, groups: int, dilations: tuple[int, int]) -> Array:
    """(in, out of a group, height, width) to (out, height, width, in), with zeros between groups and dilated places."""
    filters = as_picture(array)
    channels, each, height, width = filters.shape
    reach = (height - 1) * dilations[0] + 1, (width - 1) * dilations[1] + 1
    found = np.zeros((channels, each * groups, *reach), filters.dtype)
    inputs = channels // groups
    for group in range(groups):
        rows, columns = slice(group * inputs, (group + 1) * inputs), slice(group * each, (group + 1) * each)
        found[rows, columns, :: dilations[0], :: dilations[1]] = filters[rows]
    return found.transpose(1, 2, 3, 0)


def _geometry(walk: Walk, node: ir.Node, reach: tuple[int, ...], sizes: tuple[int, int]) -> tuple[_Along, _Along]:
    """Height and width (ONNX operators, ConvTranspose: where the result's size is given, padding follows from it)."""
    strides = pair(integers(node, "strides"), 1)
    declared = pads_of(integers(node, "pads"))
    extra = pair(integers(node, "output_padding"), 0)
    wanted = integers(node, "output_shape")
    auto = text(node, "auto_pad", "NOTSET")
    found = []
    for axis in range(2):
        natural = (sizes[axis] - 1) * strides[axis] + reach[axis] + extra[axis]
        before, after = declared[axis]
        out = natural - before - after
        if wanted is not None or auto in {"SAME_UPPER", "SAME_LOWER"}:
            asked = pair(wanted, 1)[axis] if wanted else min(natural, sizes[axis] * strides[axis])
            total = max(natural - asked, 0)
            before, out = total // 2 if auto == "SAME_UPPER" else total - total // 2, asked
        if out < 1 or before < 0 or strides[axis] < 1:
            walk.refuse(node, f"its padding leaves {out} of {natural}", "correct the model")
        found.append(_Along(sizes[axis], strides[axis], reach[axis], before, out))
    return found[0], found[1]


TABLE = {"ConvTranspose": Operator(conv_transpose, Form(fuses=True, integers=INT8_AND_16, weight=1))}
