"""Computes at build time what does not depend on the input."""

from __future__ import annotations

import math

import onnx_ir as ir
import onnxscript.optimizer
from onnx_ir.passes.common import LiftConstantsToInitializersPass
from onnxscript.optimizer import fold_constants

from edgewright.targets.board import Board

from ..graph import Graph
from ..passes import Evidence, NoOptions, Pass, count_nodes

MAX_FOLDED_ELEMENTS = 64 * 1024
"""A larger result is left to be computed: folding must not blow up the file."""
MAX_MOVED_ELEMENTS = 64 * 1024 * 1024
"""What only moves the values of one weight makes no file larger."""
MAX_FILLED_ELEMENTS = 64
"""Of a ConstantOfShape: exporters compute pads from one, which the folder would leave alone."""
MOVING = frozenset({"Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten"})
GROWING = frozenset({"ConstantOfShape", "Expand", "Tile", "Range", "Pad", "Resize", "OneHot", "Loop", "Scan", "If"})
"""Their results may be far larger than what they read."""


class FoldConstants(Pass[NoOptions]):
    """Replaces nodes with constant inputs by their value, and lifts constant nodes to weights."""

    name = "fold-constants"

    def apply(self, graph: Graph, options: NoOptions, target: Board | None) -> tuple[Graph, Evidence]:
        del options, target
        before = count_nodes(graph)
        fold_constants(
            graph,
            onnx_shape_inference=False,  # each pass leaves declared shapes as they are
            input_size_limit=MAX_FOLDED_ELEMENTS,
            output_size_limit=MAX_MOVED_ELEMENTS,
            should_fold=_should_fold,
        )
        onnxscript.optimizer.remove_unused_nodes(graph)
        LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(graph)
        return graph, {"nodes_removed": before - count_nodes(graph)}


def _should_fold(node: ir.Node) -> bool | None:
    """True and False decide; None leaves it to the folder, which folds small constants."""
    size = _elements(node.outputs[0])
    if node.domain == "" and node.op_type in MOVING and _is_own_weight(node.inputs[0]):
        others = all(value is None or value.const_value is not None for value in node.inputs[1:])
        return others and size is not None and size <= MAX_MOVED_ELEMENTS
    if node.op_type == "ConstantOfShape" and size is not None and size <= MAX_FILLED_ELEMENTS:
        return node.inputs[0] is not None and node.inputs[0].const_value is not None
    if size is None:
        return False if node.op_type in GROWING else None
    return None if size <= MAX_FOLDED_ELEMENTS else False


def _is_own_weight(value: ir.Value | None) -> bool:
    return value is not None and value.const_value is not None and len(list(value.uses())) == 1


def _elements(value: ir.Value) -> int | None:
    """How many, or None where the shape is not known in full."""
    if value.shape is None or not all(isinstance(size, int) for size in value.shape):
        return None
    return math.prod(value.shape.numpy())
