"""What an NPU's compiler says of the candidate that ships, for people."""

from __future__ import annotations

from collections.abc import Iterator

from rich.box import SIMPLE_HEAD
from rich.table import Table

from ..lower.ethos_u.report import NpuReport

KIB = 1024


def npu_lines(npu: NpuReport) -> Iterator[str]:
    """Figures in a line, and who made them."""
    memory = {"SRAM": npu.sram_bytes, "DRAM": npu.dram_bytes, "flash": npu.flash_bytes}
    sizes = ", ".join(f"{size / KIB:.1f} KiB {name}" for name, size in memory.items() if size)
    yield f"NPU: {npu.cycles:,} cycles, {npu.inference_ms:.3g} ms, {sizes}"
    on_cpu = len(npu.left_on_cpu)
    yield f"{npu.npu_operators} operators on the NPU, {on_cpu or 'none'} on the CPU"
    yield f"(Vela {npu.vela_version}: {npu.accelerator_config}, {npu.system_config}, {npu.memory_mode})"


def npu_table(npu: NpuReport) -> Table | None:
    """Operators that Vela left on the CPU, or did until they were rewritten; None where there are none."""
    if not npu.cpu_operators:
        return None
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False, title="not for the NPU", title_justify="left")
    for heading in ("operator", "why", "costs", "what helps"):
        table.add_column(heading, overflow="fold", justify="right" if heading == "costs" else "left")
    for operator in npu.cpu_operators:
        cost = "" if operator.cost_ms is None else f"~{operator.cost_ms:.3g} ms"
        helps = operator.rewrite or "nothing is known"
        table.add_row(
            f"{operator.type}\n{operator.name}",
            operator.reason,
            "" if operator.applied else cost,
            f"done: {helps}" if operator.applied else helps,
        )
    return table
