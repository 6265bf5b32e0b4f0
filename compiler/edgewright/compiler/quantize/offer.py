"""Which int8 arithmetic to use on a board. Pure: the seam for our own quantizer is `plan -> emit`.

A scheme is only offered where the board's int8 dot products give the exact sum. Where 16-bit sums saturate, weights
are narrowed to 7 bits: u8 * s7 + u8 * s7 is at most 2 * 255 * 64 = 32 640, which fits.
"""

from __future__ import annotations

from typing import Literal

from edgewright.targets.board import Board

from ..passes import Options


class Scheme(Options, frozen=True, kw_only=True):
    """Types of activations and weights, and whether weights keep to 7 bits."""

    activations: Literal["int8", "uint8"]
    weights: Literal["int8"] = "int8"
    per_channel: bool = True
    reduce_range: bool = False

    @property
    def name(self) -> str:
        """Short and stable: it stands in reports and in measurements."""
        return f"int8-{'u8' if self.activations == 'uint8' else 's8'}{'s7' if self.reduce_range else 's8'}"


def schemes_for(board: Board) -> tuple[Scheme, ...]:
    """The schemes worth trying, the board's natural one first."""
    int8 = board.cpu.int8
    unsigned = Scheme(activations="uint8", reduce_range=int8.u8s8 == "saturating16")
    if board.arch == "x86_64":
        # ONNX Runtime rewrites S8S8 to U8S8 on x86, so signed activations would be the same kernels with a detour.
        return (unsigned,)
    signed = Scheme(activations="int8", reduce_range=int8.s8s8 == "saturating16")
    return (signed, unsigned)
