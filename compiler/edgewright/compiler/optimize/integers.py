"""Small integer constants of a graph: axes, shapes and permutations."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from ..graph import Graph


def constant_integers(value: ir.Value | None) -> tuple[int, ...] | None:
    """The numbers of an integer constant, or None where it is none."""
    if value is None or value.const_value is None or value.is_graph_input():
        return None
    return tuple(int(number) for number in value.const_value.numpy().reshape(-1))


def integer_weight(graph: Graph, name: str, numbers: Sequence[int]) -> ir.Value:
    """A new int64 weight of the graph, of one axis."""
    array = np.asarray(numbers, dtype=np.int64)
    value = ir.Value(
        name=name,
        const_value=ir.tensor(array, name=name),
        type=ir.TensorType(ir.DataType.INT64),
        shape=ir.Shape(array.shape),
    )
    graph.graph.register_initializer(value)
    return value
