"""What a target is: validated data about one kind of hardware, never about one unit.

A `Board` says what a compiled bundle may rely on: instruction set, memory, engines, and how int8 dot products
accumulate. It is read from TOML by `boardfile.py`, or detected by `host.py`. The format is docs/formats/target.md.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from .faults import UserFault

Family = Literal["cpu", "arm", "cuda", "npu"]
Arch = Literal["x86_64", "aarch64", "armv7l", "cortex-m"]
Precision = Literal["float32", "float16", "bfloat16", "int8"]
Accumulation = Literal["exact", "saturating16"]
"""`saturating16`: sums of two products pass through 16 bits (x86 `vpmaddubsw`), so large weights lose their value."""

CPU = "cpu"
"""Name of the processor that every board has; no accelerator may take it."""

VELA = "ethos-u-vela"
"""Name of the engine that needs a `Vela` configuration; no other may have one."""

VelaAccelerator = Literal[
    "ethos-u55-32",
    "ethos-u55-64",
    "ethos-u55-128",
    "ethos-u55-256",
    "ethos-u65-256",
    "ethos-u65-512",
    "ethos-u85-128",
    "ethos-u85-256",
    "ethos-u85-512",
    "ethos-u85-1024",
    "ethos-u85-2048",
]
VelaSystem = Literal[
    "Ethos_U55_Deep_Embedded",
    "Ethos_U55_High_End_Embedded",
    "Ethos_U65_Embedded",
    "Ethos_U65_Mid_End",
    "Ethos_U65_High_End",
    "Ethos_U65_Client_Server",
    "Ethos_U85_SYS_Flash_Low",
    "Ethos_U85_SYS_Flash_High",
    "Ethos_U85_SYS_DRAM_Low",
    "Ethos_U85_SYS_DRAM_Mid",
    "Ethos_U85_SYS_DRAM_High",
]
"""Sections `System_Config.*` of the Arm/vela.ini that comes with ethos-u-vela 5.2.0: clock, ports, bandwidths."""
VelaMemoryMode = Literal[
    "Sram_Only",
    "Shared_Sram",
    "Dedicated_Sram",
    "Dedicated_Sram_256KB",
    "Dedicated_Sram_384KB",
    "Dedicated_Sram_512KB",
]
"""Sections `Memory_Mode.*` of the same file: where constants and activations lie."""
BARE_DEDICATED_SRAM = "Dedicated_Sram"
"""The one mode whose cache has no size of its own."""

OperandTypes = Literal["u8s8", "s8s8", "u8u8"]

PRINTABLE = r"^[^\x00-\x1f\x7f-\x9f]*$"
"""Text from a file is shown in terminals: no control characters."""

Text = Annotated[str, Meta(max_length=400, pattern=PRINTABLE)]
Label = Annotated[str, Meta(min_length=1, max_length=80, pattern=PRINTABLE)]
Name = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9.-]{0,63}$")]
Feature = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9_.]{0,31}$")]
CoreCount = Annotated[int, Meta(ge=1, le=4096)]
Hertz = Annotated[int, Meta(ge=1_000_000, le=100_000_000_000)]
Bytes = Annotated[int, Meta(ge=1_024, le=2**50)]
BytesPerSecond = Annotated[int, Meta(ge=1_000_000, le=10**14)]
Rate = Annotated[float, Meta(gt=0, le=1_000_000)]
Factor = Annotated[float, Meta(ge=1, le=100)]

HARDWARE_FIELDS = ("name", "family", "arch", "daemon", "cpu", "memory", "accelerators")
"""What the digest covers."""


class BoardError(UserFault):
    """A board file, or the name of a board, is wrong."""


class _Strict(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Immutable, keyword-only, and unknown keys are refused."""


class Int8Accumulation(_Strict, frozen=True, kw_only=True):
    """How an int8 dot product accumulates in this board's CPU engine, per operand types (activation, weight)."""

    u8s8: Accumulation
    s8s8: Accumulation
    u8u8: Accumulation


class Cpu(_Strict, frozen=True, kw_only=True):
    """The cores that run the model, or that feed the accelerator."""

    model: Label
    """`Cortex-A76`, or an instruction-set level where the board is a class of machines."""
    cores: CoreCount
    clock_hz: Hertz
    isa: Annotated[tuple[Feature, ...], Meta(max_length=64)]
    """Features that matter to inference, spelled as `flags` (x86) or `Features` (ARM) of /proc/cpuinfo."""
    int8: Int8Accumulation


class Memory(_Strict, frozen=True, kw_only=True):
    """Memory as installed; the operating system takes its part of it."""

    ram_bytes: Bytes
    bandwidth_bytes_per_s: BytesPerSecond
    flash_bytes: Bytes | None = None
    """Storage that is part of the board; None where it is a card or a disk of the user's choice."""


class Accelerator(_Strict, frozen=True, kw_only=True):
    """A GPU or NPU beside the cores."""

    name: Name
    kind: Literal["gpu", "npu"]
    clock_hz: Hertz
    precisions: Annotated[tuple[Precision, ...], Meta(min_length=1, max_length=4)]
    macs_per_cycle: Annotated[int, Meta(ge=1, le=1_000_000)]
    """Peak, in the narrowest of `precisions`."""
    sram_bytes: Bytes | None = None


class Vela(_Strict, frozen=True, kw_only=True):
    """What Arm's Vela compiles for: its options of the same names, with the Arm/vela.ini that it brings."""

    accelerator_config: VelaAccelerator
    system_config: VelaSystem
    memory_mode: VelaMemoryMode
    arena_cache_size_bytes: Bytes | None = None
    """SRAM that the NPU may use; None takes the memory mode's own. `Dedicated_Sram` has none, and needs it."""


class EngineSupport(_Strict, frozen=True, kw_only=True):
    """An inference engine that runs on the board."""

    name: Name
    precisions: Annotated[tuple[Precision, ...], Meta(min_length=1, max_length=4)]
    version: Label
    """Version range as in PEP 440."""
    accelerator: Name | None = None
    """The accelerator it drives; None for the CPU."""
    vela: Vela | None = None
    """Of the engine `ethos-u-vela`, and of no other."""


class MacRates(_Strict, frozen=True, kw_only=True):
    """Multiply-accumulates per clock cycle of one core (or of the accelerator) that real operators reach."""

    conv: Rate
    depthwise: Rate
    matmul: Rate


class LatencyModel(_Strict, frozen=True, kw_only=True):
    """Constants of `cost.estimate_latency` for one precision on one processor, fitted on measured latencies."""

    precision: Precision
    processor: Name = CPU
    """`cpu`, or the name of an accelerator."""
    macs_per_cycle: MacRates
    activation_bytes_per_s: BytesPerSecond
    """At which one core (or the accelerator) moves activations; above the board's bandwidth where caches hold them."""
    weight_bytes_per_s: BytesPerSecond
    """At which it streams weights, from RAM or flash."""
    operator_overhead_us: Annotated[float, Meta(ge=0, le=1_000_000)]
    parallel_fraction: Annotated[float, Meta(ge=0, le=1)] = 0.0
    """Part of the work that further threads share (Amdahl); 0 where threads do not help."""
    low_factor: Factor
    """95 % of the held-out measurements were above estimate / low_factor ..."""
    high_factor: Factor
    """... and 95 % below estimate * high_factor."""
    source: Text
    """What it was fitted on, in one sentence that a person can check."""


class Board(_Strict, frozen=True, kw_only=True):
    """One kind of hardware."""

    name: Name
    vendor: Label
    description: Text
    family: Family
    arch: Arch
    daemon: bool
    """Whether the device daemon runs here; a microcontroller is compiled for only."""
    cpu: Cpu
    memory: Memory
    engines: Annotated[tuple[EngineSupport, ...], Meta(min_length=1, max_length=16)]
    accelerators: Annotated[tuple[Accelerator, ...], Meta(max_length=8)] = ()
    latency: Annotated[tuple[LatencyModel, ...], Meta(max_length=16)] = ()
    """The first that fits a question answers it; a file without any borrows those of a similar shipped board."""
    sources: Annotated[dict[Label, Text], Meta(max_length=64)] = {}
    """Where figures come from: dotted key (`cpu.clock_hz`, or a prefix such as `cpu`) to document."""

    def digest(self) -> str:
        """`sha256:…` of the hardware facts.

        Prose, engines and latency constants do not count: they change with this package, and a bundle that was
        compiled for this hardware still fits it then. Neither does the order of keys and flags.
        """
        facts = {name: msgspec.to_builtins(getattr(self, name)) for name in HARDWARE_FIELDS}
        facts["cpu"]["isa"] = sorted(facts["cpu"]["isa"])
        canonical = msgspec.json.encode(facts, order="sorted")
        return f"sha256:{hashlib.sha256(canonical).hexdigest()}"

    def supports(self, engine: str, precision: Precision) -> bool:
        """Whether the engine of that name runs that precision here."""
        return any(support.name == engine and precision in support.precisions for support in self.engines)
