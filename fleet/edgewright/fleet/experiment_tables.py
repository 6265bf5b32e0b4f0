"""Experiments as tables for people. Takes the API's JSON."""

from __future__ import annotations

import json
from typing import Any

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

COLOUR = {
    "better": "green",
    "worse": "red",
    "guardrail_failed": "red",
    "sample_ratio_mismatch": "yellow",
    "undecided": "cyan",
}


def experiments(found: dict[str, Any]) -> RenderableType:
    """All experiments, one line each."""
    table = _table("experiment", "model", "baseline", "candidate", "unit", "state", "finding")
    for view in found["experiments"]:
        one, plan = view["experiment"], view["experiment"]["plan"]
        names = [escape(plan[key]) for key in ("model", "baseline", "candidate", "unit")]
        table.add_row(one["id"], *names, one["state"], _finding(view["result"]["finding"]))
    return table if found["experiments"] else "no experiments; `edgewright fleet experiment create` begins one"


def experiment(view: dict[str, Any]) -> RenderableType:
    """One experiment, metric by metric."""
    one, plan, result = view["experiment"], view["experiment"]["plan"], view["result"]
    table = _table("metric", "blocks", "candidate - baseline", "interval", "limit", "E / threshold")
    for effect in (result["primary"], *result["guardrails"]):
        table.add_row(
            effect["metric"] + (" (primary)" if effect is result["primary"] else ""),
            str(effect["blocks"]),
            "–" if effect["estimate"] is None else f"{effect['estimate']:+.3g} {effect['unit']}",
            "–" if effect["low"] is None else f"{effect['low']:+.3g} to {effect['high']:+.3g}",
            "–" if effect["limit"] is None else f"{effect['limit']:g}",
            "–" if effect["e_value"] is None else f"{effect['e_value']:.3g} / {effect['e_threshold']:.3g}",
        )
    title = (
        f"{one['id']}: {plan['model']} {plan['baseline']} against {plan['candidate']}, {plan['unit']}, {one['state']}"
    )
    lines: list[RenderableType] = [
        escape(title),
        table,
        _observed(result["sample_ratio"]),
        f"{_finding(result['finding'])}: {escape(result['reason'])}",
    ]
    if one["rollout"]:
        lines.append(f"rollout: {one['rollout']}")
    if view["route_change"] is not None:
        lines.append("set the route on the devices to: " + escape(json.dumps(view["route_change"])))
    return Group(*lines)


def _table(*columns: str) -> Table:
    return Table(*columns, box=None, pad_edge=False, header_style="bold")


def _observed(ratio: dict[str, Any]) -> str:
    return (
        f"observed: {ratio['candidate']} with the candidate, {ratio['baseline']} with the baseline "
        f"(planned share {ratio['planned_share']:.1%}, E {ratio['e_value']:.3g}, alarm at {ratio['e_threshold']:g})"
    )


def _finding(finding: str) -> str:
    return f"[{COLOUR[finding]}]{finding.replace('_', ' ')}[/]"
