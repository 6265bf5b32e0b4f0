"""Repairs in words: what costs time is told apart from what costs nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from .repairs import CALIBRATORS, FLOAT_REPAIR, WIDE_REPAIR

RANGE = "range"
OTHER_WEIGHTS = "with other weight scales"
COSTLY = (f"in {FLOAT_REPAIR}", f"in {WIDE_REPAIR}", OTHER_WEIGHTS)
"""Kinds of repairs that may cost time, in the order in which they are told."""


def repairs_in_words(repairs: Mapping[str, str]) -> str:
    """`2 operators in float; 5 other ranges, at no cost`; given are names of repairs, by operator."""
    kinds = Counter(map(_kind, repairs.values()))
    parts = [f"{kinds[kind]} operator{'s' if kinds[kind] > 1 else ''} {kind}" for kind in COSTLY if kinds[kind]]
    if kinds[RANGE]:
        parts.append(f"{kinds[RANGE]} other range{'s' if kinds[RANGE] > 1 else ''}, at no cost")
    return "; ".join(parts) or "the plan as it is"


def _kind(repair: str) -> str:
    if repair in {FLOAT_REPAIR, WIDE_REPAIR}:
        return f"in {repair}"
    return RANGE if repair in CALIBRATORS else OTHER_WEIGHTS
