"""Clamps behind integer operators that these cannot take along."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ...clamp import bounds_of
from ...graph import Graph
from .encodings import encoding_given
from .operators import OPERATORS
from .sites import CLAMPS, FUSED, covers


def round_before_clamps(graph: Graph) -> None:
    """Puts the rounding that is behind a clamp before it too, where only that lets both compute in integers.

    Results stay the same within one step: a clamp and a rounding each keep the order of numbers.
    """
    for node in list(graph.graph):
        quantizer = _quantizer_behind(node) if node.op_type in CLAMPS else None
        if quantizer is not None and _stops_integers(node, quantizer):
            _insert(graph, node, quantizer)


def _quantizer_behind(node: ir.Node) -> ir.Node | None:
    """What alone reads a result, once or several times in one way."""
    result = node.outputs[0]
    readers = [use.node for use in result.uses()]
    if not readers or result.is_graph_output() or any(reader.op_type != "QuantizeLinear" for reader in readers):
        return None
    return readers[0] if all(_same(reader, readers[0]) for reader in readers) else None


def _same(one: ir.Node, other: ir.Node) -> bool:
    """Whether two quantizers round to one encoding."""
    pairs = zip(one.inputs[1:], other.inputs[1:], strict=False)
    return len(one.inputs) == len(other.inputs) and all(_equal(left, right) for left, right in pairs)


def _equal(left: ir.Value | None, right: ir.Value | None) -> bool:
    if left is right:
        return True
    if left is None or right is None or left.const_value is None or right.const_value is None:
        return False
    arrays = left.const_value.numpy(), right.const_value.numpy()
    return arrays[0].dtype == arrays[1].dtype and np.array_equal(*arrays)


def _stops_integers(clamp: ir.Node, quantizer: ir.Node) -> bool:
    """Whether what is before a clamp reads integers and can neither take it along nor leave it to the rounding."""
    value, bounds = clamp.inputs[0], bounds_of(clamp)
    producer = value.producer() if value is not None else None
    if value is None or producer is None or bounds is None or len(list(value.uses())) > 1 or value.is_graph_output():
        return False
    operator = OPERATORS.get(producer.op_type)
    if operator is None or not operator.form.integers or (operator.form.fuses and bounds in FUSED):
        return False
    encoding = encoding_given(quantizer, len(value.shape or ()))
    return encoding is not None and not covers(encoding, bounds) and _reads_integers(producer)


def _reads_integers(node: ir.Node) -> bool:
    producers = [value.producer() for value in node.inputs if value is not None]
    return any(each is not None and each.op_type == "DequantizeLinear" for each in producers)


def _insert(graph: Graph, clamp: ir.Node, quantizer: ir.Node) -> None:
    value = clamp.inputs[0]
    if value is None:
        raise ValueError(f"{clamp.name!r} reads nothing")
    scales = quantizer.inputs[1:]
    attributes = list(quantizer.attributes.values())
    rounding = ir.Node(quantizer.domain, "QuantizeLinear", [value, *scales], attributes, name=f"{clamp.name}_before")
    integers = rounding.outputs[0]
    integers.name, integers.shape, integers.type = f"{value.name}_before", value.shape, quantizer.outputs[0].type
    kept = [each for each in attributes if each.name == "axis"]
    meaning = ir.Node(quantizer.domain, "DequantizeLinear", [integers, *scales], kept, name=f"{clamp.name}_read")
    real = meaning.outputs[0]
    real.name, real.shape, real.type = f"{value.name}_read", value.shape, value.type
    graph.graph.insert_before(clamp, [rounding, meaning])
    clamp.replace_input_with(0, real)
