"""A rehearsal as a picture: for each scenario, how many devices had the release at what time, one line for each run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

from .rehearse import STOPPED, Outcome, Rehearsal
from .run import Run

WIDTH, PANEL, GAP = 860, 190, 52
LEFT, RIGHT, TOP = 78, 190, 64
INK, SOFT, GRID = "#1f2933", "#6b7785", "#e3e7eb"
GOES_ON, STOPS = "#1f77b4", "#d1495b"
MOST_LINES = 60
MOST_TICKS = 6
STEPS_H = (0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2, 3, 6, 12, 24, 48, 96, 168, 336, 720)
"""Hours between two numbers below the picture: round ones."""


def picture(rehearsal: Rehearsal, runs: Mapping[str, Sequence[Run]]) -> str:
    """Return the SVG."""
    height = TOP + len(rehearsal.outcomes) * (PANEL + GAP)
    hours = max((run.hours for each in runs.values() for run in each), default=1.0) or 1.0
    size = f'viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="system-ui, sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        _text(LEFT, 26, f"Rehearsal of {rehearsal.model} on {rehearsal.devices:,} devices", size=16, weight=600),
        _text(LEFT, 45, "devices that have the release, by hours since the start; one line for each run", fill=SOFT),
    ]
    for number, outcome in enumerate(rehearsal.outcomes):
        top = TOP + number * (PANEL + GAP) + 22
        each = runs[outcome.scenario]
        parts.append(_text(LEFT, top - 8, f"{outcome.scenario}: {outcome.about}", weight=600))
        parts += _axes(top, hours, rehearsal.devices)
        parts += [_line(run, top, hours, rehearsal.devices) for run in each[:MOST_LINES]]
        beside = WIDTH - RIGHT + 14
        for place, line in enumerate(_beside(outcome)):
            stands_out = place == 0 and outcome.stopped.runs
            parts.append(_text(beside, top + 16 + 18 * place, line, fill=STOPS if stands_out else INK))
    return "\n".join((*parts, "</svg>")) + "\n"


def _beside(outcome: Outcome) -> list[str]:
    word = "false stops" if outcome.is_good else "stopped"
    risk = outcome.devices_at_risk
    at_risk = [f"at risk: {risk.median:,.0f} (median)", f"at risk: {risk.largest:,.0f} (most)"]
    return [
        f"{word}: {outcome.stopped.runs} of {outcome.runs} runs",
        f"paused: {outcome.paused.runs}",
        *([] if outcome.is_good else at_risk),
        f"failed: {outcome.devices_failed.median:,.0f} (median)",
        f"time: {outcome.hours.median:.1f} h (median)",
    ]


def _axes(top: float, hours: float, devices: int) -> list[str]:
    parts = []
    for share in (0.0, 0.5, 1.0):
        y = top + PANEL * (1 - share)
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="{GRID}"/>')
        parts.append(_text(LEFT - 8, y + 4, f"{share * devices:,.0f}", fill=SOFT, anchor="end"))
    step = next((each for each in STEPS_H if each >= hours / MOST_TICKS), hours / MOST_TICKS)
    for tick in range(math.floor(hours / step + 1e-9) + 1):
        x = LEFT + (WIDTH - RIGHT - LEFT) * tick * step / hours
        parts.append(_text(x, top + PANEL + 17, f"{tick * step:.3g} h", fill=SOFT, anchor="middle"))
    return parts


def _line(run: Run, top: float, hours: float, devices: int) -> str:
    def x(at: float) -> float:
        return LEFT + (WIDTH - RIGHT - LEFT) * at / hours

    def y(count: float) -> float:
        return top + PANEL * (1 - count / max(1, devices))

    steps = [f"H{x(point.hours):.1f}V{y(point.ordered):.1f}" for point in run.points]
    path = [f"M{x(0):.1f},{y(0):.1f}", *steps]
    is_stopped = run.state in {*STOPPED, "paused"} or bool(run.halted)
    colour = STOPS if is_stopped else GOES_ON
    line = f'<path d="{"".join(path)}" fill="none" stroke="{colour}" stroke-width="1.4" stroke-opacity="0.45"/>'
    if not is_stopped:
        return line
    end = run.points[-1]
    return f'{line}<circle cx="{x(end.hours):.1f}" cy="{y(end.ordered):.1f}" r="2.6" fill="{STOPS}"/>'


def _text(
    x: float, y: float, text: str, *, size: int = 12, weight: int = 400, fill: str = INK, anchor: str = "start"
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" font-weight="{weight}" fill="{fill}" '
        f'text-anchor="{anchor}">{escape(text)}</text>'
    )
