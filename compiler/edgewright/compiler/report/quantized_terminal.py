"""The result of `edgewright quantize` for people."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ..compare.report import shortened
from .quantized import QuantizeReport

MAX_REASONS = 5
NAME_CHARACTERS = 36
"""Longer names lose their middle; --json has them whole."""


def print_quantized(report: QuantizeReport, out: Path, plan: Path, console: Console) -> None:
    """Prints what was written, how good and how fast it is, and what to look at."""
    console.print(_table(report))
    if report.worst:
        console.print(_worst(report))
    _print_reasons(report.stays_float, "stays float", console)
    _print_reasons(report.forced, "has numbers that the format wants", console)
    for warning in report.warnings:
        console.print(f"[yellow]warning:[/] {escape(warning.text)}\n  {escape(warning.fix)}")
    console.print(escape(f"-> {out}\n-> {plan} (edit it, then give it back with --plan)"))


def _print_reasons(reasons: Mapping[str, str], what: str, console: Console) -> None:
    for name, reason in list(reasons.items())[:MAX_REASONS]:
        console.print(escape(f"{shortened(name, NAME_CHARACTERS)} {what}: {reason}"), style="dim")
    if len(reasons) > MAX_REASONS:
        console.print(f"and {len(reasons) - MAX_REASONS} more, see the plan", style="dim")


def _table(report: QuantizeReport) -> Table:
    table = Table(title=escape(f"{report.scheme} for {report.target}"), title_justify="left", box=SIMPLE_HEAD)
    table.add_column("")
    for heading in ("float", "quantized"):
        table.add_column(heading, justify="right")
    table.add_row("size", f"{report.float_bytes / 1024:.0f} KiB", f"{report.quantized_bytes / 1024:.0f} KiB")
    if report.speed is not None:
        table.add_row("latency here", f"{report.speed.float_ms:.3g} ms", f"{report.speed.quantized_ms:.3g} ms")
        low, high = report.speed.time_ratio_interval.low, report.speed.time_ratio_interval.high
        table.add_row("speed-up", "", f"{1 / report.speed.time_ratio:.2f}x ({1 / high:.2f}x to {1 / low:.2f}x)")
    if report.quality is not None:
        table.add_row("SNR", "", f"{report.quality.snr_db:.1f} dB")
        if report.quality.exact_snr_db != report.quality.snr_db:
            table.add_row("SNR with exact sums", "", f"{report.quality.exact_snr_db:.1f} dB")
        if report.quality.argmax_agreement is not None:
            table.add_row("same class", "", f"{report.quality.argmax_agreement * 100:.2f} %")
    computes = ", ".join(f"{count} {compute}" for compute, count in report.operators.items())
    table.add_row("operators", "", computes)
    return table


def _worst(report: QuantizeReport) -> Table:
    table = Table(title="worst layers by themselves", title_justify="left", box=SIMPLE_HEAD)
    table.add_column("layer", overflow="fold")
    for heading in ("alone dB", "SNR dB"):
        table.add_column(heading, justify="right", no_wrap=True)
    for layer in report.worst:
        name = f"{escape(shortened(layer.name, NAME_CHARACTERS))} [dim]{escape(layer.operator)}[/]"
        table.add_row(name, f"{layer.local_snr_db:.1f}", f"{layer.snr_db:.1f}")
    return table
