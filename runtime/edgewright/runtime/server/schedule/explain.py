"""Why the last batches were formed as they were: what GET /v2/models/{name}/explain prints."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from .policy import Reason

KEPT = 64

Decision = tuple[int, int, int, Reason, int, int, int, float, int, int]
"""When it was taken; rows; jobs; reason; wait of the first job and of the last; rows left waiting; expected and taken
time; dead jobs that were found on the way. Times in nanoseconds."""


class Decisions:
    """A ring of the last batches."""

    __slots__ = ("_ring", "keep")

    def __init__(self) -> None:
        self._ring: deque[Decision] = deque(maxlen=KEPT)
        self.keep: Callable[[Decision], None] = self._ring.append

    def as_json(self, now_ns: int) -> list[dict[str, Any]]:
        """Return the batches, newest first."""
        return [
            {
                "ago_ms": _ms(now_ns - when_ns),
                "rows": rows,
                "jobs": jobs,
                "why": str(reason),
                "first_waited_ms": _ms(first_ns),
                "last_waited_ms": _ms(last_ns),
                "rows_left_waiting": left_rows,
                "expected_ms": _ms(expected_ns),
                "took_ms": _ms(took_ns),
                "dropped_before": dropped,
            }
            for (
                when_ns,
                rows,
                jobs,
                reason,
                first_ns,
                last_ns,
                left_rows,
                expected_ns,
                took_ns,
                dropped,
            ) in reversed(self._ring)
        ]


def _ms(ns: float) -> float:
    return round(ns / 1e6, 4)
