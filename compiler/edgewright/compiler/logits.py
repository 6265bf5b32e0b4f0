"""The tensor that a classifier decides on: what stands before its last Softmax or Sigmoid.

Probabilities hide damage: near 0 and 1 they hardly move however far the logits do. So SNR is taken on logits.
"""

from __future__ import annotations

from typing import Final

import onnx_ir as ir

from .graph import Graph, clone

SQUASHING: Final = frozenset({"Softmax", "LogSoftmax", "Sigmoid"})
PASSING: Final = frozenset(
    {"Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity", "Cast", "DequantizeLinear", "QuantizeLinear"}
)


def with_logits(graph: Graph) -> tuple[Graph, str | None]:
    """A copy that also gives the logits of its first output, and their name; None where the output is not squashed."""
    probed = clone(graph)
    value = _logits(probed)
    if value is None:
        return probed, None
    if not value.is_graph_output():
        probed.graph.outputs.append(value)
    return probed, value.name


def _logits(graph: Graph) -> ir.Value | None:
    value: ir.Value | None = graph.graph.outputs[0]
    while value is not None:
        maker = value.producer()
        if maker is None:
            return None
        if maker.op_type in SQUASHING:
            source = maker.inputs[0]
            return source if source is not None and source.producer() is not None else None
        value = maker.inputs[0] if maker.op_type in PASSING and maker.inputs else None
    return None
