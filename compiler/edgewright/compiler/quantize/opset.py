"""Raises the opset of a graph of any size."""

from __future__ import annotations

import onnx.version_converter
import onnx_ir as ir

from ..faults import UnsupportedModel, first_line
from ..graph import Graph, clone, from_proto, to_proto

LARGE_ELEMENTS = 1024
"""Weights from here on are taken out during conversion: no rule of the converter reads them."""


def raised(graph: Graph, opset: int) -> Graph:
    """A graph that computes the same in at least this opset; the given one stays as it is.

    ONNX's own converter does it. The one of onnxscript only relabels steps below opset 18, and so leaves
    ReduceMean with an attribute that opset 18 does not have.

    Raises:
        UnsupportedModel: an operator has no rule for the step.
    """
    copy = clone(graph)
    present = copy.opset_imports.get("", 0)
    if present >= opset:
        return copy
    weights = _take_weights(copy)
    inputs = len(copy.graph.inputs) - len(weights)
    try:
        result = from_proto(onnx.version_converter.convert_version(to_proto(copy), opset))
    except (RuntimeError, onnx.version_converter.ConvertError) as error:
        raise UnsupportedModel(
            f"the model cannot be brought from opset {present} to {opset}, which int4 weights need: "
            f"{first_line(error)}. Export it with opset_version={opset}, or use int8 weights"
        ) from error
    _give_back(result, inputs, weights)
    return result


def _take_weights(graph: Graph) -> list[ir.TensorProtocol]:
    """Turns large weights into inputs behind the real ones."""
    taken = []
    for value in list(graph.graph.initializers.values()):
        if value.const_value is not None and value.const_value.size >= LARGE_ELEMENTS:
            taken.append(value.const_value)
            value.const_value = None
            del graph.graph.initializers[value.name or ""]
            graph.graph.inputs.append(value)
    return taken


def _give_back(graph: Graph, inputs: int, weights: list[ir.TensorProtocol]) -> None:
    values = list(graph.graph.inputs)[inputs:]
    del graph.graph.inputs[inputs:]
    for value, tensor in zip(values, weights, strict=True):
        value.const_value = tensor
        graph.graph.register_initializer(value)
