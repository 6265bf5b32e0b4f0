"""What code generation knows of a target: vector width, registers, fused multiply-add, int8 dot products.

A machine is data. Kernel families are written once and read these numbers; what is left to instruction sets are the
macros of `c/vector.h` and `c/dot.h`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from edgewright.targets.board import Arch, Board

Dot = Literal["vnni512", "vnni256", "sdot", "smmla", "pairs"]
"""How int8 products are summed. `vnni512`, `vnni256`: u8 x s8, four to a lane (AVX512-VNNI, AVX-VNNI). `sdot`: s8 x
s8, four to a lane (ARMv8.2). `smmla`: s8 x s8, 2 x 8 by 8 x 2 (ARMv8.6). `pairs`: widened to 16 bits, two to a lane;
exact."""


@dataclass(frozen=True, kw_only=True)
class Machine:
    """One instruction set as kernels see it."""

    name: str
    """Part of cache keys and of the file: `avx512-vnni`, `avx2`, `neon-dot`, `armv7-neon`, …"""
    arch: Arch
    vector_bytes: int
    """Of the widest register that is worth using; narrower powers of two down to 16 exist too."""
    registers: int
    """Vector registers of that width."""
    fma: bool
    dot: Dot
    isa: tuple[str, ...]
    """Features that the code needs, as /proc/cpuinfo spells them, sorted; the device is asked for exactly these."""
    l1_bytes: int = 32 << 10
    l2_bytes: int = 256 << 10

    @property
    def lanes(self) -> int:
        """float32 lanes of the widest register."""
        return self.vector_bytes // 4

    def widths(self) -> tuple[int, ...]:
        """float32 lanes of every register width, widest first."""
        return tuple(lanes for lanes in (16, 8, 4) if lanes <= self.lanes)


def machine_of(board: Board) -> Machine:
    """The machine that code for a board is written for: the best that its facts allow."""
    return machine_for(board.arch, frozenset(board.cpu.isa))


def machine_for(arch: Arch, isa: frozenset[str]) -> Machine:
    """The best machine that these features allow.

    Raises:
        ValueError: a microcontroller, for which no code is written.
    """
    if arch == "x86_64":
        return _x86(isa)
    if arch == "aarch64":
        return _aarch64(isa)
    if arch == "armv7l":
        return _armv7(isa)
    raise ValueError(f"no code is written for {arch}")


_AVX2 = frozenset({"avx", "avx2", "fma", "f16c"})
_AVX512 = _AVX2 | {"avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512cd"}


def _x86(isa: frozenset[str]) -> Machine:
    if isa >= _AVX512:
        vnni = "avx512_vnni" in isa
        return Machine(
            name="avx512-vnni" if vnni else "avx512",
            arch="x86_64",
            vector_bytes=64,
            registers=32,
            fma=True,
            dot="vnni512" if vnni else "pairs",
            isa=tuple(sorted(_AVX512 | ({"avx512_vnni"} if vnni else set()))),
            l2_bytes=1 << 20,
        )
    if isa >= _AVX2:
        vnni = "avx_vnni" in isa
        return Machine(
            name="avx2-vnni" if vnni else "avx2",
            arch="x86_64",
            vector_bytes=32,
            registers=16,
            fma=True,
            dot="vnni256" if vnni else "pairs",
            isa=tuple(sorted(_AVX2 | ({"avx_vnni"} if vnni else set()))),
        )
    return Machine(name="sse2", arch="x86_64", vector_bytes=16, registers=16, fma=False, dot="pairs", isa=())


def _aarch64(isa: frozenset[str]) -> Machine:
    base = {"fp", "asimd"}
    if {"asimddp", "i8mm"} <= isa:
        return Machine(
            name="neon-i8mm", arch="aarch64", vector_bytes=16, registers=32, fma=True, dot="smmla",
            isa=tuple(sorted(base | {"asimddp", "i8mm"})),
        )  # fmt: skip
    dot = "asimddp" in isa
    return Machine(
        name="neon-dot" if dot else "neon",
        arch="aarch64",
        vector_bytes=16,
        registers=32,
        fma=True,
        dot="sdot" if dot else "pairs",
        isa=tuple(sorted(base | ({"asimddp"} if dot else set()))),
    )


def _armv7(isa: frozenset[str]) -> Machine:
    fma = "vfpv4" in isa
    return Machine(
        name="armv7-neon-fma" if fma else "armv7-neon",
        arch="armv7l",
        vector_bytes=16,
        registers=16,
        fma=fma,
        dot="pairs",
        isa=("neon", "vfpv4") if fma else ("neon",),
    )
