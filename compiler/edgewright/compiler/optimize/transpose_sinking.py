"""Moves transposes towards the outputs, past operators that work value by value, so that they meet and cancel.

Converters from TensorFlow wrap each NHWC operator into two transposes; between them stand activations and additions.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgewright.targets.board import Board

from ..graph import Graph, add_weight
from ..passes import Evidence, NoOptions, Pass

UNARY = frozenset(
    {"Relu", "LeakyRelu", "Sigmoid", "Tanh", "HardSigmoid", "HardSwish", "Elu", "Selu", "Softplus", "Softsign", "Exp"}
    | {"Neg", "Abs", "Sqrt", "Erf", "Gelu", "Mish", "Clip"}
)
"""Of Clip the bounds are scalars."""
BINARY = frozenset({"Add", "Sub", "Mul", "Div", "Min", "Max"})


class SinkTransposes(Pass[NoOptions]):
    """`f(Transpose(x))` becomes `Transpose(f(x))`; constants of binary operators are transposed back."""

    name = "sink-transposes"

    def apply(self, graph: Graph, options: NoOptions, target: Board | None) -> tuple[Graph, Evidence]:
        del options, target
        moved, last = 0, -1
        while moved != last:  # a transpose only ever moves towards the outputs, so this ends
            last = moved
            moved += sum(_sink(graph, node) for node in _transposes(graph))
        return graph, {"moved": moved}


def _transposes(graph: Graph) -> list[ir.Node]:
    return [node for node in graph.graph if node.op_type == "Transpose" and node.domain == ""]


def _permutation(node: ir.Node) -> tuple[int, ...] | None:
    attribute = node.attributes.get("perm")
    return None if attribute is None else tuple(attribute.as_ints())


def _sink(graph: Graph, transpose: ir.Node) -> bool:
    """Moves a transpose behind its only reader, and says whether it could."""
    if transpose.graph is None:
        return False  # went as the partner of another one
    result, permutation = transpose.outputs[0], _permutation(transpose)
    readers = {use.node for use in result.uses()}
    if permutation is None or len(readers) != 1 or result.is_graph_output() or transpose.inputs[0] is None:
        return False
    reader = readers.pop()
    if reader.domain != "" or reader.graph is not transpose.graph or len(reader.outputs) != 1:
        return False
    if reader.op_type in UNARY:
        untransposed = [transpose.inputs[0], *reader.inputs[1:]]
        if any(value is result for value in reader.inputs[1:]):
            return False
    elif reader.op_type in BINARY and len(reader.inputs) == 2:
        sources = [_source(graph, value, transpose, permutation) for value in reader.inputs]
        if any(source is None for source in sources):
            return False
        untransposed = list(sources)
    else:
        return False
    _swap(graph, transpose, reader, untransposed)
    return True


def _source(graph: Graph, value: ir.Value | None, transpose: ir.Node, permutation: tuple[int, ...]) -> ir.Value | None:
    """The operand as it is before the transpose, or None where it has no such form."""
    if value is None:
        return None
    if value is transpose.outputs[0]:
        return transpose.inputs[0]
    maker = value.producer()
    if maker is not None:
        alone = len(list(value.uses())) == 1 and not value.is_graph_output()
        same = maker.op_type == "Transpose" and maker.domain == "" and _permutation(maker) == permutation
        return maker.inputs[0] if alone and same else None
    if value.const_value is None or value.is_graph_input() or value.dtype != ir.DataType.FLOAT:
        return None
    array = value.const_value.numpy()
    if array.ndim > len(permutation):
        return None
    if array.size == 1:
        return value if array.ndim == 0 else add_weight(graph, _fresh(graph, value), array.reshape(()))
    padded = array.reshape((1,) * (len(permutation) - array.ndim) + array.shape)
    back = np.ascontiguousarray(np.transpose(padded, np.argsort(permutation)))
    return add_weight(graph, _fresh(graph, value), back)


def _fresh(graph: Graph, value: ir.Value) -> str:
    return f"{value.name}_back_{len(graph.graph.initializers)}"


def _swap(graph: Graph, transpose: ir.Node, reader: ir.Node, untransposed: list[ir.Value | None]) -> None:
    """The reader takes the untransposed operands; a transpose of its result takes over its name and its readers."""
    old = reader.outputs[0]
    others = [value.producer() for value in reader.inputs if value is not None and value is not transpose.outputs[0]]
    for index, value in enumerate(untransposed):
        reader.replace_input_with(index, value)
    after = ir.node("Transpose", [old], {"perm": list(_permutation(transpose) or ())}, name=f"{reader.name}_transposed")
    moved = after.outputs[0]
    name, moved.type, moved.shape = old.name, old.type, old.shape
    ir.convenience.replace_all_uses_with(old, moved, replace_graph_outputs=True)
    after.replace_input_with(0, old)
    graph.graph.insert_after(reader, after)
    old.name, moved.name = f"{name}_untransposed", name
    old.shape = _untransposed_shape(moved.shape, _permutation(transpose) or ())
    for node in (transpose, *others):
        if node is not None and node.op_type == "Transpose" and not list(node.outputs[0].uses()):
            graph.graph.remove(node, safe=True)


def _untransposed_shape(shape: ir.Shape | None, permutation: tuple[int, ...]) -> ir.Shape | None:
    if shape is None or len(shape) != len(permutation):
        return None
    return ir.Shape([shape[int(axis)] for axis in np.argsort(permutation)])
