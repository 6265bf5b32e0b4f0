"""Rewrites a graph into operators that TFLite has, before anything is written."""

from __future__ import annotations

import onnx_ir as ir

from ...graph import Graph, clone
from .clamps import round_before_clamps
from .patterns import Pattern, pattern_ending_at


def prepared(graph: Graph) -> Graph:
    """A copy of the graph that means the same, with patterns of several nodes as the one operator that they are."""
    result = clone(graph)
    for node in list(result.graph):
        pattern = pattern_ending_at(node)
        if pattern is not None:
            _replace(result, pattern)
    round_before_clamps(result)
    return result


def _replace(graph: Graph, pattern: Pattern) -> None:
    """The new node takes the name of the last one, and its result that of the old result."""
    last, old = pattern.nodes[-1], pattern.result
    node = ir.node(pattern.op_type, [pattern.source], name=last.name)
    new = node.outputs[0]
    name, new.type, new.shape = old.name, old.type, old.shape
    graph.graph.insert_before(last, node)
    ir.convenience.replace_all_uses_with(old, new, replace_graph_outputs=True)
    for each in reversed(pattern.nodes):
        graph.graph.remove(each, safe=True)
    new.name = name
