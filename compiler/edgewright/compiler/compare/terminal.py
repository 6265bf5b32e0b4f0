"""The comparison for people: the worst layers first, with bars."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from .report import Comparison, LayerDifference, shortened

MAX_ROWS = 40
BAR_CHARACTERS = 20
BAR_DB = 80.0
EQUAL_DB = 200.0
MAX_NAMES = 8
MAX_NAME_CHARACTERS = 36


def print_comparison(comparison: Comparison, console: Console) -> None:
    """Prints layers, outputs, and what has no counterpart."""
    console.print(escape(f"{comparison.right} against {comparison.left}, {comparison.samples} samples"))
    console.print(
        "(alone: what the layer adds by itself, given the values of A; --json has long names whole)",
        style="dim",
    )
    console.print(_table(comparison.worst_first[:MAX_ROWS]))
    left_out = len(comparison.layers) - MAX_ROWS
    if left_out > 0:
        console.print(f"{left_out} better layers are not shown; --json and --picture have all")
    for output in comparison.outputs:
        console.print(
            f"output {escape(output.counterpart)}: {decibels(output.exact_snr_db)} computed exactly, "
            f"{decibels(output.engine_snr_db)} by ONNX Runtime on this machine"
        )
    _print_unmatched(f"no counterpart in {comparison.right}", comparison.left_only, console)
    _print_unmatched(f"no counterpart in {comparison.left}", comparison.right_only, console)


def decibels(value: float) -> str:
    """`31.4 dB`, or that nothing differs."""
    return "equal" if value >= EQUAL_DB else f"{value:.1f} dB"


def _table(layers: tuple[LayerDifference, ...]) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("layer", overflow="fold", ratio=1)
    for heading in ("SNR dB", "alone"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for heading in ("cosine", "max diff"):
        table.add_column(heading, justify="right", no_wrap=True)
    for layer in layers:
        name = Text(shortened(layer.name, MAX_NAME_CHARACTERS))
        name.append(f" {layer.operator}", style="dim")
        if layer.not_finite:
            name.append(f" {layer.not_finite} not finite", style="bold red")
        table.add_row(
            name,
            _level(layer.snr_db),
            "" if layer.local_snr_db is None else _level(layer.local_snr_db),
            _bar(layer.snr_db),
            f"{layer.cosine:.5f}",
            f"{layer.largest_difference:.3g}",
        )
    return table


def _level(value: float) -> str:
    return "equal" if value >= EQUAL_DB else f"{value:.1f}"


def _bar(level_db: float) -> Text:
    full = round(max(0.0, min(1.0, level_db / BAR_DB)) * BAR_CHARACTERS)
    colour = "red" if level_db < BAR_DB / 4 else "yellow" if level_db < BAR_DB / 2 else "green"
    return Text("█" * full + "·" * (BAR_CHARACTERS - full), style=colour)


def _print_unmatched(heading: str, names: tuple[str, ...], console: Console) -> None:
    if names:
        more = f", and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
        console.print(
            escape(f"{heading}: {', '.join(shortened(name, MAX_NAME_CHARACTERS) for name in names[:MAX_NAMES])}{more}"),
            style="dim",
        )
