"""Which schemes are worth trying on a board, and how their sums come out there. Pure."""

from __future__ import annotations

import msgspec

from edgewright.targets.board import Board

from ..graph import Graph
from ..lower.onnxruntime import Arithmetic
from .scheme import Guard, Scheme
from .uncalibrated.methods import LEAST_SHARE, methods_for, products_share

LEAST_STORED_BYTES = 8 << 20
"""Smaller models gain nothing that anyone would notice from weights that are only stored as integers."""


def schemes_for(board: Board, graph: Graph) -> tuple[Scheme, ...]:
    """Schemes for a model on a board, the board's natural one first.

    ONNX Runtime rewrites S8S8 to U8S8 on x86, so signed activations would be the same kernels with a detour there. Its
    Gemm takes 1.4 times as long with a scale per channel, and bias correction makes up for one scale per tensor on most
    nets of matrix products: both are offered there.
    """
    int8 = board.cpu.int8
    unsigned = Scheme(activations="uint8", guard=_guard(int8.u8s8))
    signed = Scheme(activations="int8", guard=_guard(int8.s8s8))
    static = (unsigned,) if board.arch == "x86_64" else (signed, unsigned)
    if products_share(graph) >= LEAST_SHARE:
        static = (*static, msgspec.structs.replace(static[0], per_channel=False))
    others = (method for method in methods_for(board, graph) if isinstance(method, Scheme))
    large = _weight_bytes(graph) >= LEAST_STORED_BYTES
    return (*static, *(scheme for scheme in others if large or scheme.method != "weights"))


def arithmetic_of(board: Board, scheme: Scheme | None) -> Arithmetic:
    """How the sums of a scheme come out on a board, whatever machine computes them."""
    if scheme is None or scheme.method == "weights":
        return Arithmetic.EXACT
    int8 = board.cpu.int8
    signed = scheme.method == "static" and scheme.activations == "int8"
    kind = int8.s8s8 if signed else int8.u8u8 if scheme.weights == "uint8" else int8.u8s8
    return Arithmetic.SATURATING if kind == "saturating16" else Arithmetic.EXACT


def _weight_bytes(graph: Graph) -> int:
    return sum(value.const_value.nbytes for value in graph.graph.initializers.values() if value.const_value is not None)


def _guard(accumulation: str) -> Guard:
    return "pairs" if accumulation == "saturating16" else "none"
