"""What accuracy control found, for people: the operators that do most of the damage, and what repairs would cost."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from ..compare.report import shortened
from ..control.outcome import ControlReport

NAME_CHARACTERS = 34
LEAST_GAIN_DB = 0.05
"""What is printed as +0.1 or more: repairs that gain less are left to the JSON."""
FREE_US = 0.05


def worst_operators(control: ControlReport) -> Table:
    """One line per operator and repair that helps; each as if it were the only one. Long names lose their middle."""
    title = "worst operators: their share of the noise, what each repair alone changes"
    table = Table(
        title=title, title_justify="left", title_style="", box=SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False
    )
    table.add_column("operator", overflow="fold")
    table.add_column("noise", justify="right", no_wrap=True)
    table.add_column("repair", overflow="fold")
    for heading in ("gain dB", "cost µs"):
        table.add_column(heading, justify="right", no_wrap=True)
    for operator in control.worst:
        name = Text(shortened(operator.name, NAME_CHARACTERS))
        name.append(f" {operator.operator}", style="dim")
        repairs = [
            (repair.name, f"{repair.snr_gain_db:+.1f}", _cost(repair.latency_change_ms * 1e3))
            for repair in operator.repairs
            if repair.snr_gain_db >= LEAST_GAIN_DB
        ] or [("none helps", "", "")]
        share = f"{operator.noise_share * 100:.0f} %"
        for first, row in enumerate(repairs):
            table.add_row(*((name, share) if first == 0 else ("", "")), *row)
    return table


def _cost(change_us: float) -> str:
    return "free" if abs(change_us) < FREE_US else f"{change_us:+.1f}"
