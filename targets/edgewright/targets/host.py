"""The board called `host`: this machine, read from /proc.

`describe_host` is pure (texts in, board out); `detect_host` reads the texts. Only facts that stay the same from run to
run are taken (no current clock, no free memory, no limit of the calling process), so that the digest of a machine is
stable: a bundle compiled for `host` must still fit after a reboot and under another memory limit.
"""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from .accumulation import int8_accumulation
from .board import Arch, Board, Cpu, EngineSupport, Memory, Precision
from .faults import EnvironmentFault
from .isa import FEATURES

ARCHES: Mapping[str, Arch] = {
    "x86_64": "x86_64",
    "amd64": "x86_64",
    "aarch64": "aarch64",
    "arm64": "aarch64",
    "armv7l": "armv7l",
    "armv8l": "armv7l",
}
ARM_PARTS = {
    "0xc07": "Cortex-A7",
    "0xd03": "Cortex-A53",
    "0xd04": "Cortex-A35",
    "0xd05": "Cortex-A55",
    "0xd07": "Cortex-A57",
    "0xd08": "Cortex-A72",
    "0xd09": "Cortex-A73",
    "0xd0a": "Cortex-A75",
    "0xd0b": "Cortex-A76",
    "0xd0c": "Neoverse-N1",
    "0xd41": "Cortex-A78",
    "0xd42": "Cortex-A78AE",
    "0xd46": "Cortex-A510",
    "0xd47": "Cortex-A710",
    "0xd48": "Cortex-X2",
    "0xd49": "Neoverse-N2",
    "0xd40": "Neoverse-V1",
    "0xd4f": "Neoverse-V2",
}
"""`CPU part` of implementer 0x41 (Arm), as in Linux arch/arm64/include/asm/cputype.h."""

CLOCK_STEP_HZ = 100_000_000
"""A clock that is calibrated at boot differs by a few kHz each time; this step hides it."""

FALLBACK_CLOCK_HZ = 1_500_000_000
FALLBACK_RAM_BYTES = 1024**3
ASSUMED_BANDWIDTH_BYTES_PER_S = {"x86_64": 20_000_000_000, "aarch64": 8_000_000_000, "armv7l": 2_000_000_000}
ENGINE_VERSION = ">=1.31,<2"
NATIVE_VERSION = ">=1,<2"
"""Of the interface of compiled models (docs/formats/native.md)."""
LITERT_VERSION = ">=1.2,<3"
"""Of ai-edge-litert, and of tflite-runtime, whose last version is 2.14."""
OPENVINO_VERSION = ">=2025.0,<2027"
TVM_VERSION = ">=0.27,<0.28"
"""A library that TVM compiled is loaded by the same minor version only."""
MAX_RAM_BYTES = 2**49
MAX_CORES = 4096
MAX_MODEL_CHARACTERS = 80
MAX_TEXT_BYTES = 4 * 1024 * 1024
"""Of /proc/cpuinfo: some kilobytes per core."""


@dataclass(frozen=True, kw_only=True)
class HostTexts:
    """What the operating system says about this machine; empty where it says nothing."""

    machine: str
    """`platform.machine()`."""
    cpuinfo: str = ""
    meminfo: str = ""
    present_cpus: str = ""
    """/sys/devices/system/cpu/present, such as `0-5`: also counts cores that a power mode has switched off."""
    cpu_count: int = 1
    """Used where neither of them lists a processor."""
    max_frequencies_khz: tuple[str, ...] = ()
    """cpufreq/cpuinfo_max_freq of each core; the hardware's limit, not the governor's."""


def detect_host(*, root: Path = Path("/")) -> Board:
    """Describes this machine; `root` stands in for `/` in tests and for inspecting a mounted system."""
    cpus = root / "sys/devices/system/cpu"
    return describe_host(
        HostTexts(
            machine=platform.machine(),
            cpuinfo=_read(root / "proc/cpuinfo"),
            meminfo=_read(root / "proc/meminfo"),
            present_cpus=_read(cpus / "present"),
            cpu_count=os.cpu_count() or 1,
            max_frequencies_khz=tuple(_read(path) for path in sorted(cpus.glob("cpu[0-9]*/cpufreq/cpuinfo_max_freq"))),
        )
    )


def describe_host(texts: HostTexts) -> Board:
    """The board that these texts describe."""
    arch = ARCHES.get(texts.machine.lower())
    if arch is None:
        raise EnvironmentFault(
            f"this machine is {texts.machine or 'of an unknown kind'}; "
            f"the target host needs one of {', '.join(sorted(ARCHES))}. "
            "Name a shipped board (edgewright targets list) or write a board file (docs/formats/target.md)."
        )
    processors = _processors(texts.cpuinfo)
    first = processors[0] if processors else {}
    isa = _features(arch, processors)
    clock_hz = _clock_hz(texts, first)
    model = _model(processors, arch)
    return Board(
        name="host",
        vendor=_vendor(first),
        description=f"This machine: {model}, detected",
        family="cpu" if arch == "x86_64" else "arm",
        arch=arch,
        daemon=True,
        cpu=Cpu(
            model=model,
            cores=_cores(texts, processors),
            clock_hz=clock_hz,
            isa=isa,
            int8=int8_accumulation(arch, isa),
        ),
        memory=Memory(
            ram_bytes=_installed_ram_bytes(texts.meminfo), bandwidth_bytes_per_s=ASSUMED_BANDWIDTH_BYTES_PER_S[arch]
        ),
        engines=_engines(arch),
        sources={
            "cpu": "/proc/cpuinfo",
            "memory.ram_bytes": "/proc/meminfo, rounded up to the installed size",
            "memory.bandwidth_bytes_per_s": f"assumed for {arch}; not detectable",
        },
    )


def engine_precisions() -> tuple[Precision, ...]:
    """What every engine of a CPU runs on every architecture."""
    return ("float32", "int8")


def _engines(arch: Arch) -> tuple[EngineSupport, ...]:
    """What runs on this architecture, installed or not: a package that comes or goes makes no other machine of it."""
    everywhere = {"onnxruntime": ENGINE_VERSION, "native": NATIVE_VERSION, "litert": LITERT_VERSION}
    only_64_bit = {"openvino": OPENVINO_VERSION, "tvm": TVM_VERSION} if arch in {"x86_64", "aarch64"} else {}
    return tuple(
        EngineSupport(name=name, precisions=engine_precisions(), version=version)
        for name, version in (everywhere | only_64_bit).items()
    )


def _read(path: Path) -> str:
    """The text of a file in /proc or /sys, empty where there is none or it may not be read (containers)."""
    try:
        with path.open("rb") as file:
            return file.read(MAX_TEXT_BYTES).decode("utf-8", errors="replace")
    except OSError:
        return ""


def _processors(cpuinfo: str) -> list[dict[str, str]]:
    """One dictionary per `processor` block; ARM kernels put the common lines after the last block."""
    blocks: list[dict[str, str]] = []
    for line in cpuinfo.splitlines():
        key, colon, value = (part.strip() for part in line.partition(":"))
        if not colon:
            continue
        if key == "processor":
            blocks.append({})
        elif blocks:
            blocks[-1][key] = value
    return blocks


def _features(arch: Arch, processors: list[dict[str, str]]) -> tuple[str, ...]:
    """Features that every core has, sorted: on big.LITTLE the process may run on any core."""
    key = "flags" if arch == "x86_64" else "Features"
    per_core = [set(block[key].split()) for block in processors if key in block]
    if not per_core:
        return ()
    return tuple(sorted(set.intersection(*per_core) & FEATURES[arch]))


def _cores(texts: HostTexts, processors: list[dict[str, str]]) -> int:
    ranges = re.findall(r"([0-9]{1,5})(?:-([0-9]{1,5}))?", texts.present_cpus)
    present = sum(int(last or first) - int(first) + 1 for first, last in ranges)
    cores = present if present > 0 else len(processors) or texts.cpu_count
    return min(max(cores, 1), MAX_CORES)


def _model(processors: list[dict[str, str]], arch: Arch) -> str:
    """`Cortex-A76`; `Cortex-A55 + Cortex-A76` where cores differ; else what the kernel calls it."""
    parts = {ARM_PARTS.get(block.get("CPU part", "").lower()) for block in processors if _is_arm_part(block)}
    if parts and None not in parts:
        return " + ".join(sorted(str(part) for part in parts))[:MAX_MODEL_CHARACTERS]
    named = processors[0].get("model name", "") if processors else ""
    printable = "".join(character for character in named if character.isprintable())
    return " ".join(printable.split())[:MAX_MODEL_CHARACTERS] or f"{arch} processor"


def _vendor(first: Mapping[str, str]) -> str:
    vendor = first.get("vendor_id", "")
    return vendor if vendor.isascii() and vendor.isalnum() and len(vendor) <= MAX_MODEL_CHARACTERS else "this machine"


def _is_arm_part(block: Mapping[str, str]) -> bool:
    return block.get("CPU implementer", "").lower() == "0x41" and "CPU part" in block


def _clock_hz(texts: HostTexts, first: Mapping[str, str]) -> int:
    """The nominal clock: the highest of cpufreq, else the one in the name, else that of the time-stamp counter."""
    limits_khz = [int(text) for text in texts.max_frequencies_khz if re.fullmatch(r"[0-9]{1,12}\s*", text)]
    if limits_khz:
        return _rounded_clock_hz(max(limits_khz) * 1_000)
    if named := re.search(r"@\s*([0-9.]{1,6})\s*GHz", first.get("model name", "")):
        return _rounded_clock_hz(_decimal(named[1]) * 1e9)
    # On x86 BogoMIPS is twice the time-stamp counter, which ticks at the nominal clock; on ARM it is a timer's.
    if "flags" in first:
        return _rounded_clock_hz(_decimal(first.get("bogomips", "")) / 2 * 1e6)
    return FALLBACK_CLOCK_HZ


def _decimal(text: str) -> float:
    return float(text) if re.fullmatch(r"[0-9]{1,9}(\.[0-9]{0,9})?", text) else 0.0


def _rounded_clock_hz(clock_hz: float) -> int:
    rounded = round(clock_hz / CLOCK_STEP_HZ) * CLOCK_STEP_HZ
    return rounded if CLOCK_STEP_HZ <= rounded <= 100 * 10**9 else FALLBACK_CLOCK_HZ


def _installed_ram_bytes(meminfo: str) -> int:
    """MemTotal rounded up to the installed size: the kernel's own part differs from kernel to kernel."""
    found = re.search(r"^MemTotal:\s*([0-9]{1,15}) kB", meminfo, re.MULTILINE)
    if not found or int(found[1]) == 0:
        return FALLBACK_RAM_BYTES
    total_bytes = int(found[1]) * 1024
    total_bytes = min(total_bytes, MAX_RAM_BYTES)
    step = max((1 << (total_bytes.bit_length() - 1)) // 4, 1024)
    return -(-total_bytes // step) * step
