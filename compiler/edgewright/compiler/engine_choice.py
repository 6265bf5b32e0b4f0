"""Which engines of a board are tried: those that the user names; else ONNX Runtime, code of ours, and an accelerator.

The others were slower than these on every net of bench/native.py, and each costs a round of scoring and timing.
"""

from __future__ import annotations

from typing import Final

from edgewright.targets.board import VELA, Board

from .lower.litert import NAME as LITERT
from .lower.onnxruntime import NAME as ONNX_RUNTIME
from .lower.openvino import NAME as OPENVINO
from .lower.tvm.model import NAME as TVM

NATIVE: Final = "native"
DEFAULT_ENGINES: Final = (ONNX_RUNTIME, NATIVE, VELA)
KNOWN_ENGINES: Final = (ONNX_RUNTIME, NATIVE, LITERT, OPENVINO, TVM, VELA)
"""What this version builds for."""


def tried_engines(board: Board, wanted: tuple[str, ...] | None) -> tuple[str, ...]:
    """Names of the board's engines that forms are made for; `wanted` are those that the user names, None for the usual.

    A board that has none of the usual ones is compiled for by all that it has.
    """
    listed = tuple(support.name for support in board.engines if support.name in KNOWN_ENGINES)
    if wanted is not None:
        return tuple(name for name in listed if name in wanted)
    usual = tuple(name for name in listed if name in DEFAULT_ENGINES)
    return usual or listed
