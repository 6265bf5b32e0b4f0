"""Nodes that depend on no input: which they are, and what they give, while a graph is walked."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from .attributes import integer
from .known_values import Array, computed

ConstantOf = Callable[[ir.Value], Array | None]
"""The numbers of a value that does not depend on inputs."""
ShapeOf = Callable[[ir.Value], tuple[int, ...]]

RANDOM = frozenset({"Bernoulli", "Multinomial"})
SUBGRAPHS = frozenset({ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS})


def is_known(node: ir.Node, constant_of: ConstantOf) -> bool:
    """Whether a node's results depend on no input, or on the shape of one alone.

    Control flow is never known: its subgraphs read values that are none of its inputs.
    """
    if node.op_type == "Shape":
        return True
    if node.op_type in RANDOM or node.op_type.startswith("Random"):
        return False
    if any(attribute.type in SUBGRAPHS for attribute in node.attributes.values()):
        return False
    return all(value is None or constant_of(value) is not None for value in node.inputs)


def folded(node: ir.Node, constant_of: ConstantOf, shape_of: ShapeOf, opset: int) -> dict[str, Array]:
    """What a known node gives, by name."""
    if node.op_type == "Shape" and node.inputs[0] is not None:
        sizes = shape_of(node.inputs[0])
        part = sizes[integer(node, "start", 0) : integer(node, "end", len(sizes))]
        return {node.outputs[0].name or "": np.array(part, np.int64)}
    arrays = ((value.name or "", constant_of(value)) for value in node.inputs if value is not None)
    feeds = {name: array for name, array in arrays if array is not None}
    return computed(ir.serde.serialize_node(node), feeds, opset)
