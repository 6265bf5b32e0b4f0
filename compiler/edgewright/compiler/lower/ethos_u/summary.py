"""Vela's summary file: one line of figures, read strictly, in bytes, seconds and cycles.

Columns are those of `write_summary_metrics_csv_common` in ethosu/vela/stats_writer.py of ethos-u-vela 5.2.0, which
writes memory in KiB.
"""

from __future__ import annotations

import csv
import io
import math
from dataclasses import dataclass

from .faults import VelaFault

MAX_BYTES = 64 << 10
KIB = 1024


@dataclass(frozen=True, kw_only=True)
class Summary:
    """Vela's estimate of one inference at batch 1. Operators that stay on the CPU are not in it."""

    accelerator: str
    """As Vela writes it: `Ethos_U55_128`."""
    system_config: str
    memory_mode: str
    clock_hz: int
    inference_s: float
    npu_cycles: int
    """Cycles in which the NPU computes."""
    total_cycles: int
    """With those in which it waits for memory."""
    macs: int
    sram_bytes: int
    dram_bytes: int
    on_chip_flash_bytes: int
    off_chip_flash_bytes: int
    encoded_weight_bytes: int
    """Weights as the NPU reads them, compressed."""

    @property
    def flash_bytes(self) -> int:
        """Flash, wherever it is."""
        return self.on_chip_flash_bytes + self.off_chip_flash_bytes


def read_summary(content: bytes) -> Summary:
    """The figures of a summary file.

    Raises:
        VelaFault: it is not one line with all columns, or a figure is none.
    """
    row = _row(content)
    return Summary(
        accelerator=_text(row, "accelerator_configuration"),
        system_config=_text(row, "system_config"),
        memory_mode=_text(row, "memory_mode"),
        clock_hz=round(_number(row, "core_clock")),
        inference_s=_number(row, "inference_time"),
        npu_cycles=round(_number(row, "cycles_npu")),
        total_cycles=round(_number(row, "cycles_total")),
        macs=round(_number(row, "nn_macs")),
        sram_bytes=round(_number(row, "sram_memory_used") * KIB),
        dram_bytes=round(_number(row, "dram_memory_used") * KIB),
        on_chip_flash_bytes=round(_number(row, "on_chip_flash_memory_used") * KIB),
        off_chip_flash_bytes=round(_number(row, "off_chip_flash_memory_used") * KIB),
        encoded_weight_bytes=round(_number(row, "total_npu_encoded_weights")),
    )


def _row(content: bytes) -> dict[str, str]:
    if len(content) > MAX_BYTES:
        raise VelaFault(f"Vela's summary: expected at most {MAX_BYTES} bytes, got {len(content)}")
    try:
        lines = list(csv.reader(io.StringIO(content.decode("utf-8"), newline="")))
    except (UnicodeDecodeError, csv.Error) as error:
        raise VelaFault(f"Vela's summary: not CSV in UTF-8: {error}") from error
    if len(lines) != 2 or len(lines[0]) != len(lines[1]):
        shape = " and ".join(str(len(line)) for line in lines[:3])
        raise VelaFault(f"Vela's summary: expected one line of names and one of as many figures, got {shape or 'none'}")
    return dict(zip(*lines, strict=True))


def _text(row: dict[str, str], column: str) -> str:
    if column not in row:
        raise VelaFault(f"Vela's summary: column {column} is missing; ethos-u-vela 5.2 writes it")
    return row[column]


def _number(row: dict[str, str], column: str) -> float:
    text = _text(row, column)
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not (math.isfinite(number) and number >= 0):
        raise VelaFault(f"Vela's summary: column {column}: expected a number from zero, got {text[:40]!r}")
    return number
