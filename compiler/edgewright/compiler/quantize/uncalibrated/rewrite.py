"""Puts new nodes in the place of one node: where they go, what they are called, and which type they give."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from ...graph import Graph


def constant(graph: Graph, name: str, array: NDArray[Any], dtype: ir.DataType | None = None) -> ir.Value:
    """A weight of the graph under this name; one that is there already with the same content is used again.

    Args:
        graph: altered in place.
        name: a number is put behind it where other content has the name.
        array: the content; integers of less than 8 bits come as int8.
        dtype: where the array's own type cannot say it (int4).
    """
    tensor = ir.tensor(array, dtype=dtype, name=name)
    free, tries = name, 1
    while (present := graph.graph.initializers.get(free)) is not None:
        if _same(present.const_value, tensor):
            return present
        tries += 1
        free = f"{name}_{tries}"
    tensor.name = free
    value = ir.Value(name=free, const_value=tensor, type=ir.TensorType(tensor.dtype), shape=ir.Shape(array.shape))
    graph.graph.register_initializer(value)
    return value


def _same(left: ir.TensorProtocol | None, right: ir.TensorProtocol) -> bool:
    if left is None or left.dtype != right.dtype or list(left.shape) != list(right.shape):
        return False
    return left.tobytes() == right.tobytes()


def new_node(
    operator: str,
    inputs: Sequence[ir.Value],
    names: Sequence[str],
    dtypes: Sequence[ir.DataType],
    attributes: Mapping[str, Any] | None = None,
    shape: ir.Shape | None = None,
) -> ir.Node:
    """A node that belongs to no graph yet; it bears the name of its first result."""
    node = ir.node(operator, list(inputs), attributes or {}, num_outputs=len(names), name=names[0])
    for value, name, dtype in zip(node.outputs, names, dtypes, strict=True):
        value.name, value.type = name, ir.TensorType(dtype)
    node.outputs[0].shape = shape
    return node


def insert_after_maker(graph: Graph, value: ir.Value, node: ir.Node) -> None:
    """Puts the node right behind what makes the value, so that every reader of the value can read its results too."""
    maker = value.producer()
    if maker is not None and maker.graph is not None:
        maker.graph.insert_after(maker, node)
    elif len(graph.graph) > 0:
        graph.graph.insert_before(graph.graph[0], node)
    else:
        graph.graph.append(node)


class Replacement:
    """Stands in for one node of a graph that may be altered: `call` adds nodes before it, `finish` removes it."""

    def __init__(self, graph: Graph, node: ir.Node) -> None:
        self.node = node
        self._graph = graph

    def constant(self, suffix: str, array: NDArray[Any], dtype: ir.DataType | None = None) -> ir.Value:
        """A weight named after the node."""
        return constant(self._graph, f"{self.node.name}_{suffix}", array, dtype)

    def call(
        self,
        operator: str,
        inputs: Sequence[ir.Value],
        suffix: str,
        dtype: ir.DataType = ir.DataType.FLOAT,
        attributes: Mapping[str, Any] | None = None,
        shape: ir.Shape | None = None,
    ) -> ir.Value:
        """The result of a new node named after the one that goes."""
        node = new_node(operator, inputs, [f"{self.node.name}_{suffix}"], [dtype], attributes, shape)
        if self.node.graph is None:
            raise ValueError(f"node {self.node.name!r} is in no graph")
        self.node.graph.insert_before(self.node, node)
        return node.outputs[0]

    def finish(self, result: ir.Value) -> None:
        """Everyone who read the old node reads `result` now, which takes over name, type and shape."""
        old = self.node.outputs[0]
        name, kind, shape = old.name, old.type, old.shape
        old.name = f"{name}_replaced"
        ir.convenience.replace_all_uses_with(old, result, replace_graph_outputs=True)
        if self.node.graph is not None:
            self.node.graph.remove(self.node, safe=True)
        result.name, result.type, result.shape = name, kind, shape


def scalar(number: float) -> NDArray[np.float32]:
    """A float32 of rank 0."""
    return np.asarray(number, dtype=np.float32)
