"""Options of the compilers. None of them lets a compiler change what a sum rounds to."""

from __future__ import annotations

from .machine import Machine
from .toolchain_choice import CompilerName

PORTABLE = (
    "-std=gnu11", "-O2",
    # The same bits everywhere: products and sums are fused where the code says so and nowhere else.
    "-ffp-contract=off",
    # What no kernel looks at: errno and the floating-point flags.
    "-fno-math-errno", "-fno-trapping-math",
)  # fmt: skip
"""-O3 is no faster on these kernels, which are unrolled already."""
COMPILE = (
    *PORTABLE, "-fPIC", "-w", "-fvisibility=hidden", "-fstack-protector-strong", "-fno-sanitize=all",
    # No exception passes through C.
    "-fno-unwind-tables", "-fno-asynchronous-unwind-tables",
)  # fmt: skip
LINK = (
    # Nothing of a C library and no start files: the library needs no version of anything, and loading it runs no code.
    "-shared", "-nostdlib",
    "-Wl,-z,noexecstack", "-Wl,-z,relro", "-Wl,-z,now", "-Wl,--build-id=none", "-s",
)  # fmt: skip
_X86_FLAGS = {"avx512_vnni": "avx512vnni", "avx_vnni": "avxvnni"}
_ARM_FLAGS = {"asimddp": "dotprod", "i8mm": "i8mm"}


def isa_options(machine: Machine, compiler: CompilerName) -> tuple[str, ...]:
    """Options that allow exactly the machine's features."""
    if machine.arch == "x86_64":
        return _x86(machine)
    if machine.arch == "aarch64":
        features = "".join(f"+{flag}" for feature, flag in _ARM_FLAGS.items() if feature in machine.isa)
        return (f"-mcpu=generic{features}" if compiler == "zig" else f"-march=armv8-a{features}",)
    if compiler == "zig":
        return ("-mcpu=generic+v7a+neon" + ("+vfp4" if machine.fma else ""),)
    return "-march=armv7-a", f"-mfpu={'neon-vfpv4' if machine.fma else 'neon'}", "-mfloat-abi=hard"


def _x86(machine: Machine) -> tuple[str, ...]:
    flags = tuple(f"-m{_X86_FLAGS.get(feature, feature)}" for feature in machine.isa)
    # Compilers hold 512-bit registers to be slow and split them, which halves the speed.
    return (*flags, "-mprefer-vector-width=512") if machine.vector_bytes == 64 else flags
