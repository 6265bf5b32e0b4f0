"""Removes arithmetic that changes nothing: Dropout at inference, times one, plus zero, minus zero, over one."""

from __future__ import annotations

import onnx_ir as ir
from onnxscript.rewriter import rewrite
from onnxscript.rewriter.rules.common import (
    add_0_rule,
    div_by_1_rule,
    mul_by_1_rule,
    sub_0_rule,
)

from edgewright.targets.board import Board

from ..graph import Graph
from ..passes import Evidence, NoOptions, Pass, count_nodes
from .identity_removal import remove_identities

RULES = [
    *mul_by_1_rule.commute(),
    *add_0_rule.commute(),
    sub_0_rule,
    div_by_1_rule,
]


class RemoveNoOps(Pass[NoOptions]):
    """Fewer nodes, same numbers."""

    name = "remove-no-ops"

    def apply(self, graph: Graph, options: NoOptions, target: Board | None) -> tuple[Graph, Evidence]:
        del options, target
        before = count_nodes(graph)
        for node in list(graph.graph):
            if _is_idle_dropout(node):
                _pass_through(graph, node)
        cleaned = rewrite(graph, pattern_rewrite_rules=RULES)
        remove_identities(cleaned)
        return cleaned, {"nodes_removed": before - count_nodes(cleaned)}


def _is_idle_dropout(node: ir.Node) -> bool:
    """Whether it does nothing: not in training (the third input, opset 12 on), and nobody reads its mask."""
    if node.op_type != "Dropout" or node.domain != "":
        return False
    training = node.inputs[2] if len(node.inputs) > 2 else None
    idle = training is None or (training.const_value is not None and not training.const_value.numpy().any())
    return idle and not any(list(mask.uses()) or mask.is_graph_output() for mask in node.outputs[1:])


def _pass_through(graph: Graph, node: ir.Node) -> None:
    old, identity = node.outputs[0], ir.node("Identity", [node.inputs[0]], name=node.name)
    new = identity.outputs[0]
    name, new.type, new.shape = old.name, old.type, old.shape
    graph.graph.insert_before(node, identity)
    ir.convenience.replace_all_uses_with(old, new, replace_graph_outputs=True)
    graph.graph.remove(node, safe=True)
    new.name = name
