"""Histograms as a line of block characters, for terminals."""

from __future__ import annotations

from collections.abc import Sequence

BLOCKS = " ▁▂▃▄▅▆▇█"
MOST_BARS = 24
"""More bins are joined with their neighbours."""


def bars(counts: Sequence[int]) -> str:
    """Return one character a bin; the highest bin is a full block, and a bin that holds anything is never blank."""
    step = -(-len(counts) // MOST_BARS) if counts else 1
    joined = [sum(counts[start : start + step]) for start in range(0, len(counts), step)]
    top = max(joined, default=0)
    if not top:
        return BLOCKS[0] * len(joined)
    return "".join(BLOCKS[-(-count * (len(BLOCKS) - 1) // top)] for count in joined)
