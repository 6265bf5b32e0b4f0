"""An explained rollout for people: a tree of its decisions, each with the gates' numbers behind it."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from typing import Any

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.tree import Tree

STYLE_OF_ACTION = {
    "rolling_back": "bold red",
    "rolled_back": "bold red",
    "board_halted": "bold red",
    "aborted": "bold yellow",
    "paused": "bold yellow",
    "completed": "bold green",
    "wave_passed": "bold green",
}
STYLE_OF_OUTCOME = {"fail": "red", "inconclusive": "yellow", "pass": "green", "wait": "cyan"}
IN_COLUMNS = frozenset({"e_value", "e_threshold", "e_value_now", "peak_failures", "peak_dispatched", "min_failures"})
ENDS = frozenset({"completed", "rolled_back", "aborted", "superseded"})
MAX_LIST = 60
"""Characters of a list of positions that are shown."""
MAX_REASON = 300
"""Characters of a reason whose gates stand in a table below it."""
MOST_ROWS = 6
"""Gates that are shown although they pass: those nearest to their threshold. --json has them all."""


def explanation(found: dict[str, Any]) -> RenderableType:
    """All decisions, what is known at the end, and whether the log agrees with itself."""
    tree = Tree(_title(found), guide_style="dim")
    for step in found["steps"]:
        branch = tree.add(_headline(step))
        if step["checks"]:
            branch.add(_checks(step["checks"]))
        others = _numbers((name, value) for name, value in step["others"].items() if value)
        if others:
            branch.add(f"[dim]{escape(others)}[/]")
        for problem in step["problems"]:
            branch.add(f"[bold red]{escape(problem)}[/]")
    if found["tests"] and not (found["steps"] and found["steps"][-1]["action"] in ENDS):
        after = tree.add(f"[bold]against the controls[/], as it stands after {found['blocks']} blocks")
        after.add(_checks(found["tests"], is_compared=False))
    return Group(tree, _verdict(found))


def _title(found: dict[str, Any]) -> str:
    shares = ", ".join(f"{name} {share:.3g}" for name, share in found["weights"].items() if share)
    release = f"{found['model']} {found['version']} on {', '.join(found['boards'])}"
    return (
        f"[bold]{escape(found['rollout'])}[/]: {escape(release)}\n"
        f"[dim]at most {100 * found['alpha']:g} % false stops; a gate stops at E >= 1 / (alpha x its share): "
        f"{escape(shares)}[/]"
    )


def _headline(step: dict[str, Any]) -> str:
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(step["at_s"]))
    style = STYLE_OF_ACTION.get(step["action"], "bold")
    learnt = f", {step['blocks']} blocks learnt" if step["blocks"] else ""
    reason = step["reason"]
    if len(step["checks"]) > 1 and len(reason) > MAX_REASON:
        reason = reason[:MAX_REASON] + " …"
    return (
        f"[{style}]{escape(step['action'])}[/] [dim]entry {step['seq']}, {when}, by {escape(step['actor'])}, "
        f"wave {step['wave'] + 1}{learnt}[/]\n{escape(reason)}"
    )


def _checks(checks: list[dict[str, Any]], *, is_compared: bool = True) -> RenderableType:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("gate", "board", "E", "stops at", "says", "numbers", *(["computed again"] if is_compared else [])):
        table.add_column(column, overflow="fold")
    shown = _nearest(checks)
    for check in shown:
        recorded = _recorded(check)
        outcome = check["outcome"] or "–"
        table.add_row(
            escape(check["gate"]),
            escape(check["target"] or "all"),
            _number(recorded.get("e_value", "–")),
            _number(recorded.get("e_threshold", "–")),
            f"[{STYLE_OF_OUTCOME.get(outcome, 'dim')}]{outcome}[/]",
            escape(_behind(recorded)),
            *([_compared(check)] if is_compared else []),
        )
    if len(shown) == len(checks):
        return table
    same = ", the same when computed again" if is_compared else ""
    return Group(table, f"[dim]and {len(checks) - len(shown)} more gates, further from their thresholds{same}[/]")


def _nearest(checks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the gates worth a row: those that do not agree, do not pass, or are nearest to their threshold."""
    nearest = sorted(checks, key=_nearness, reverse=True)[:MOST_ROWS]
    return [
        check
        for check in checks
        if check in nearest or not check["agrees"] or check["outcome"] in {"fail", "inconclusive"}
    ]


def _nearness(check: dict[str, Any]) -> float:
    recorded = _recorded(check)
    try:
        return float(recorded["e_value"]) / float(recorded["e_threshold"])
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return math.inf if check["basis"] == "recorded" else 0.0


def _recorded(check: dict[str, Any]) -> dict[str, Any]:
    others: dict[str, Any] = check["others"]
    return {figure["name"]: figure["recorded"] for figure in check["figures"]} | others


def _behind(recorded: dict[str, Any]) -> str:
    """Return the numbers behind an e-value in a few words; those of other gates by their names."""
    if "failed_at" in recorded and "dispatched" in recorded:
        places = f", after {_number(recorded['failed_at'])}" if recorded["failed_at"] else ""
        return (
            f"{recorded.get('failures')} of {recorded['dispatched']} {recorded.get('unit', 'devices')} failed{places}; "
            f"limit {_number(recorded.get('limit_percentage'))} %, floor {recorded.get('min_failures')}"
        )
    if "blocks" in recorded and "estimate" in recorded:
        around = f" ({_number(recorded['low'])} to {_number(recorded['high'])})" if "low" in recorded else ""
        return (
            f"{recorded['blocks']} blocks, estimate {_number(recorded['estimate'])}{around}, "
            f"limit {_number(recorded.get('limit'))}"
        )
    if "samples" in recorded and "max_psi" in recorded:
        return _traffic(recorded)
    return _numbers((name, value) for name, value in recorded.items() if name not in IN_COLUMNS)


def _traffic(recorded: dict[str, Any]) -> str:
    """Return what the drift gate saw: the accuracy of both arms and the furthest feature."""
    said = [f"{recorded['samples']} samples beside {recorded.get('control_samples', 0)}"]
    psi = {name.removeprefix("psi "): value for name, value in recorded.items() if name.startswith("psi ")}
    if psi:
        worst = max(psi, key=lambda name: psi[name])
        said.append(f"PSI of {worst} {_number(psi[worst])}, limit {_number(recorded['max_psi'])}")
    if "estimated_accuracy" in recorded:
        before = recorded.get("control_estimated_accuracy")
        beside = "" if before is None else f" beside {100 * before:.1f} %"
        said.append(f"estimated accuracy {100 * recorded['estimated_accuracy']:.1f} %{beside}")
    return ", ".join(said)


def _compared(check: dict[str, Any]) -> str:
    if check["basis"] == "recorded":
        return "[dim]only recorded[/]"
    wrong = [figure for figure in check["figures"] if not figure["agrees"]]
    if not wrong:
        return f"[green]the same ({len(check['figures'])} numbers)[/]"
    listed = ", ".join(f"{figure['name']} {_number(figure['recomputed'])}" for figure in wrong)
    return f"[bold red]not the same: {escape(listed)}[/]"


def _verdict(found: dict[str, Any]) -> str:
    figures = [figure for step in found["steps"] for check in step["checks"] for figure in check["figures"]]
    if found["agrees"]:
        return (
            f"[green]recomputed = recorded[/]: {len(figures)} numbers of {len(found['steps'])} decisions, "
            f"from {found['entries']} audit entries with {found['blocks']} blocks"
        )
    listed = "\n".join(f"  {escape(problem)}" for problem in found["problems"])
    return f"[bold red]recomputed is NOT what was recorded[/]:\n{listed}"


def _numbers(pairs: Iterable[tuple[str, Any]]) -> str:
    return ", ".join(f"{name} {_number(value)}" for name, value in pairs)


def _number(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    text = str(value)
    return text if len(text) <= MAX_LIST else text[:MAX_LIST] + " …"
