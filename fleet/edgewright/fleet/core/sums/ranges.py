"""Sets of whole numbers as ranges: sorted, disjoint, not adjacent, each (first, last) with both included."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable

Ranges = tuple[tuple[int, int], ...]


def union(ranges: Ranges, numbers: Iterable[int]) -> Ranges:
    """Return the ranges with these numbers in them."""
    merged: list[tuple[int, int]] = []
    for low, high in sorted([*ranges, *((number, number) for number in numbers)]):
        if merged and low <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(merged[-1][1], high))
        else:
            merged.append((low, high))
    return tuple(merged)


def holds(ranges: Ranges, number: int) -> bool:
    """Tell whether a number is in one of the ranges."""
    place = bisect_right(ranges, number, key=lambda each: each[0])
    return place > 0 and number <= ranges[place - 1][1]
