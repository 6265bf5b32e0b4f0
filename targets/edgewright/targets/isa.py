"""Instruction-set features that matter to inference; `accumulation.py` says what they mean for int8 sums."""

from __future__ import annotations

from collections.abc import Mapping

from .board import Arch

# fmt: off
_X86 = frozenset({
    "sse4_1", "sse4_2", "avx", "avx2", "fma", "f16c", "avx_vnni", "avx_vnni_int8", "avx512f", "avx512bw", "avx512dq",
    "avx512vl", "avx512cd", "avx512_vnni", "avx512_bf16", "avx512_fp16", "avx512vbmi", "amx_tile", "amx_int8",
    "amx_bf16",
})
_ARM = frozenset({
    "neon", "vfpv4", "fp", "asimd", "asimdhp", "fphp", "asimddp", "asimdfhm", "i8mm", "bf16", "sve", "sve2", "svei8mm",
    "svebf16", "sme", "sme2",
})
# fmt: on

FEATURES: Mapping[Arch, frozenset[str]] = {
    "x86_64": _X86,
    "aarch64": _ARM,
    "armv7l": _ARM,
    "cortex-m": frozenset({"mve", "dsp", "fp"}),
}
"""Spelled as in /proc/cpuinfo. Other features change with the kernel, and would change the digest of `host`."""
