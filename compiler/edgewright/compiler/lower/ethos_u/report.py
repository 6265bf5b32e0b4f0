"""What a report says about the NPU."""

from __future__ import annotations

import msgspec

from .summary import Summary


class NpuCpuOperator(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An operator that Vela leaves on the CPU, or left there until it was rewritten."""

    name: str
    """That of its first output."""
    type: str
    reason: str
    """Vela's."""
    cost_ms: float | None
    """Estimate of the operator on the CPU and of the way there and back; None where the board has no constants."""
    rewrite: str | None
    """What would bring it to the NPU."""
    applied: bool
    """Whether that was done: the operator is not on the CPU any more."""


class NpuReport(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Vela's estimate of one inference; operators on the CPU are not in its time, but have their own `cost_ms`."""

    vela_version: str
    accelerator_config: str
    system_config: str
    memory_mode: str
    cycles: int
    inference_ms: float
    sram_bytes: int
    dram_bytes: int
    flash_bytes: int
    macs: int
    encoded_weight_bytes: int
    npu_operators: int
    """Operators of the model, as it went into Vela, that run on the NPU."""
    cpu_operators: tuple[NpuCpuOperator, ...]

    @property
    def left_on_cpu(self) -> tuple[NpuCpuOperator, ...]:
        """Those that still run on the CPU."""
        return tuple(operator for operator in self.cpu_operators if not operator.applied)


def npu_report(summary: Summary, version: str, operators: int, cpu_operators: tuple[NpuCpuOperator, ...]) -> NpuReport:
    """The figures of a run.

    Args:
        summary: of the run that is kept.
        version: Vela's.
        operators: how many the model has that went into that run.
        cpu_operators: those left, and those that a rewrite brought to the NPU.
    """
    return NpuReport(
        vela_version=version,
        accelerator_config=summary.accelerator.lower().replace("_", "-"),
        system_config=summary.system_config,
        memory_mode=summary.memory_mode,
        cycles=summary.total_cycles,
        inference_ms=summary.inference_s * 1_000,
        sram_bytes=summary.sram_bytes,
        dram_bytes=summary.dram_bytes,
        flash_bytes=summary.flash_bytes,
        macs=summary.macs,
        encoded_weight_bytes=summary.encoded_weight_bytes,
        npu_operators=operators - sum(not operator.applied for operator in cpu_operators),
        cpu_operators=cpu_operators,
    )
