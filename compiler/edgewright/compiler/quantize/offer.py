"""Which schemes are worth trying on a board, and how their sums come out there. Pure."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from edgewright.targets.board import VELA, Board

from ..graph import Graph
from ..lower.onnxruntime import Arithmetic
from .rules.tflite_facts import AVERAGING
from .scheme import Guard, Scheme
from .uncalibrated.methods import LEAST_SHARE, methods_for, products_share

LEAST_STORED_BYTES = 8 << 20
"""Smaller models gain nothing that anyone would notice from weights that are only stored as integers."""

TFLITE_ENGINES = frozenset({"litert", VELA})
"""Engines that read TFLite files, by their names in board files."""


def schemes_for(board: Board, graph: Graph, *, exact_too: bool = False) -> tuple[Scheme, ...]:
    """Schemes for a model on a board, the board's natural one first.

    `exact_too`: static schemes that are guarded come without their guard too, last, for code that adds in 32 bits.

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
    bare = (_unguarded(scheme) for scheme in static if exact_too and scheme.guard != "none")
    return (*static, *(scheme for scheme in others if large or scheme.method != "weights"), *bare)


def tflite_schemes_for(board: Board, graph: Graph) -> tuple[Scheme, ...]:
    """Schemes by TFLite's rules for a board that runs TFLite files: int8, and more of them for an NPU.

    Pools that keep encodings are faster than pools that rescale: KWS takes 6 % less on an NPU and a fifth less in
    LiteRT, and loses 1.5 dB. An NPU computes in int16 too, where CPUs have no kernels that are faster than float. It
    reads weights compressed, and those with one scale per tensor are smaller: where products read each weight once,
    that is the time, a fifth of it on MLPerf Tiny's autoencoder.
    """
    int8 = Scheme(activations="int8", rules="tflite")
    found = [int8]
    if any(node.op_type in AVERAGING for node in graph.graph):
        found.append(msgspec.structs.replace(int8, shared_pools=True))
    if any(support.name == VELA for support in board.engines):
        found.append(msgspec.structs.replace(int8, activations="int16"))
        if products_share(graph) >= LEAST_SHARE:
            found.append(msgspec.structs.replace(int8, per_channel=False))
    return tuple(found)


def only_tflite(board: Board) -> bool:
    """Whether nothing on the board reads other files than TFLite's."""
    return {support.name for support in board.engines} <= TFLITE_ENGINES


def suits(scheme: Scheme | None, offered: Iterable[Scheme | None], *, exact: bool) -> bool:
    """Whether an engine should have a plan of a scheme, of all that are offered.

    Of a scheme with and without a guard, an engine whose sums are exact has no use for narrowed weights, and one that
    saturates none for the others; a scheme that comes in one form only suits all.
    """
    if scheme is None or not any(_is_twin(scheme, other) for other in offered):
        return True
    return (scheme.guard == "none") == exact


def _is_twin(scheme: Scheme, other: Scheme | None) -> bool:
    return other is not None and other != scheme and _unguarded(other) == _unguarded(scheme)


def _unguarded(scheme: Scheme) -> Scheme:
    return msgspec.structs.replace(scheme, guard="none")


def arithmetic_of(board: Board, scheme: Scheme | None) -> Arithmetic:
    """How the sums of a scheme come out on a board, whatever machine computes them."""
    if scheme is None or scheme.method == "weights" or scheme.rules == "tflite":
        return Arithmetic.EXACT
    int8 = board.cpu.int8
    signed = scheme.method == "static" and scheme.activations == "int8"
    kind = int8.s8s8 if signed else int8.u8u8 if scheme.weights == "uint8" else int8.u8s8
    return Arithmetic.SATURATING if kind == "saturating16" else Arithmetic.EXACT


def _weight_bytes(graph: Graph) -> int:
    return sum(value.const_value.nbytes for value in graph.graph.initializers.values() if value.const_value is not None)


def _guard(accumulation: str) -> Guard:
    return "pairs" if accumulation == "saturating16" else "none"
