"""Fewer processors for all threads of this process: what caps an engine's threads without starting it anew."""

from __future__ import annotations

import os
from pathlib import Path


class CpuCap:
    """Takes processors away and gives them back. Threads that are started meanwhile inherit what their parent has."""

    def __init__(self, tasks: Path = Path("/proc/self/task")) -> None:
        self._tasks = tasks
        self._own = os.sched_getaffinity(0)
        self._before: dict[int, set[int]] = {}
        self._count: int | None = None

    def apply(self, count: int | None) -> None:
        """Let all threads together use at most `count` processors; None gives back what was taken."""
        allowed = self._own if count is None else set(sorted(self._own)[:count])
        for thread in self._threads():
            try:
                before = self._before.setdefault(thread, self._affinity(thread))
                os.sched_setaffinity(thread, before if count is None else before & allowed or allowed)
            except OSError:  # the thread has ended, or the system forbids it
                continue
        self._count = count
        if count is None:
            self._before.clear()

    def _affinity(self, thread: int) -> set[int]:
        """What a thread had before it was capped; one that was started since has only its parent's rest."""
        return os.sched_getaffinity(thread) if self._count is None else self._own

    def _threads(self) -> list[int]:
        return [int(path.name) for path in self._tasks.iterdir() if path.name.isdigit()]
