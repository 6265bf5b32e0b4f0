"""Which schemes are worth trying on a board, and how their sums come out there. Pure."""

from __future__ import annotations

from edgewright.targets.board import Board

from ..graph import Graph
from ..lower.onnxruntime import Arithmetic
from .scheme import Guard, Scheme
from .weights import weight_array

MATRIX_PRODUCTS = frozenset({"MatMul", "Gemm"})


def schemes_for(board: Board, graph: Graph) -> tuple[Scheme, ...]:
    """Schemes for a model on a board, the board's natural one first.

    ONNX Runtime rewrites S8S8 to U8S8 on x86, so signed activations would be the same kernels with a detour there.
    """
    int8 = board.cpu.int8
    unsigned = Scheme(activations="uint8", guard=_guard(int8.u8s8))
    signed = Scheme(activations="int8", guard=_guard(int8.s8s8))
    static = (unsigned,) if board.arch == "x86_64" else (signed, unsigned)
    if not is_matmul_heavy(graph):
        return static
    return (*static, Scheme(method="dynamic", guard=unsigned.guard), Scheme(method="weights"))


def arithmetic_of(board: Board, scheme: Scheme | None) -> Arithmetic:
    """How the sums of a scheme come out on a board, whatever machine computes them."""
    if scheme is None or scheme.method == "weights":
        return Arithmetic.EXACT
    int8 = board.cpu.int8
    signed = scheme.method == "static" and scheme.activations == "int8"
    kind = int8.s8s8 if signed else int8.u8u8 if scheme.weights == "uint8" else int8.u8s8
    return Arithmetic.SATURATING if kind == "saturating16" else Arithmetic.EXACT


def is_matmul_heavy(graph: Graph) -> bool:
    """Whether matrix products hold most weights and there is no convolution: where the other methods make sense."""
    if any(node.op_type in {"Conv", "ConvTranspose"} for node in graph.graph):
        return False
    arrays = ((node.op_type in MATRIX_PRODUCTS, weight_array(node)) for node in graph.graph)
    in_products = sum(array.size for product, array in arrays if product and array is not None)
    total = sum(value.const_value.size for value in graph.graph.initializers.values() if value.const_value is not None)
    return 2 * in_products > total


def _guard(accumulation: str) -> Guard:
    return "pairs" if accumulation == "saturating16" else "none"
