"""Only other names or sizes of axes: Transpose, Reshape and their kin."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import onnx_ir as ir

from .....attributes import integer, integers, needed
from ..views import give_relabelled, give_reshaped
from ..walk import Walk
from .movement import known, listed


def transpose(walk: Walk, node: ir.Node) -> None:
    """Only another name for each axis: whoever needs another order moves the data."""
    x = needed(node, 0)
    rank = len(walk.shape(x))
    order = integers(node, "perm") or tuple(reversed(range(rank)))
    give_relabelled(walk, x, node.outputs[0], {old: new for new, old in enumerate(order)})


def reshape(walk: Walk, node: ir.Node) -> None:
    """0 keeps a size, -1 takes what is left."""
    x = needed(node, 0)
    shape, asked = walk.shape(x), known(walk, node, 1)
    wanted = [int(size) for size in (() if asked is None else asked.reshape(-1))]
    if not integer(node, "allowzero", 0):
        wanted = [shape[axis] if size == 0 else size for axis, size in enumerate(wanted)]
    if -1 in wanted:
        rest = int(np.prod([size for size in wanted if size != -1], dtype=np.int64))
        wanted[wanted.index(-1)] = int(np.prod(shape, dtype=np.int64)) // max(rest, 1)
    if np.prod(wanted, dtype=np.int64) != np.prod(shape, dtype=np.int64):
        walk.refuse(
            node,
            f"it makes {tuple(wanted)} of {shape}, which has another number of elements",
            "write the batch dimension as -1 or 0, so that it follows the batch size",
        )
    give_reshaped(walk, x, node.outputs[0], tuple(wanted))


def flatten(walk: Walk, node: ir.Node) -> None:
    """Two axes."""
    x = needed(node, 0)
    shape = walk.shape(x)
    axis = integer(node, "axis", 1)
    axis = axis + len(shape) if axis < 0 else axis
    sizes = (int(np.prod(shape[:axis], dtype=np.int64)), int(np.prod(shape[axis:], dtype=np.int64)))
    give_reshaped(walk, x, node.outputs[0], sizes)


def squeeze(walk: Walk, node: ir.Node) -> None:
    """Axes of size 1 that go: their memory stays."""
    x = needed(node, 0)
    shape = walk.shape(x)
    axes = listed(walk, node, 1, "axes")
    gone = {axis % len(shape) for axis in axes} if axes else {axis for axis, size in enumerate(shape) if size == 1}
    kept = [axis for axis in range(len(shape)) if axis not in gone]
    give_reshaped(walk, x, node.outputs[0], tuple(shape[axis] for axis in kept))


def unsqueeze(walk: Walk, node: ir.Node) -> None:
    """New axes of size 1."""
    x = needed(node, 0)
    shape = list(walk.shape(x))
    axes = listed(walk, node, 1, "axes") or ()
    rank = len(shape) + len(axes)
    for axis in sorted(axis % rank for axis in axes):
        shape.insert(axis, 1)
    give_reshaped(walk, x, node.outputs[0], tuple(shape))


TABLE: Mapping[str, Callable[[Walk, ir.Node], None]] = {
    "Transpose": transpose,
    "Reshape": reshape,
    "Flatten": flatten,
    "Squeeze": squeeze,
    "Unsqueeze": unsqueeze,
}
