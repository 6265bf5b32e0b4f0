"""Takes Identity nodes out. The pass of onnx_ir gives two outputs of a graph one name where one copies the other."""

from __future__ import annotations

import onnx_ir as ir

from ..graph import Graph, nodes


def remove_identities(graph: Graph) -> None:
    """In place, everywhere but where an Identity is what gives an output a name of its own."""
    for node in list(nodes(graph)):
        if node.op_type == "Identity" and node.domain == "":
            _remove(node)


def _remove(node: ir.Node) -> None:
    """An output takes its name along to the node that computes it, if that stands in the same graph.

    A subgraph cannot give a value of the graph around it, and a value that is an output already has its own name.
    """
    source, result, graph = node.inputs[0], node.outputs[0], node.graph
    if source is None or graph is None:
        return
    is_output = result.is_graph_output()
    maker = source.producer()
    if is_output and (maker is None or maker.graph is not graph or source.is_graph_output()):
        return
    name, kind, shape = result.name, source.type or result.type, source.shape
    if shape is None or is_output:
        shape = result.shape
    ir.convenience.replace_all_uses_with(result, source, replace_graph_outputs=True)
    graph.remove(node, safe=True)
    source.type, source.shape = kind, shape
    if is_output:
        source.name = name
