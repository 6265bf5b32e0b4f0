"""Cost per device against the size of the fleet, as an SVG."""

from __future__ import annotations

import math
from collections.abc import Mapping

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 760, 400, 70, 110, 60, 50
COLOURS = ("#1f77b4", "#d1495b", "#2a9d5c", "#8a6d3b")
INK, SOFT, GRID = "#1f2933", "#6b7785", "#e3e7eb"


def plot(seconds: Mapping[str, Mapping[int, float]]) -> str:
    """Return the picture: one line for each name, microseconds per device over devices (logarithmic)."""
    costs = {name: {size: 1e6 * value / size for size, value in each.items()} for name, each in seconds.items()}
    sizes = sorted({size for each in costs.values() for size in each})
    values = [value for each in costs.values() for value in each.values()]
    step = 10.0 ** math.floor(math.log10(max(values)))
    high = step * math.ceil(max(values) / step)

    def x(size: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * math.log(size / sizes[0]) / math.log(sizes[-1] / sizes[0])

    def y(value: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * value / high

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="system-ui, sans-serif">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
        _text(LEFT, 26, "One decision over a fleet: cost of a device", 16, INK, "start"),
        _text(LEFT, 44, "microseconds per device, by devices in the fleet; flat is good", 12, SOFT, "start"),
    ]
    for number in range(5):
        at = y(high * number / 4)
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}" stroke="{GRID}"/>')
        parts.append(_text(LEFT - 8, at + 4, f"{high * number / 4:g}", 12, SOFT, "end"))
    parts += [_text(x(size), HEIGHT - BOTTOM + 20, f"{size:,}", 12, SOFT, "middle") for size in sizes]
    for (name, each), colour in zip(costs.items(), COLOURS, strict=False):
        points = [(x(size), y(value)) for size, value in sorted(each.items())]
        line = " ".join(f"{across:.1f},{up:.1f}" for across, up in points)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [
            f'<circle cx="{x(size):.1f}" cy="{y(value):.1f}" r="3" fill="{colour}"/>' for size, value in each.items()
        ]
        last = each[sizes[-1]]
        total = seconds[name][sizes[-1]]
        parts.append(_text(x(sizes[-1]) + 10, y(last) + 4, f"{name}: {total:.2f} s", 12, colour, "start"))
    return "\n".join((*parts, "</svg>")) + "\n"


def _text(x: float, y: float, text: str, size: int, fill: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="{fill}" text-anchor="{anchor}">{text}</text>'
