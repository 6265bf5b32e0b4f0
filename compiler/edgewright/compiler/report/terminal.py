"""The matrix for people: one block per target, one row per candidate, the reason below."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from edgewright.bundle.manifest import Accuracy, Latency

from .schema import CandidateReport, Report, TargetReport

ERROR_METRICS = frozenset({"mse", "distortion"})


def print_report(report: Report, console: Console) -> None:
    """Prints the whole run."""
    samples = ", ".join(f"{count} {part}" for part, count in report.source.samples.items())
    console.print(f"{report.model} {report.version}: {report.metric}, may lose {report.budget}; samples: {samples}")
    if report.source.ignored_arrays:
        console.print(f"arrays of the data file that were not used: {', '.join(report.source.ignored_arrays)}")
    for target in report.targets:
        if target.candidates:
            console.print(_table(report, target))
        console.print(_summary(target))


def _table(report: Report, target: TargetReport) -> Table:
    table = Table(title=target.target, title_justify="left", title_style="bold")
    table.add_column("candidate")
    table.add_column("size", justify="right")
    table.add_column("latency (95 %)", justify="right")
    table.add_column(f"{report.metric} on test (95 %)", justify="right")
    table.add_column("lost (95 %)", justify="right")
    table.add_column("SNR", justify="right")
    table.add_column("verdict")
    for row in target.candidates:
        chosen = row.name == target.chosen
        table.add_row(
            f"> {row.name}" if chosen else f"  {row.name}",
            f"{row.model_bytes / 1024:.0f} KiB",
            _latency(row.latency),
            _value(row.test),
            _drop(row.test),
            "" if row.precision == "float32" or row.test.snr_db is None else f"{row.test.snr_db:.1f} dB",
            _verdict(row),
            style="bold green" if chosen else "",
        )
    return table


def _verdict(row: CandidateReport) -> str:
    stay = ", ".join(f"{count} {name}" for name, count in row.float_operators.items())
    return f"{row.verdict}; stay float: {stay}" if stay else row.verdict


def _latency(latency: Latency) -> str:
    sign = "" if latency.kind == "measured" else "~"
    return f"{sign}{latency.p50_ms:.3g} ms ({latency.interval.low:.3g}-{latency.interval.high:.3g})"


def _value(accuracy: Accuracy) -> str:
    if accuracy.metric in ERROR_METRICS:
        return f"{accuracy.value:.3g} ({accuracy.interval.low:.3g}-{accuracy.interval.high:.3g})"
    if accuracy.metric == "snr":
        return f"{accuracy.value:.1f} dB"
    return f"{accuracy.value * 100:.2f} % ({accuracy.interval.low * 100:.1f}-{accuracy.interval.high * 100:.1f})"


def _drop(accuracy: Accuracy) -> str:
    low, high = accuracy.drop_interval.low, accuracy.drop_interval.high
    if accuracy.metric == "snr":
        return f"{accuracy.drop:.2f} dB ({low:.2f} to {high:.2f})"
    return f"{accuracy.drop * 100:.2f} % ({low * 100:.2f} to {high * 100:.2f})"


def _summary(target: TargetReport) -> Text:
    colours = {"shipped": "green", "budget-missed": "yellow", "failed": "red"}
    text = Text(f"{target.target}: ")
    text.append(target.outcome, style=f"bold {colours[target.outcome]}")
    text.append(f": {target.reason}")
    if target.bundle is not None and target.bundle_bytes is not None:
        text.append(f"\n  -> {target.bundle} ({target.bundle_bytes / 1024:.0f} KiB)")
    if target.flags:
        text.append(f"  flags: {', '.join(target.flags)}")
    return text
