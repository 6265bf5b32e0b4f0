"""How a sum of int8 products accumulates: per instruction set, engine, kernel and operand types.

x86 without VNNI multiplies through `vpmaddubsw`, which adds two neighbouring u8*s8 products in 16 bits and saturates.
Which kernels do that was found by comparing ONNX Runtime bit by bit with exact sums, on weights and activations at the
ends of their ranges (tests/compiler/test_emulator.py repeats it under an emulated Haswell).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from .board import Accumulation, Arch, Board, Int8Accumulation, OperandTypes

Kernel = Literal["conv", "depthwise", "gemm", "integer"]
"""`conv`: convolutions that mix channels, grouped ones too. `depthwise`: one channel in, one out. `gemm`: matrix
products of quantized tensors. `integer`: MatMulInteger and QLinear operators that stand in the model as written, on
operands that no optimisation has rewritten."""

Lookup = Callable[[Kernel, OperandTypes], Accumulation]
"""What one target does; operands are (activation, weight)."""

VNNI = frozenset({"avx512_vnni", "avx_vnni"})


@dataclass(frozen=True)
class Row:
    """One fact of the table, and how it is known."""

    machine: Literal["arm", "vnni", "sse", "avx2"]
    kernel: Kernel
    operands: OperandTypes
    accumulation: Accumulation
    evidence: str


_HASWELL = "ONNX Runtime 1.31.1 under qemu-x86_64 -cpu Haswell, bit by bit"
_NEHALEM = "ONNX Runtime 1.31.1 under qemu-x86_64 -cpu Nehalem, bit by bit: its SSE kernels widen to 16 bits first"
_VNNI = "vpdpbusd adds four products to 32 bits; ONNX Runtime 1.31.1 on an AVX512-VNNI machine, bit by bit"
_ARM = "NEON kernels of ONNX Runtime widen to 32 bits; only -128 * -128 twice overflows, which symmetric weights lack"
_REWRITTEN = _HASWELL + ": the graph optimiser turns s8 activations between QDQ pairs into u8"
_WIDENED = _HASWELL + ": widened to 16 bits before they are multiplied"

KERNELS: tuple[Kernel, ...] = ("conv", "depthwise", "gemm", "integer")
OPERANDS: tuple[OperandTypes, ...] = ("u8s8", "s8s8", "u8u8")

_SATURATING = {
    ("conv", "u8s8"): _HASWELL,
    ("conv", "s8s8"): _REWRITTEN,
    ("gemm", "u8s8"): _HASWELL,
    ("gemm", "s8s8"): _REWRITTEN,
    ("integer", "u8s8"): _HASWELL,
}


def _rows() -> tuple[Row, ...]:
    rows = []
    for kernel in KERNELS:
        for operands in OPERANDS:
            rows.append(Row("arm", kernel, operands, "exact", _ARM))
            rows.append(Row("vnni", kernel, operands, "exact", _VNNI))
            rows.append(Row("sse", kernel, operands, "exact", _NEHALEM))
            evidence = _SATURATING.get((kernel, operands))
            if evidence is None:
                rows.append(Row("avx2", kernel, operands, "exact", _WIDENED))
            else:
                rows.append(Row("avx2", kernel, operands, "saturating16", evidence))
    return tuple(rows)


ONNX_RUNTIME = _rows()
"""The table of ONNX Runtime's CPU provider."""

_BY_KEY = {(row.machine, row.kernel, row.operands): row.accumulation for row in ONNX_RUNTIME}


def accumulation(arch: Arch, isa: tuple[str, ...], engine: str, kernel: Kernel, operands: OperandTypes) -> Accumulation:
    """How an engine's kernel adds int8 products on such a machine.

    Engines that are not in the table (accelerators, microcontrollers) add in 32 bits.
    """
    if engine != "onnxruntime":
        return "exact"
    return _BY_KEY[_machine(arch, isa), kernel, operands]


def _machine(arch: Arch, isa: tuple[str, ...]) -> Literal["arm", "vnni", "sse", "avx2"]:
    """A machine whose features are unknown is taken for one that saturates: the careful guess."""
    if arch != "x86_64":
        return "arm"
    if VNNI & set(isa):
        return "vnni"
    return "sse" if "sse4_1" in isa and "avx2" not in isa else "avx2"


def int8_accumulation(arch: Arch, isa: tuple[str, ...]) -> Int8Accumulation:
    """What a board file says of such a machine: the convolutions and matrix products of a QDQ model."""
    u8s8, s8s8, u8u8 = (accumulation(arch, isa, "onnxruntime", "gemm", operands) for operands in OPERANDS)
    return Int8Accumulation(u8s8=u8s8, s8s8=s8s8, u8u8=u8u8)


def of_board(board: Board) -> Lookup:
    """The table of one board; `cpu.int8` of its file speaks for the kernels that mix channels."""

    def lookup(kernel: Kernel, operands: OperandTypes) -> Accumulation:
        if kernel in ("conv", "gemm"):
            stated: Accumulation = getattr(board.cpu.int8, operands)
            return stated
        return accumulation(board.arch, board.cpu.isa, "onnxruntime", kernel, operands)

    return lookup


def exact(kernel: Kernel, operands: OperandTypes) -> Accumulation:
    """A machine that never saturates: the reference."""
    del kernel, operands
    return "exact"


def saturating(kernel: Kernel, operands: OperandTypes) -> Accumulation:
    """x86 with AVX2 and without VNNI."""
    return _BY_KEY["avx2", kernel, operands]


def neighbours(channels: int, positions: int) -> list[tuple[int, int]]:
    """Which products of one output share a 16-bit sum, as indices into a weight of shape (channels, positions).

    Kernels reduce over the positions of the window, and at each over its channels; pairs are taken along that order,
    across positions where the number of channels is odd. An odd last product stands alone, and cannot overflow:
    255 * -128 fits. A matrix product has one position.
    """
    order = [channel * positions + position for position in range(positions) for channel in range(channels)]
    return list(zip(order[0::2], order[1::2], strict=False))
