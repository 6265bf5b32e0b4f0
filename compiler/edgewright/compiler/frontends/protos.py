"""Walks over a parsed ONNX file, subgraphs and functions included, without recursion."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import onnx


def graphs(proto: onnx.ModelProto) -> Iterator[onnx.GraphProto]:
    """The main graph and every subgraph, also those inside of functions."""
    pending = [proto.graph, *(inner for function in proto.functions for inner in _subgraphs(function.node))]
    while pending:
        graph = pending.pop()
        yield graph
        pending += _subgraphs(graph.node)


def nodes(proto: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """Every node."""
    for graph in graphs(proto):
        yield from graph.node
    for function in proto.functions:
        yield from function.node


def constants(proto: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Every constant that is not a weight of the main graph: weights of subgraphs, sparse weights, attributes."""
    for graph in graphs(proto):
        yield from () if graph is proto.graph else graph.initializer
        for sparse in graph.sparse_initializer:
            yield sparse.values
            yield sparse.indices
    for node in nodes(proto):
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors


def _subgraphs(of: Iterable[onnx.NodeProto]) -> Iterator[onnx.GraphProto]:
    for node in of:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield attribute.g
            yield from attribute.graphs
