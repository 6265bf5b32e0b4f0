"""Which methods beside static int8 are worth trying for a graph on a board. Pure; no calibration is needed for any."""

from __future__ import annotations

from typing import Final

from edgewright.targets.board import Board

from ...graph import Graph, is_quantized
from ...lower.onnxruntime import NAME as ONNX_RUNTIME
from ...lower.workload import workload
from ..half.conversion import HalfPrecision
from ..scheme import Scheme
from .products import product_of
from .tables import is_stored_table

LEAST_SHARE: Final = 0.5
"""Of the work (for dynamic) or of the weights (for weight-only) that has to be in products and tables."""
HALF_PRECISIONS: Final[tuple[HalfPrecision, ...]] = ("float16", "bfloat16")

Method = Scheme | HalfPrecision


def methods_for(board: Board, graph: Graph) -> tuple[Method, ...]:
    """Schemes of dynamic and weight-only plans, and half precisions, the likely best first.

    Dynamic int8 is offered where at least half of the multiplications are those of MatMul and Gemm with constant
    matrices, weight-only where at least half of the weights are in them and in tables; most convolutional nets get
    neither.
    Half precision is offered where the board's ONNX Runtime has it.
    """
    if is_quantized(graph):
        return ()
    found: list[Method] = []
    int8 = board.supports(ONNX_RUNTIME, "int8")
    if int8 and products_share(graph) >= LEAST_SHARE:
        saturates = board.cpu.int8.u8s8 == "saturating16"
        found.append(Scheme(method="dynamic", guard="pairs" if saturates else "none"))
    if int8 and stored_share(graph) >= LEAST_SHARE:
        found.append(Scheme(method="weights", weights="int8"))
        found.append(Scheme(method="weights", weights="int4"))
    found.extend(precision for precision in HALF_PRECISIONS if board.supports(ONNX_RUNTIME, precision))
    return tuple(found)


def products_share(graph: Graph) -> float:
    """Multiplications of the operators that dynamic int8 computes, of all; every free dimension counts as one."""
    if not any(not isinstance(product_of(node), str) for node in graph.graph):
        return 0.0
    costs = [cost for part in workload(graph).values() for cost in part.operators]
    total = sum(cost.macs for cost in costs)
    return sum(cost.macs for cost in costs if cost.kind == "matmul") / total if total else 0.0


def stored_share(graph: Graph) -> float:
    """Weights that weight-only plans store as integers, of all floating-point weights."""
    sizes = {
        name: value.const_value.size
        for name, value in graph.graph.initializers.items()
        if value.const_value is not None and value.const_value.dtype.is_floating_point()
    }
    stored = set()
    for node in graph.graph:
        if not isinstance(product_of(node), str):
            stored.add(node.inputs[1].name if node.inputs[1] is not None else None)
        elif is_stored_table(node):
            stored.add(node.inputs[0].name if node.inputs[0] is not None else None)
    total = sum(sizes.values())
    return sum(size for name, size in sizes.items() if name in stored) / total if total else 0.0
