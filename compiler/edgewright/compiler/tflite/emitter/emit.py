"""A graph, float or QDQ, as a TFLite model.

The nodes are walked in their order. Where a value lies is decided by what makes it (pictures lie channels last), and
whoever reads it in another order has it brought there; an ONNX Transpose only changes what is known of the order. So
transposes move to where an order really matters, and most vanish.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

import onnx_ir as ir

from ...faults import UnsupportedModel
from ...folding import folded, is_known
from ...graph import Graph
from ...graph import place as place_of
from ..file.model import Model, Port, Tensor
from ..file.versions import versioned
from .operators import OPERATORS, Operator
from .ports import Border, Ports, has_free_batch
from .prepare import prepared
from .pruning import pruned
from .quantizers import dequantize, encoding_at, keep_integers, quantize, share_results
from .sites import Sites
from .walk import Walk

DESCRIPTION: Final = "edgewright"
SIGNATURE: Final = "serving_default"
OPSET: Final = 17
"""Of graphs that name none."""


@dataclass(frozen=True)
class Emitted:
    """A model, and what callers have to know of its ports."""

    model: Model
    channels_last: tuple[str, ...]
    """Inputs and outputs that lie (N, H, W, C) though the graph says (N, C, H, W)."""


def emit(graph: Graph, ports: Ports | None = None) -> Emitted:
    """The graph as a TFLite model; a free batch is written as 1 and may be resized by callers.

    Raises:
        UnsupportedModel: an operator, a type or a shape that TFLite has no form for; the message names it and its
            place, and says what helps.
    """
    graph = prepared(graph)
    walk = Walk(opset=graph.opset_imports.get("", OPSET), free_batch=has_free_batch(graph.graph))
    sites = Sites(partial(encoding_at, walk), walk.constant, set())
    border = Border(walk, sites.taken, ports or Ports())
    inputs = [border.input(value) for value in graph.graph.inputs]
    for node in graph.graph:
        if node not in sites.taken:
            _emit_node(walk, sites, node)
    outputs = [border.output(value) for value in graph.graph.outputs]
    return Emitted(versioned(pruned(_model(walk, inputs, outputs))), tuple(border.channels_last))


def _model(walk: Walk, inputs: Sequence[Port], outputs: Sequence[Port]) -> Model:
    tensors = list(walk.draft.tensors)
    for port in (*inputs, *outputs):
        tensors[port.tensor] = _port_tensor(walk, tensors[port.tensor])
    return Model(
        tensors=tuple(tensors),
        operators=tuple(walk.draft.operators),
        inputs=tuple(inputs),
        outputs=tuple(outputs),
        description=DESCRIPTION,
        signature=SIGNATURE,
    )


def _port_tensor(walk: Walk, tensor: Tensor) -> Tensor:
    return replace(tensor, free=(-1, *tensor.shape[1:]) if walk.free_batch and tensor.shape[:1] == (1,) else ())


def _emit_node(walk: Walk, sites: Sites, node: ir.Node) -> None:
    if is_known(node, walk.constant):
        _fold(walk, node)
    elif node.op_type == "QuantizeLinear":
        quantize(walk, node)
    elif node.op_type == "DequantizeLinear":
        dequantize(walk, node)
    else:
        _emit_operator(walk, sites, node)


def _fold(walk: Walk, node: ir.Node) -> None:
    found = folded(node, walk.constant, walk.shape, walk.opset)
    for value in node.outputs:
        if value.name in found:
            walk.give_constant(value, found[value.name])
    if node.op_type == "DequantizeLinear":
        keep_integers(walk, node)


def _emit_operator(walk: Walk, sites: Sites, node: ir.Node) -> None:
    operator = _operator(node)
    site = sites.at(node, operator.form)
    operator.lower(walk, site)
    if site.integer:
        share_results(walk, site.results, node)
    _check_further_results(walk, sites, node)


def _check_further_results(walk: Walk, sites: Sites, node: ir.Node) -> None:
    """Operators of TFLite that have fewer results than ONNX's are written where nobody reads the others."""
    for value in node.outputs[1:]:
        read = value.is_graph_output() or any(use.node not in sites.taken for use in value.uses())
        if read and not walk.is_made(value):
            walk.refuse(node, f"TFLite does not give its result {value.name!r}", "leave that result unread")


def _operator(node: ir.Node) -> Operator:
    domain = "" if node.domain == "ai.onnx" else node.domain
    operator = OPERATORS.get(node.op_type) if not domain else None
    if operator is None:
        name = f"{domain}:{node.op_type}" if domain else node.op_type
        raise UnsupportedModel(
            f"{name} at {place_of(node)}: TFLite has no such operator, or it is not written yet "
            "(docs/formats/tflite.md lists them); compile for another engine of the target, or replace the "
            "operator in the model"
        )
    return operator
