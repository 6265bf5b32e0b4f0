"""How far a spool has arrived. Pure.

A `Mark` says that every record up to `upto` is stored (or known to be lost), and which ranges beyond it came early. Its
result does not depend on the order in which ranges arrive, nor on how often.
"""

from __future__ import annotations

import msgspec

MAX_RANGES_AHEAD = 64
"""More early ranges are forgotten, farthest first. They are not acknowledged, so the device sends them again."""


class Mark(msgspec.Struct, frozen=True, kw_only=True):
    """`upto` is what an acknowledgement may name."""

    upto: int = 0
    ahead: tuple[tuple[int, int], ...] = ()
    """Sorted, disjoint, not adjacent; each is (first, last), both included."""


def advance(mark: Mark, first: int, last: int) -> Mark:
    """Return the mark after the records `first` to `last` (both included) arrived or were reported lost."""
    if last < first:
        return mark
    merged: list[tuple[int, int]] = []
    for low, high in sorted([(0, mark.upto), *mark.ahead, (first, last)]):
        if merged and low <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(merged[-1][1], high))
        else:
            merged.append((low, high))
    return Mark(upto=merged[0][1], ahead=tuple(merged[1 : 1 + MAX_RANGES_AHEAD]))
