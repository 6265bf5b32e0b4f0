"""The matrix for people: one block per target, one row per candidate, the reason below."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from edgewright.bundle.manifest import Accuracy, Latency

from ..lower.ethos_u.report import NpuReport
from .control_terminal import worst_operators
from .npu_terminal import npu_lines, npu_table
from .schema import CandidateReport, Report, TargetReport

PARTS = ("calibrate", "tune", "test")
BUDGET_MISSED = "budget-missed"
FLOAT = "float32"
"""Name of the candidate that all others are held against."""
REFERENCE = "reference"
"""Verdict of a row that only the others are judged by."""
ERROR_METRICS = frozenset({"mse", "distortion"})
NARROW_COLUMNS = 100
"""Of a terminal on which long names take several lines, so that figures keep one."""
NARROW_NAME = 18


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
            console.print(_table(report, target, console.width))
        console.print(_headline(target))
        for line in _details(target):
            console.print(Padding(Text(line), (0, 0, 0, 2), expand=False))
        npu = _npu(target)
        if npu is not None and (rows := npu_table(npu)) is not None:
            console.print(rows)
        if target.control is not None and target.outcome == BUDGET_MISSED and target.control.worst:
            console.print()
            console.print(worst_operators(target.control))


def _npu(target: TargetReport) -> NpuReport | None:
    """Of what ships."""
    return next((row.npu for row in target.candidates if row.name == target.chosen), None)


def _table(report: Report, target: TargetReport, columns: int) -> Table:
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
            ("> " if chosen else "  ") + (_broken(row.name) if columns < NARROW_COLUMNS else row.name),
            f"{row.model_bytes / 1024:.0f}",
            _latency(row.latency),
            _value(row.test),
            _drop(row.test),
            "" if row.name == FLOAT or row.test.snr_db is None else f"{row.test.snr_db:.1f}",
            style="bold green" if chosen else "",
        )
    return table


def _broken(name: str) -> str:
    """A long name in lines that end at dashes: each row has a second line anyway."""
    lines = [""]
    for part in re.findall(r"[^-]+-?", name):
        if lines[-1] and len(lines[-1] + part) > NARROW_NAME:
            lines.append(f"  {part}")
        else:
            lines[-1] += part
    return "\n  ".join(lines)


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


def _headline(target: TargetReport) -> Text:
    colours = {"shipped": "green", "budget-missed": "yellow", "failed": "red"}
    text = Text(f"{target.target}: ")
    text.append(target.outcome, style=f"bold {colours[target.outcome]}")
    text.append(f": {target.reason}")
    return text


def _details(target: TargetReport) -> Iterator[str]:
    if target.bundle is not None and target.bundle_bytes is not None:
        yield f"-> {target.bundle} ({target.bundle_bytes / 1024:.0f} KiB)"
    if target.c_source is not None:
        yield f"-> {target.c_source}: the C source; its README.md says how to build it"
    yield from _verdicts([row for row in target.candidates if row.name != target.chosen and row.verdict != REFERENCE])
    if target.control is not None:
        yield f"accuracy control: {target.control.reason}"
    if (npu := _npu(target)) is not None:
        yield from npu_lines(npu)
    yield from target.notes
    if target.flags:
        yield f"flags: {', '.join(target.flags)}"
    chosen = next((row for row in target.candidates if row.name == target.chosen), None)
    if chosen is not None and chosen.float_operators:
        stay = ", ".join(f"{count} {name}" for name, count in chosen.float_operators.items())
        yield f"computed in float: {stay}"


def _verdicts(rows: Sequence[CandidateReport]) -> Iterator[str]:
    """One line per verdict, with all that it is about."""
    for verdict in dict.fromkeys(row.verdict for row in rows):
        yield f"{', '.join(row.name for row in rows if row.verdict == verdict)}: {verdict}"
