"""Alerts and rules as tables for people. Takes the API's JSON."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from rich.console import RenderableType
from rich.markup import escape
from rich.table import Table

from .core.drift.alert_rules import DEFAULT_LIMIT


def alerts(found: dict[str, Any]) -> RenderableType:
    """Every alert with its hooks."""
    if not found["alerts"]:
        return "no alerts"
    table = _table("alert", "state", "since", "what", "hooks")
    for view in found["alerts"]:
        one = view["alert"]
        up = one["cleared_s"] is None
        since_s = one["raised_s"] if up else one["cleared_s"]
        state = ("[red]up[/red]" if up else "[green]over[/green]") + (" (silenced)" if one["silenced"] else "")
        hooks = "\n".join(escape(_hook(call)) for call in view["calls"]) or "–"
        table.add_row(f"{one['alert']}\n{escape(one['rule'])}", state, _time(since_s), escape(one["message"]), hooks)
    return table


def rules(found: dict[str, Any]) -> RenderableType:
    """Every rule."""
    if not found["rules"]:
        return "no rules; `edgewright fleet alert rule add FILE` adds one (docs/guides/drift.md)"
    table = _table("rule", "model", "metric", "against", "raised", "cleared", "does")
    for one in found["rules"]:
        upper = DEFAULT_LIMIT[one["metric"]] if one["raiseAbove"] is None else one["raiseAbove"]
        lower = upper / 2 if one["clearBelow"] is None else one["clearBelow"]
        does = [name for name in ("webhook", "command", "onDrift") if one[name]]
        table.add_row(
            escape(one["name"]),
            escape(one["model"]),
            f"{one['metric']} by {', '.join(one['by']) or 'all devices'}",
            one["baseline"],
            f"{one['raiseAfter']} × {one['windowSeconds']} s ≥ {upper:g}",
            f"{one['clearAfter']} × < {lower:g}",
            ", ".join(does) or "note",
        )
    return table


def _hook(call: dict[str, Any]) -> str:
    state = "done" if call["is_done"] else "waiting" if call["ended_s"] is None else "given up"
    tries = f" after {call['attempts']}" if call["attempts"] > 1 else ""
    reason = f": {call['reason'][-200:]}" if call["reason"] else ""
    return f"{call['kind']} {call['event']} {state}{tries}{reason}"


def _time(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%d %H:%M UTC")


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table
