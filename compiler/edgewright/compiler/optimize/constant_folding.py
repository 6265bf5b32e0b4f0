"""Computes at build time what does not depend on the input."""

from __future__ import annotations

import onnxscript.optimizer
from onnx_ir.passes.common import LiftConstantsToInitializersPass
from onnxscript.optimizer import fold_constants

from edgewright.targets.board import Board

from ..graph import Graph
from ..passes import Evidence, NoOptions, Pass, count_nodes

MAX_FOLDED_ELEMENTS = 64 * 1024
"""A larger result is left to be computed: folding must not blow up the file."""


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
            output_size_limit=MAX_FOLDED_ELEMENTS,
        )
        onnxscript.optimizer.remove_unused_nodes(graph)
        LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(graph)
        return graph, {"nodes_removed": before - count_nodes(graph)}
