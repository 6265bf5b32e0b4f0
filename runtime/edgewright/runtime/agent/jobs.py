"""Steps that take time run on threads of their own, one after the other for each model."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Protocol, TypeVar

Cancelled = threading.Event
"""Set when nobody waits for the step any more."""

T = TypeVar("T")


class JobRunner(Protocol):
    """Runs steps; `done` is called on whatever thread the step ran."""

    def run(self, key: str, job: Callable[[], T], done: Callable[[T], None]) -> None:
        """Run a step after all earlier ones of the same key."""


class ThreadJobs:
    """The real one."""

    def __init__(self) -> None:
        self._last: dict[str, threading.Thread] = {}

    def run(self, key: str, job: Callable[[], T], done: Callable[[T], None]) -> None:
        before = self._last.get(key)

        def work() -> None:
            if before is not None:
                before.join()
            done(job())

        thread = threading.Thread(target=work, name=f"job-{key}", daemon=True)
        self._last[key] = thread
        thread.start()

    def join(self, timeout_s: float) -> None:
        """Wait for what was cancelled to end."""
        until_s = time.monotonic() + timeout_s
        for thread in tuple(self._last.values()):
            thread.join(max(0.0, until_s - time.monotonic()))


class InlineJobs:
    """The stand-in: the step is done when `run` returns."""

    def run(self, key: str, job: Callable[[], T], done: Callable[[T], None]) -> None:
        del key
        done(job())
