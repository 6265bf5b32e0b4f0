"""Which C compiler makes code for a machine: the system's, where it is good enough, else the one of the `native` extra.

GCC comes first: on the kernels here it is as fast as clang, and faster where a register block fills all registers
(docs/adr/0010-native-toolchain.md has the figures).
"""

from __future__ import annotations

import functools
import importlib.util
import platform
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edgewright.targets.board import Arch

from ...faults import ToolchainMissing
from .machine import Machine

CompilerName = Literal["gcc", "clang", "zig"]
LEAST_MAJOR: dict[CompilerName, int] = {"gcc": 11, "clang": 15}
"""The first that knows all of our instructions and `__builtin_convertvector` on all of them."""
ZIG_TARGETS: dict[Arch, str] = {
    "x86_64": "x86_64-linux-gnu.2.28",
    "aarch64": "aarch64-linux-gnu.2.28",
    "armv7l": "arm-linux-gnueabihf.2.28",
}
"""The C library's version plays no part: models are linked without one."""
CROSS_COMPILERS: dict[Arch, str] = {"x86_64": "x86_64-linux-gnu-gcc", "aarch64": "aarch64-linux-gnu-gcc"}
"""GCC for 32-bit ARM is left out: it computes vectors of floats one by one there, unless told that denormals are 0."""
_HEADERS: dict[Arch, str] = {"x86_64": "immintrin.h", "aarch64": "arm_neon.h", "armv7l": "arm_neon.h"}
_PROBE_LIMIT_S = 30.0


@dataclass(frozen=True)
class Toolchain:
    """A compiler for one architecture."""

    name: CompilerName
    version: str
    """Its own line; recorded in the library and in the manifest's lineage."""
    command: tuple[str, ...]
    """Before the options."""


def find_toolchain(machine: Machine) -> Toolchain:
    """The best compiler for a machine.

    Raises:
        ToolchainMissing: there is none.
    """
    found = toolchains(machine.arch)
    if not found:
        raise ToolchainMissing(
            f"no C compiler for {machine.arch}: looked for {', '.join(_system_commands(machine.arch))} "
            "(gcc 11 or clang 15 or later, with the headers of the C library) and for zig. "
            "To install one: pip install 'edgewright[native]'"
        )
    return found[0]


@functools.cache
def toolchains(arch: Arch) -> tuple[Toolchain, ...]:
    """Every compiler here for an architecture, the best first."""
    candidates = [_system(command, arch) for command in _system_commands(arch)]
    return tuple(toolchain for toolchain in (*candidates, zig(arch)) if toolchain)


def zig(arch: Arch) -> Toolchain | None:
    """The compiler that the running interpreter has as a package: clang, for every architecture."""
    spec = importlib.util.find_spec("ziglang")
    target = ZIG_TARGETS.get(arch)
    if spec is None or spec.origin is None or target is None:
        return None
    program = str(Path(spec.origin).with_name("zig"))
    version, clang = _said([program, "version"]), _said([program, "cc", "--version"])
    if version is None or clang is None:
        return None
    return Toolchain("zig", f"zig {version.strip()} ({clang.splitlines()[0]})", (program, "cc", "-target", target))


def _system_commands(arch: Arch) -> tuple[str, ...]:
    if arch == platform.machine():
        return "gcc", "clang"
    return (CROSS_COMPILERS[arch],) if arch in CROSS_COMPILERS else ()


def _system(command: str, arch: Arch) -> Toolchain | None:
    said = _said([command, "--version"])
    number = _said([command, "-dumpversion"])
    if not said or not number:
        return None
    line = said.splitlines()[0]
    name: CompilerName = "clang" if "clang" in said else "gcc"
    major = re.match(r"\d+", number)
    if major is None or int(major[0]) < LEAST_MAJOR[name]:
        return None
    # Without the C library's headers those of the intrinsics cannot be read.
    if (
        _said([command, "-E", "-x", "c", "-o", "/dev/null", "-"], f"#include <stdint.h>\n#include <{_HEADERS[arch]}>\n")
        is None
    ):
        return None
    return Toolchain(name, line, (command,))


def _said(command: list[str], text: str = "") -> str | None:
    """What a command prints; None where it is missing or fails."""
    try:
        done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=_PROBE_LIMIT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
