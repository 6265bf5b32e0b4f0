"""Removes what no output needs, and gives every node and value a name that depends on the graph alone."""

from __future__ import annotations

import onnx_ir.passes.common as common

from edgewright.targets.board import Board

from ..graph import Graph
from ..passes import Evidence, NoOptions, Pass, count_nodes


class RemoveDeadCode(Pass[NoOptions]):
    """Unused nodes, weights and opsets go."""

    name = "remove-dead-code"

    def apply(self, graph: Graph, options: NoOptions, target: Board | None) -> tuple[Graph, Evidence]:
        del options, target
        nodes, weights = count_nodes(graph), len(graph.graph.initializers)
        common.RemoveUnusedNodesPass()(graph)
        common.RemoveUnusedFunctionsPass()(graph)  # type: ignore[no-untyped-call]
        common.RemoveUnusedOpsetsPass()(graph)
        common.NameFixPass()(graph)
        common.TopologicalSortPass()(graph)
        return graph, {
            "nodes_removed": nodes - count_nodes(graph),
            "weights_removed": weights - len(graph.graph.initializers),
        }
