"""Joules per inference: what the board used while rows were executed, over those rows."""

from __future__ import annotations

from collections import deque

WINDOW_S = 60.0


class JoulesPerRow:
    """Over the last minute. It is the board's energy, whatever else runs there and its idle power included."""

    def __init__(self) -> None:
        self._points: deque[tuple[float, float, int]] = deque()

    def add(self, now_s: float, joules: float, rows: int) -> None:
        """Both are totals that grow; rows that shrink (a model left) begin a new window."""
        if self._points and rows < self._points[-1][2]:
            self._points.clear()
        self._points.append((now_s, joules, rows))
        while now_s - self._points[0][0] > WINDOW_S:
            self._points.popleft()

    @property
    def value(self) -> float | None:
        """None where no row was executed or no energy was counted."""
        if not self._points:
            return None
        _, joules, rows = self._points[0]
        executed = self._points[-1][2] - rows
        used = self._points[-1][1] - joules
        return used / executed if executed > 0 and used > 0 else None
