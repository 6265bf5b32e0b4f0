"""Results as tables for people. Takes the API's JSON."""

from __future__ import annotations

import json
import time
from collections import Counter
from typing import Any

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from .bars import bars

STYLE_OF_STATE = {
    "completed": "green",
    "confirmed": "green",
    "running": "cyan",
    "paused": "yellow",
    "awaiting_approval": "yellow",
    "following": "green",
    "superseded": "yellow",
    "aborted": "yellow",
    "rolling_back": "red",
    "rolled_back": "red",
    "failed": "red",
    "refused": "red",
    "drifted": "red",
    "inconclusive": "yellow",
    "stable": "green",
    "pass": "green",
    "wait": "cyan",
    "fail": "red",
}
STATE_WORDS = {"control": "waiting as controls", "withdrawn": "taken back"}
MINUTE_S, HOUR_S, DAY_S = 60, 3600, 86400
SHORT_DIGEST = 12
MOST_DETAIL = 160
"""Characters of an audit entry's detail in the table."""
MOST_REASON = 100
"""Characters of a reason in a list; `rollout status ROLLOUT` has all of them."""


def devices(found: dict[str, Any]) -> RenderableType:
    """Every device with what it runs."""
    table = _table("device", "target", "runs", "phase", "backlog", "heard", "site", "software")
    for device in found["devices"]:
        models = device["models"]
        heard = device["last_seen_s"]
        table.add_row(
            escape(device["device"]),
            escape(device["target"]) + (" (emulated)" if device["emulated"] else ""),
            "\n".join(escape(f"{model['model']} {model['version']}") for model in models) or "–",
            "\n".join(_coloured(model["phase"]) for model in models),
            "–" if device["spool_backlog"] is None else str(device["spool_backlog"]),
            "never" if heard is None else _ago(found["now_s"] - heard),
            escape(device["site"] or "–"),
            escape(device["software"]),
        )
    return table if found["devices"] else "no devices; `edgewright fleet device token` makes a token that enrols one"


def place(device: dict[str, Any]) -> RenderableType:
    """Where one device stands."""
    table = _table("device", "site", "time zone", "labels")
    labels = ", ".join(f"{name}={value}" for name, value in device["labels"].items())
    table.add_row(escape(device["device"]), escape(device["site"] or "–"), device["time_zone"], escape(labels or "–"))
    return table


def releases(found: dict[str, Any]) -> RenderableType:
    """Every release with its bundles."""
    table = _table("model", "version", "target", "bundle", "made")
    for release in found["releases"]:
        table.add_row(
            escape(release["model"]),
            escape(release["version"]),
            "\n".join(escape(target) for target in release["bundles"]),
            "\n".join(_short(digest) for digest in release["bundles"].values()),
            _clock(release["created_s"]),
        )
    return table if found["releases"] else "no releases; `edgewright fleet release add BUNDLE…` makes one"


def rollouts(found: dict[str, Any]) -> RenderableType:
    """Every rollout, one line each."""
    table = _table("rollout", "release", "state", "wave", "made", "why")
    for each in found["rollouts"]:
        table.add_row(*_rollout_row(each), escape(_cut(each["reason"])))
    return table if found["rollouts"] else "no rollouts; `edgewright fleet rollout create MODEL VERSION` starts one"


def rollout(view: dict[str, Any]) -> RenderableType:
    """One rollout: its state, its gates, its devices."""
    given = view["assignments"]
    counts: Counter[str] = Counter()
    for each in view.get("counts", ()):  # a server of before has none
        counts[STATE_WORDS.get(each["state"], each["state"].replace("_", " "))] += each["orders"]
    summary = ", ".join(f"{count} {state}" for state, count in sorted(counts.items())) or "no device has an order yet"
    head = _table("rollout", "release", "state", "wave", "made")
    head.add_row(*_rollout_row(view["rollout"]))
    parts: list[RenderableType] = [head, escape(view["rollout"]["reason"]), f"devices: {summary}"]
    parts += [f"[red]halted[/] ({halt['action']}): {escape(halt['reason'])}" for halt in view["rollout"]["halted"]]
    if view["gates"]:
        parts.append(_gates(view["gates"]))
    if given:
        parts.append(_assignments(given))
    if view.get("after") is not None:
        parts.append(
            f"[dim]{len(given)} shown of {counts.total()} in all; --after {view['after']} goes on, --limit shows more, "
            "--state, --board and --site choose[/]"
        )
    return Group(*parts)


def _rollout_row(each: dict[str, Any]) -> tuple[str, ...]:
    release = escape(f"{each['model']} {each['version']}")
    return each["id"], release, _coloured(each["state"]), _wave(each), _clock(each["created_s"])


def _cut(text: str) -> str:
    return text if len(text) <= MOST_REASON else text[:MOST_REASON] + " …"


def drift(found: dict[str, Any]) -> RenderableType:
    """Every bundle with traffic, feature by feature."""
    if not found["bundles"]:
        return f"no traffic in the last {_span(found['span_s'])}"
    parts: list[RenderableType] = []
    for bundle in found["bundles"]:
        report = bundle["report"]
        title = f"{bundle['model']} {bundle['version']} on {bundle['target']}: "
        parts.append(f"[bold]{escape(title)}[/]{_coloured(report['verdict'])}  {escape(report['message'])}")
        pictures = {one["name"]: one for one in bundle["histograms"]}
        table = _table("feature", "PSI", "KS", "p", "verdict", "calibration, live")
        for feature in report["features"]:
            table.add_row(
                escape(feature["name"]),
                f"{feature['psi']:.3f}",
                "–" if feature["ks"] is None else f"{feature['ks']:.3f}",
                f"{feature['p_value']:.2g}",
                _coloured(feature["verdict"]),
                _picture(pictures.get(feature["name"])),
            )
        parts.append(table)
    return Group(*parts)


def audit(found: dict[str, Any]) -> RenderableType:
    """Audit entries, newest first."""
    table = _table("seq", "when", "who", "what", "detail")
    for entry in found["entries"]:
        table.add_row(
            str(entry["seq"]),
            _clock(entry["at_s"]),
            escape(entry["actor"]),
            f"{escape(entry['action'])}\n[dim]{escape(entry['subject'])}[/]",
            escape(_detail(entry["detail"])),
        )
    return table


def _detail(detail: dict[str, Any]) -> str:
    """Return the reason, or the first of what an entry holds; `--json` has all of it."""
    said = detail.get("reason") or detail.get("message")
    if said is None:
        said = ", ".join(f"{name} {_value(value)}" for name, value in detail.items() if value not in (None, "", {}, []))
    text = str(said)
    return text if len(text) <= MOST_DETAIL else text[:MOST_DETAIL] + " …"


def _value(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _picture(histogram: dict[str, Any] | None) -> str:
    return "" if histogram is None else f"[dim]{bars(histogram['reference'])}[/]\n{bars(histogram['live'])}"


def _gates(gates: list[dict[str, Any]]) -> Table:
    table = _table("gate", "target", "says", "why")
    for gate in gates:
        table.add_row(gate["gate"], escape(gate["target"] or "all"), _coloured(gate["outcome"]), escape(gate["reason"]))
    return table


def _assignments(given: list[dict[str, Any]]) -> Table:
    table = _table("device", "wave", "arm", "target", "phase", "back", "why")
    for each in given:
        table.add_row(
            escape(each["device"]),
            str(each["wave"] + 1),
            each["arm"],
            escape(each["target"]),
            _coloured(each["phase"] or ("waits" if each["arm"] == "control" else "ordered")),
            _coloured(each["rollback_phase"] or ("ordered" if each["rolled_back_s"] else "")),
            escape(each["phase_reason"]),
        )
    return table


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold", no_wrap=column in {"when", "made"})
    return table


def _coloured(state: str) -> str:
    style = STYLE_OF_STATE.get(state)
    return f"[{style}]{state}[/]" if style else escape(state)


def _wave(rollout_row: dict[str, Any]) -> str:
    waves = rollout_row["policy"]["waves"]
    return "controls" if rollout_row["wave"] >= len(waves) else f"{rollout_row['wave'] + 1}/{len(waves)}"


def _short(digest: str) -> str:
    return digest.removeprefix("sha256:")[:SHORT_DIGEST]


def _clock(at_s: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at_s))


def _ago(span_s: float) -> str:
    return f"{_span(max(span_s, 0))} ago"


def _span(span_s: float) -> str:
    for unit_s, name in ((DAY_S, "d"), (HOUR_S, "h"), (MINUTE_S, "min")):
        if span_s >= 2 * unit_s:
            return f"{span_s / unit_s:.0f} {name}"
    return f"{span_s:.0f} s"
