"""From a plan to a model, whatever methods its operators use: the pass whose evidence goes into the lineage."""

from __future__ import annotations

from edgewright.targets.board import Board

from ..faults import NotQuantizable
from ..graph import Graph, is_quantized, operator_counts
from ..passes import Evidence, Pass
from .corrections.record import KEY, recorded
from .emit import INTEGER, emit
from .plan import Plan
from .scheme import Scheme
from .uncalibrated.dynamic import emit_dynamic
from .uncalibrated.weight_only import emit_weights


class Quantize(Pass[Scheme]):
    """Float graph to quantized graph; the caller's options are the scheme of the plan."""

    name = "quantize"

    def __init__(self, plan: Plan) -> None:
        self._plan = plan

    def requires(self, graph: Graph, options: Scheme) -> None:
        del options
        if is_quantized(graph):
            raise NotQuantizable("the model is quantized already; compile the float model it was made from")

    def apply(self, graph: Graph, options: Scheme, target: Board | None) -> tuple[Graph, Evidence]:
        del options, target
        result = emit_plan(graph, self._plan)
        counts = operator_counts(result)
        computes = [operator.compute for operator in self._plan.operators.values()]
        calibrators = {encoding.calibrator for encoding in self._plan.tensors.values()} - {"shared"}
        return result, {
            "calibrators": ", ".join(sorted(calibrators)),
            "integer_operators": sum(compute in INTEGER for compute in computes),
            "dynamic_operators": computes.count("dynamic"),
            "stored_weights": computes.count("weights"),
            "quantize_nodes": counts.get("QuantizeLinear", 0),
            "dequantize_nodes": counts.get("DequantizeLinear", 0),
        }


def emit_plan(graph: Graph, plan: Plan) -> Graph:
    """Static operators first, because they alone depend on each other; the given graph stays as it is."""
    computes = {operator.compute for operator in plan.operators.values()}
    result = emit(graph, plan)
    if plan.equalizations:
        result.metadata_props[KEY] = recorded(graph, plan.equalizations)
    if "dynamic" in computes:
        result = emit_dynamic(result, plan)
    return emit_weights(result, plan) if "weights" in computes else result
