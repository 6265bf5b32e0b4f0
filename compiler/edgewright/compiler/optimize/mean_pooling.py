"""A mean over height and width is a GlobalAveragePool: engines have an int8 kernel for it, and none for ReduceMean."""

from __future__ import annotations

import onnx_ir as ir

from edgewright.targets.board import Board

from ..graph import Graph
from ..passes import Evidence, NoOptions, Pass
from .integers import constant_integers, integer_weight

PICTURE_RANK = 4


class PoolMeans(Pass[NoOptions]):
    """`ReduceMean` over the last two of four axes becomes `GlobalAveragePool`, and `Squeeze` where axes are dropped."""

    name = "pool-means"

    def apply(self, graph: Graph, options: NoOptions, target: Board | None) -> tuple[Graph, Evidence]:
        del options, target
        found = [node for node in graph.graph if _is_mean_of_pictures(node)]
        for node in found:
            _replace(graph, node)
        return graph, {"pooled": len(found)}


def reduced_axes(node: ir.Node) -> tuple[int, ...] | None:
    """The axes of a reduction, from its attribute or (opset 18 on) its second input; None where they are not known."""
    attribute = node.attributes.get("axes")
    if attribute is not None:
        return tuple(attribute.as_ints())
    return constant_integers(node.inputs[1]) if len(node.inputs) > 1 else None


def _is_mean_of_pictures(node: ir.Node) -> bool:
    value = node.inputs[0] if node.inputs else None
    if node.op_type != "ReduceMean" or node.domain != "" or value is None or value.shape is None:
        return False
    axes = reduced_axes(node)
    is_picture = len(value.shape) == PICTURE_RANK and value.dtype == ir.DataType.FLOAT
    return is_picture and axes is not None and {axis % PICTURE_RANK for axis in axes} == {2, 3}


def _replace(graph: Graph, node: ir.Node) -> None:
    old = node.outputs[0]
    pool = ir.node("GlobalAveragePool", [node.inputs[0]], name=f"{node.name}_pool")
    new = [pool]
    if not node.attributes.get_int("keepdims", 1):
        pooled = pool.outputs[0]
        source = node.inputs[0]
        if source is not None and source.shape is not None:
            pooled.shape = ir.Shape([source.shape[0], source.shape[1], 1, 1])
        pooled.name, pooled.type = f"{old.name}_pooled", old.type
        axes = integer_weight(graph, f"{old.name}_axes", (2, 3))
        new.append(ir.node("Squeeze", [pooled, axes], name=f"{node.name}_squeeze"))
    graph.graph.insert_before(node, new)
    result = new[-1].outputs[0]
    name, result.type, result.shape = old.name, old.type, old.shape
    ir.convenience.replace_all_uses_with(old, result, replace_graph_outputs=True)
    graph.graph.remove(node, safe=True)
    result.name = name
