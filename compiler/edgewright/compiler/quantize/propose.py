"""Proposes a static plan: which operators become integer, which tensors are rounded for that, and to which numbers."""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir as ir

from ..faults import NotQuantizable
from ..graph import Graph, graph_digest
from .calibration.statistics import Statistics
from .plan import Compute, Operator, Plan
from .rules.lookup import rules_of
from .saturation.pair_limits import MATRIX_RANK
from .scheme import Calibrator, Scheme
from .weights import channel_axis, symmetric_encoding, weight_array


def propose(
    graph: Graph,
    statistics: Statistics,
    scheme: Scheme,
    calibrator: Calibrator = "min-max",
    keep_float: Mapping[str, str] | None = None,
) -> Plan:
    """The plan that a scheme asks for, by the rules of who will execute it.

    Args:
        graph: the optimised float graph.
        statistics: of its activations.
        scheme: a static one.
        calibrator: how ranges are taken from the statistics.
        keep_float: names of nodes that stay float, and why.

    Raises:
        NotQuantizable: there is nothing that int8 could compute.
    """
    rules = rules_of(scheme)
    choice = rules.choose(graph, statistics, frozenset(keep_float or {}))
    if not any(rules.is_product(node) for node in choice.nodes):
        raise NotQuantizable(
            "the model has no convolution, Gemm or MatMul with finite float32 activations that int8 could compute"
        )
    compute: Compute = "int16" if scheme.activations in {"uint16", "int16"} else "int8"
    operators = {
        node.name or "": Operator(
            compute=compute,
            weight=None
            if (array := weight_array(node)) is None or not rules.is_product(node)
            else symmetric_encoding(array, scheme.weights, _axis(node, array.ndim, scheme)),
        )
        for node in choice.nodes
    }
    reasons = {**choice.left, **(keep_float or {})}
    kept = {name: Operator(compute="float", reason=reason) for name, reason in reasons.items()}
    return Plan(
        model_digest=graph_digest(graph),
        scheme=scheme,
        operators=operators | kept,
        tensors=rules.encodings(choice.nodes, statistics, scheme, calibrator),
    )


def _axis(node: ir.Node, rank: int, scheme: Scheme) -> int | None:
    """Of the channels that have a scale each; stacks of matrices have one scale, because no kernel takes more."""
    stacked = node.op_type == "MatMul" and rank > MATRIX_RANK
    return channel_axis(node) if scheme.per_channel and not stacked else None
