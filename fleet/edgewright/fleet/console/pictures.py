"""Histograms as pictures: the geometry of an SVG, in numbers. The template draws it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from edgewright.bundle.reference import Histogram

WIDTH, HEIGHT = 240.0, 72.0
MOST_BARS = 32
"""More bins are joined with their neighbours: narrower bars cannot be told apart."""


class Bar(msgspec.Struct, frozen=True, kw_only=True):
    """One bin: the live bar, and the height at which the reference line runs."""

    x: float
    width: float
    live_y: float
    live_height: float
    reference_y: float
    title: str


class Picture(msgspec.Struct, frozen=True, kw_only=True):
    """Live bars with the reference as a stepped line over them."""

    bars: tuple[Bar, ...]
    reference_path: str
    low: str
    """Label under the left end."""
    high: str


def draw(histogram: Histogram, live: Sequence[int]) -> Picture:
    """Draw live counts over the reference's, both as shares."""
    live_shares, reference_shares = _shares(_join(live)), _shares(_join(histogram.counts))
    top = max((*live_shares, *reference_shares), default=0.0) or 1.0
    labels = _labels(histogram)
    width = WIDTH / max(1, len(live_shares))
    bars = tuple(
        Bar(
            x=round(place * width, 2),
            width=round(width, 2),
            live_y=_y(here, top),
            live_height=round(HEIGHT - _y(here, top), 2),
            reference_y=_y(there, top),
            title=f"{labels[place]}: live {100 * here:.1f} %, reference {100 * there:.1f} %",
        )
        for place, (here, there) in enumerate(zip(live_shares, reference_shares, strict=True))
    )
    return Picture(bars=bars, reference_path=_path(bars), low=labels[0], high=labels[-1])


def _path(bars: Sequence[Bar]) -> str:
    steps = "".join(f"V{bar.reference_y:g}H{bar.x + bar.width:.2f}" for bar in bars)
    return f"M0 {HEIGHT:g}{steps}V{HEIGHT:g}"


def _y(share: float, top: float) -> float:
    return round(HEIGHT - share / top * (HEIGHT - 4), 2)


def _shares(counts: Sequence[int]) -> list[float]:
    samples = sum(counts)
    return [count / samples if samples else 0.0 for count in counts]


def _step(bins: int) -> int:
    return -(-bins // MOST_BARS)


def _join(counts: Sequence[int]) -> list[int]:
    step = _step(len(counts))
    return [sum(counts[start : start + step]) for start in range(0, len(counts), step)]


def _labels(histogram: Histogram) -> list[str]:
    bins = len(histogram.counts)
    step = _step(bins)
    return [_label(histogram, start, min(start + step, bins) - 1) for start in range(0, bins, step)]


def _label(histogram: Histogram, first: int, last: int) -> str:
    if histogram.kind == "categorical":
        return f"{first}" if first == last else f"{first}-{last}"
    edges = histogram.edges
    if not edges:
        return "all"
    if first == 0:
        return f"< {edges[last]:.3g}" if last < len(edges) else "all"
    low = edges[first - 1]
    if last >= len(edges):
        return f"> {edges[first - 2]:.3g}" if first > 1 and _single(edges[first - 2], low) else f">= {low:.3g}"
    return f"{low:.3g}" if _single(low, edges[last]) else f"{low:.3g} to {edges[last]:.3g}"


def _single(low: float, high: float) -> bool:
    """Tell whether a bin holds one value only: the calibration gives a value that many samples share its own bin."""
    return math.nextafter(low, math.inf) == high
