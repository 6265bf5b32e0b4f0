"""HardSwish as `x * HardSigmoid(x)`: engines compute it so anyhow, and either half has an integer form of its own."""

from __future__ import annotations

import onnx_ir as ir

from edgewright.targets.board import Board

from ..graph import Graph
from ..passes import Evidence, NoOptions, Pass

SLOPE = 1 / 6
OFFSET = 0.5
"""Of the HardSigmoid in HardSwish; ONNX operators, HardSwish-14."""


class ExpandHardSwish(Pass[NoOptions]):
    """Same numbers; the result and the multiplication keep the names that HardSwish had."""

    name = "expand-hard-swish"

    def apply(self, graph: Graph, options: NoOptions, target: Board | None) -> tuple[Graph, Evidence]:
        del options, target
        found = [node for node in graph.graph if node.op_type == "HardSwish" and node.domain == ""]
        for node in found:
            _expand(graph, node)
        return graph, {"expanded": len(found)}


def _expand(graph: Graph, node: ir.Node) -> None:
    source, result = node.inputs[0], node.outputs[0]
    gate = ir.node("HardSigmoid", [source], {"alpha": SLOPE, "beta": OFFSET}, name=f"{node.name}_gate")
    gate.outputs[0].name = f"{result.name}_gate"
    product = ir.node("Mul", [source, gate.outputs[0]], name=node.name)
    for value in (gate.outputs[0], product.outputs[0]):
        value.type, value.shape = result.type, result.shape
    graph.graph.insert_before(node, [gate, product])
    ir.convenience.replace_all_uses_with(result, product.outputs[0], replace_graph_outputs=True)
    product.outputs[0].name = result.name
    graph.graph.remove(node, safe=True)
