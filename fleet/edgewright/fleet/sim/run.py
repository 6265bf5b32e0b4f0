"""What came of one rehearsal."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import msgspec

from .detectable import Stage

MOST_POINTS = 200


class Point(msgspec.Struct, frozen=True, array_like=True):
    """How far a run was at one time."""

    hours: float
    ordered: int
    failed: int


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """What came of one rehearsal."""

    seed: int
    state: str
    reason: str
    hours: float
    """To the end; of a run that was stopped: until every device was back."""
    ordered: int
    """Devices that got the release."""
    failed: int
    exposed: int
    """Devices that got the release on a board where it is bad, before it was stopped: the devices at risk."""
    bytes_sent: int
    halted: tuple[str, ...]
    """Boards that were stopped while others went on."""
    stopped_by: str
    waves: tuple[int, ...]
    """Devices that each wave added."""
    stages: tuple[Stage, ...]
    """What was known at the end of each wave."""
    points: tuple[Point, ...]
    decisions: tuple[str, ...]
    ticks: int


def thinned(points: Sequence[Point]) -> tuple[Point, ...]:
    """Keep the points at which something changed, at most `MOST_POINTS` of them, and the last."""
    changed = [
        after for before, after in pairwise(points) if (before.ordered, before.failed) != (after.ordered, after.failed)
    ]
    step = -(-len(changed) // MOST_POINTS) if changed else 1
    return (points[0], *changed[::step], points[-1])
