"""The matrix for people: one block per target, one row per candidate, the reason below."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from edgewright.bundle.manifest import Accuracy, Latency

from .control_terminal import worst_operators
from .schema import Report, TargetReport

PARTS = ("calibrate", "tune", "test")
BUDGET_MISSED = "budget-missed"
FLOAT = "float32"
"""Name of the candidate that all others are held against."""
ERROR_METRICS = frozenset({"mse", "distortion"})


def print_report(report: Report, console: Console) -> None:
    """Prints the whole run. Second lines in a table are 95 % intervals; scores are those of the test samples."""
    samples = ", ".join(f"{report.source.samples[part]} {part}" for part in PARTS)
    console.print(f"{report.model} {report.version}: {report.metric}, may lose {report.budget}; samples: {samples}")
    console.print("(second lines: 95 % intervals; scores on the test samples; ~ estimated)", style="dim")
    for warning in report.warnings:
        console.print(f"[yellow]warning:[/] {escape(warning.text)}\n  {escape(warning.fix)}")
    if report.source.ignored_arrays:
        console.print(f"arrays of the data file that were not used: {', '.join(report.source.ignored_arrays)}")
    for target in report.targets:
        console.print()
        if target.candidates:
            console.print(_table(report, target))
        console.print(_summary(target))
        if target.control is not None and target.outcome == BUDGET_MISSED and target.control.worst:
            console.print()
            console.print(worst_operators(target.control))


def _table(report: Report, target: TargetReport) -> Table:
    table = Table(
        title=target.target,
        title_justify="left",
        title_style="bold",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        show_edge=False,
    )
    table.add_column("candidate", overflow="fold")  # on a narrow terminal figures break, they do not vanish
    for heading in ("KiB", "latency", report.metric, "lost", "SNR dB"):
        table.add_column(heading, justify="right", overflow="fold")
    for row in target.candidates:
        chosen = row.name == target.chosen
        table.add_row(
            f"> {row.name}" if chosen else f"  {row.name}",
            f"{row.model_bytes / 1024:.0f}",
            _latency(row.latency),
            _value(row.test),
            _drop(row.test),
            "" if row.name == FLOAT or row.test.snr_db is None else f"{row.test.snr_db:.1f}",
            style="bold green" if chosen else "",
        )
    return table


def _latency(latency: Latency) -> str:
    sign = "" if latency.kind == "measured" else "~"
    return f"{sign}{latency.p50_ms:.3g} ms\n{latency.interval.low:.3g}..{latency.interval.high:.3g}"


def _value(accuracy: Accuracy) -> str:
    low, high = accuracy.interval.low, accuracy.interval.high
    if accuracy.metric in ERROR_METRICS:
        return f"{accuracy.value:.3g}\n{low:.3g}..{high:.3g}"
    if accuracy.metric == "snr":
        return f"{accuracy.value:.1f} dB\n{low:.1f}..{high:.1f}"
    return f"{accuracy.value * 100:.2f} %\n{low * 100:.1f}..{high * 100:.1f}"


def _drop(accuracy: Accuracy) -> str:
    low, high = accuracy.drop_interval.low, accuracy.drop_interval.high
    if accuracy.metric == "snr":
        return f"{accuracy.drop:.2f} dB\n{low:.2f}..{high:.2f}"
    return f"{accuracy.drop * 100:.2f} %\n{low * 100:.2f}..{high * 100:.2f}"


def _summary(target: TargetReport) -> Text:
    colours = {"shipped": "green", "budget-missed": "yellow", "failed": "red"}
    text = Text(f"{target.target}: ")
    text.append(target.outcome, style=f"bold {colours[target.outcome]}")
    text.append(f": {target.reason}")
    if target.bundle is not None and target.bundle_bytes is not None:
        text.append(f"\n  -> {target.bundle} ({target.bundle_bytes / 1024:.0f} KiB)")
    for row in target.candidates:
        if row.name not in {FLOAT, target.chosen}:
            text.append(f"\n  {row.name}: {row.verdict}")
    if target.control is not None:
        text.append(f"\n  accuracy control: {target.control.reason}")
    if target.c_source is not None:
        text.append(f"\n  -> {target.c_source}: the C source; its README.md says how to build it")
    for note in target.notes:
        text.append(f"\n  {note}")
    if target.flags:
        text.append(f"\n  flags: {', '.join(target.flags)}")
    chosen = next((row for row in target.candidates if row.name == target.chosen), None)
    if chosen is not None and chosen.float_operators:
        stay = ", ".join(f"{count} {name}" for name, count in chosen.float_operators.items())
        text.append(f"\n  computed in float: {stay}")
    return text
