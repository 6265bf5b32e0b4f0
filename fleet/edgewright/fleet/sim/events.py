"""Virtual time: a queue of what happens when. Nothing sleeps, and the same seed gives the same order."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable


class Events:
    """`now_s` is the time of the event that runs; time stands still while it does."""

    def __init__(self, start_s: float) -> None:
        self.now_s = start_s
        self.run_so_far = 0
        self._count = itertools.count()
        self._queue: list[tuple[float, int, Callable[[], None]]] = []

    def __call__(self) -> float:
        """Return the time: this object is a clock."""
        return self.now_s

    def __len__(self) -> int:
        return len(self._queue)

    def after(self, delay_s: float, do: Callable[[], None]) -> None:
        """Have something done later. What is due at one moment is done in the order in which it was asked for."""
        heapq.heappush(self._queue, (self.now_s + delay_s, next(self._count), do))

    @property
    def next_s(self) -> float | None:
        """When something is due next; None where nothing is."""
        return self._queue[0][0] if self._queue else None

    def leap(self, span_s: float) -> None:
        """Let time pass in which nothing is done: all that was due meanwhile is done at its end, in its order."""
        self.now_s += span_s

    def run_next(self) -> bool:
        """Do what is due next; False where nothing is."""
        if not self._queue:
            return False
        at_s, _, do = heapq.heappop(self._queue)
        self.now_s = max(self.now_s, at_s)
        self.run_so_far += 1
        do()
        return True

    def run_until(self, until_s: float) -> None:
        """Do all that is due up to a time, then stand at it."""
        while self._queue and self._queue[0][0] <= until_s:
            self.run_next()
        self.now_s = max(self.now_s, until_s)
