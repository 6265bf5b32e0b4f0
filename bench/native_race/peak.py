"""What the multipliers of this machine can do: float32 fused multiply-adds in registers, nothing else, one thread."""

from __future__ import annotations

import ctypes
import subprocess
import tempfile
import time
from pathlib import Path

from edgewright.compiler.lower.native.machine import machine_of
from edgewright.compiler.lower.native.toolchain_choice import find_toolchain
from edgewright.compiler.lower.native.toolchain_options import isa_options
from edgewright.targets.host import detect_host

LANES = 8
CHAINS = 12
TURNS = 200_000
ROUNDS = 40
SOURCE = f"""
typedef float v __attribute__((vector_size(4 * {LANES})));
float turn(long turns, float b, float c) {{
    v {", ".join(f"s{i} = {{{i}}}" for i in range(CHAINS))};
    v x = {{{", ".join(["b"] * LANES)}}}, y = {{{", ".join(["c"] * LANES)}}};
    for (long i = 0; i < turns; i++) {{ {" ".join(f"s{i} = s{i} * x + y;" for i in range(CHAINS))} }}
    v sum = {" + ".join(f"s{i}" for i in range(CHAINS))};
    return sum[0];
}}
"""


def peak_gmacs() -> float:
    """Billions of float32 multiply-accumulates per second: the best of many rounds, 256-bit vectors."""
    machine = machine_of(detect_host())
    toolchain = find_toolchain(machine)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "peak.c").write_text(SOURCE, encoding="utf-8")
        options = ["-O2", "-ffp-contract=fast", "-shared", "-fPIC", *isa_options(machine, toolchain.name)]
        subprocess.run([*toolchain.command, *options, "-o", "peak.so", "peak.c"], cwd=folder, check=True)
        turn = ctypes.CDLL(str(folder / "peak.so")).turn
        turn.argtypes, turn.restype = (ctypes.c_long, ctypes.c_float, ctypes.c_float), ctypes.c_float
        best_s = min(_seconds(turn) for _ in range(ROUNDS))
    return CHAINS * LANES * TURNS / best_s / 1e9


def _seconds(turn: ctypes._FuncPointer) -> float:
    start = time.perf_counter()
    turn(TURNS, 0.5, 1.0)
    return time.perf_counter() - start
