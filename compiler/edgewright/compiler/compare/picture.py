"""The layers as a bar chart in SVG, written by hand: it opens in any browser and needs no library.

One row per layer in the order of the graph; the bar is the SNR from the inputs on, the mark the layer's own.
"""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from .report import Comparison, LayerDifference, shortened

WIDTH = 960
LABEL_WIDTH = 330
VALUE_WIDTH = 130
ROW_HEIGHT = 20
BAR_HEIGHT = 13
TOP = 96
BOTTOM = 24
SCALE_DB = 80
"""Bars end here: what is better is as good as equal in float32."""
STEP_DB = 10
MAX_LABEL_CHARACTERS = 46
"""Name and operator together."""
WORST = 3

FONTS = "ui-sans-serif, system-ui, Helvetica, Arial, sans-serif"
INK, FAINT, GRID, BAR, WORST_BAR, MARK = "#1b1f24", "#57606a", "#d8dee4", "#4a7fb5", "#c0392b", "#e08a00"


def draw(comparison: Comparison) -> str:
    """The picture as SVG text."""
    height = TOP + ROW_HEIGHT * len(comparison.layers) + BOTTOM
    worst = {layer.name for layer in comparison.worst_first[:WORST]}
    size = f'width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}"'
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="{FONTS}" font-size="12">',
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        *_heading(comparison),
        *_axis(height),
    ]
    for index, layer in enumerate(comparison.layers):
        lines += _row(layer, TOP + ROW_HEIGHT * index, worst=layer.name in worst)
    return "\n".join([*lines, "</svg>", ""])


def _heading(comparison: Comparison) -> Iterator[str]:
    left, right = (escape(shortened(label, 60)) for label in (comparison.left, comparison.right))
    yield f'<text x="16" y="26" font-size="16" font-weight="600" fill="{INK}">{right} against {left}</text>'
    outputs = ", ".join(
        f"{escape(shortened(output.counterpart, 24))} {output.exact_snr_db:.1f} dB exactly, "
        f"{output.engine_snr_db:.1f} dB in the engine here"
        for output in comparison.outputs[:2]
    )
    text = f"{comparison.samples} samples. Outputs: {outputs or 'not comparable'}"
    yield f'<text x="16" y="46" fill="{FAINT}">{text}</text>'
    yield f'<rect x="16" y="56" width="18" height="9" fill="{BAR}"/>'
    yield f'<text x="40" y="65" fill="{INK}">SNR from the inputs on</text>'
    yield f'<rect x="190" y="56" width="18" height="9" fill="{WORST_BAR}"/>'
    yield f'<text x="214" y="65" fill="{INK}">the {WORST} worst</text>'
    yield f'<rect x="300" y="54" width="3" height="13" fill="{MARK}"/>'
    yield f'<text x="309" y="65" fill="{INK}">SNR of the layer by itself</text>'


def _axis(height: int) -> Iterator[str]:
    for level in range(0, SCALE_DB + 1, STEP_DB):
        x = _x(level)
        yield f'<line x1="{x:.1f}" y1="{TOP - 6}" x2="{x:.1f}" y2="{height - BOTTOM}" stroke="{GRID}"/>'
        text = f"{level} dB" if level in {0, SCALE_DB} else str(level)
        yield f'<text x="{x:.1f}" y="{TOP - 10}" text-anchor="middle" fill="{FAINT}">{text}</text>'


def _row(layer: LayerDifference, top: int, *, worst: bool) -> Iterator[str]:
    middle = top + ROW_HEIGHT / 2
    baseline = middle + 4
    label = escape(shortened(layer.name, MAX_LABEL_CHARACTERS - min(len(layer.operator), 20)))
    title = f"{layer.name} ({layer.operator}), matched by {layer.matched_by} with {layer.counterpart}"
    yield f"<g><title>{escape(shortened(title, len(title)))}</title>"
    yield (
        f'<text x="{LABEL_WIDTH - 10}" y="{baseline:.1f}" text-anchor="end" fill="{INK}">{label} '
        f'<tspan fill="{FAINT}">{escape(shortened(layer.operator, 20))}</tspan></text>'
    )
    width = _x(layer.snr_db) - _x(0)
    y = middle - BAR_HEIGHT / 2
    colour = WORST_BAR if worst else BAR
    yield f'<rect x="{_x(0):.1f}" y="{y:.1f}" width="{width:.1f}" height="{BAR_HEIGHT}" fill="{colour}"/>'
    if layer.local_snr_db is not None:
        x = _x(layer.local_snr_db) - 1.5
        yield f'<rect x="{x:.1f}" y="{y - 1:.1f}" width="3" height="{BAR_HEIGHT + 2}" fill="{MARK}"/>'
    value = "equal" if layer.snr_db >= 200 else f"{layer.snr_db:.1f}"
    if layer.local_snr_db is not None and layer.local_snr_db < 200:
        value += f" ({layer.local_snr_db:.1f})"
    yield f'<text x="{WIDTH - VALUE_WIDTH + 12}" y="{baseline:.1f}" fill="{INK}">{value}</text></g>'


def _x(level_db: float) -> float:
    share = max(0.0, min(1.0, level_db / SCALE_DB))
    return LABEL_WIDTH + share * (WIDTH - LABEL_WIDTH - VALUE_WIDTH)
