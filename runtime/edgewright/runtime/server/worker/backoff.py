"""How long to wait before a worker that ended is started again. Pure."""

from __future__ import annotations

FIRST_S = 0.1
MAX_S = 30.0
STEADY_S = 60.0
"""A worker that lived for so long did not end because of how it was started."""


class Backoff:
    """Pauses that double with each early end in a row."""

    def __init__(self) -> None:
        self._in_a_row = 0

    def ended(self, lived_s: float) -> float:
        """Note an end; returns the pause before the next start, in seconds."""
        self._in_a_row = 1 if lived_s >= STEADY_S else self._in_a_row + 1
        return float(min(MAX_S, FIRST_S * 2 ** min(self._in_a_row - 1, 20)))
