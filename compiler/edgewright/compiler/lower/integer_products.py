"""MatMulInteger as products of floats: exact on every CPU.

As it stands in a dynamic model it is a kernel of the machine, and saturates on x86 without VNNI even where graph
optimisation is off. Integers below 2**24 are exact in float32; what lies above is rounded at the seventh digit.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import onnx
from onnx import helper

OPERATOR = "MatMulInteger"
FLOAT, INT32 = onnx.TensorProto.FLOAT, onnx.TensorProto.INT32


def in_floats(proto: onnx.ModelProto) -> bool:
    """Rewrites the products of a model, in place, subgraphs included; says whether there were any.

    A zero point for each row of the left side, which no exporter writes, is left as it is.
    """
    graphs = list(_graphs(proto.graph))
    scalars = {name for graph in graphs for name in _scalars(graph)}
    found = False
    for graph in reversed(graphs):  # nodes are copied, so branches come first
        nodes = [part for node in graph.node for part in _rewritten(node, scalars)]
        found = found or len(nodes) != len(graph.node)
        del graph.node[:]
        graph.node.extend(nodes)
    return found


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                yield from _graphs(inner)


def _scalars(graph: onnx.GraphProto) -> Iterable[str]:
    """Zero points that are certainly one number."""
    yield ""
    for item in graph.initializer:
        if all(size == 1 for size in item.dims):
            yield item.name
    for node in graph.node:
        if node.op_type == "DynamicQuantizeLinear":
            yield node.output[2]


def _rewritten(node: onnx.NodeProto, scalars: set[str]) -> list[onnx.NodeProto]:
    zero = node.input[2] if len(node.input) > 2 else ""
    if node.op_type != OPERATOR or zero not in scalars:
        return [node]
    sides = [f"{node.output[0]}/left", f"{node.output[0]}/right"]
    product = f"{node.output[0]}/product"
    parts: list[onnx.NodeProto] = []
    for index, side in enumerate(sides):
        zero = node.input[index + 2] if len(node.input) > index + 2 else ""
        parts += _without_zero(node.input[index], zero, side)
    return [
        *parts,
        helper.make_node("MatMul", sides, [product], node.name),
        helper.make_node("Cast", [product], node.output, f"{node.name}/integer", to=INT32),
    ]


def _without_zero(value: str, zero: str, result: str) -> list[onnx.NodeProto]:
    if not zero:
        return [helper.make_node("Cast", [value], [result], result, to=FLOAT)]
    return [
        helper.make_node("Cast", [value], [f"{result}/raw"], f"{result}/raw", to=FLOAT),
        helper.make_node("Cast", [zero], [f"{result}/zero"], f"{result}/zero", to=FLOAT),
        helper.make_node("Sub", [f"{result}/raw", f"{result}/zero"], [result], result),
    ]
