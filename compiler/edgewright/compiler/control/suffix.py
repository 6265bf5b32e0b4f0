"""The part of a model behind a tensor, as a model of its own: what changes there is re-run, and nothing before it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir
import onnxruntime
from numpy.typing import NDArray

from ..graph import Graph, clone, to_bytes
from ..lower.onnxruntime import Arithmetic, open_session

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Part:
    """Some nodes between tensors that are given and tensors that are asked for."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    nodes: tuple[str, ...]


def behind(graph: Graph, tensor: str) -> Part:
    """Everything that a tensor has a say in, down to the outputs of the graph."""
    reached = {tensor}
    inside = []
    for node in graph.graph:
        if any(value.name in reached for value in reads_of(node)):
            inside.append(node)
            reached.update(value.name or "" for value in node.outputs)
    outputs = tuple(value.name or "" for value in graph.graph.outputs if value.name in reached - {tensor})
    return Part((tensor, *_given(inside, reached)), outputs, tuple(node.name or "" for node in inside))


def between(first: ir.Node, results: Iterable[ir.Value]) -> Part:
    """From the inputs of a node to results of it or of the activation that it absorbs."""
    wanted = list(results)
    inside = [first]
    for value in wanted:
        maker = value.producer()
        if maker is not None and maker is not first:
            inside.append(maker)
    made = {value.name or "" for node in inside for value in node.outputs}
    return Part(
        _given(inside, made), tuple(value.name or "" for value in wanted), tuple(node.name or "" for node in inside)
    )


def reads_of(node: ir.Node) -> list[ir.Value]:
    """What a node reads, what the subgraphs in its attributes read from outside included."""
    found = [value for value in node.inputs if value is not None]
    for graph in _subgraphs(node):
        inner = list(ir.traversal.RecursiveGraphIterator(graph))
        own = {id(value) for each in inner for value in each.outputs} | {id(value) for value in graph.inputs}
        found += [value for each in inner for value in each.inputs if value is not None and id(value) not in own]
    return found


def _subgraphs(node: ir.Node) -> list[ir.Graph]:
    found: list[ir.Graph] = []
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH:
            found.append(attribute.as_graph())
        elif attribute.type == ir.AttributeType.GRAPHS:
            found.extend(attribute.as_graphs())
    return found


def _given(inside: list[ir.Node], made: set[str]) -> tuple[str, ...]:
    """What these nodes read from elsewhere, constants left out."""
    names = (
        value.name or "" for node in inside for value in reads_of(node) if value.const_value is None and value.name
    )
    return tuple(dict.fromkeys(name for name in names if name not in made))


def open_part(graph: Graph, part: Part, given: Arrays) -> onnxruntime.InferenceSession:
    """A session of that part alone; `given` shows the types of its inputs."""
    copy = clone(graph)
    cut = ir.convenience.extract(copy.graph, part.inputs, part.outputs)
    for value in cut.inputs:
        value.type = ir.TensorType(ir.DataType.from_numpy(given[value.name or ""].dtype))
        value.shape = None
    model = ir.Model(cut, ir_version=graph.ir_version, functions=tuple(copy.functions.values()))
    return open_session(to_bytes(model), Arithmetic.ENGINE)


def open_whole(graph: Graph, tensors: Iterable[str]) -> onnxruntime.InferenceSession:
    """A session of the whole model that gives these tensors too."""
    copy = clone(graph)
    known = {value.name for value in (*copy.graph.outputs, *copy.graph.inputs)}
    values = {value.name or "": value for node in copy.graph for value in node.outputs}
    for name in tensors:
        if name not in known:
            copy.graph.outputs.append(values[name])
    return open_session(to_bytes(copy), Arithmetic.ENGINE)
