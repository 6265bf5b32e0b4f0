"""The timers of one subject, which end together."""

from __future__ import annotations

from collections.abc import Callable

from .loop import Scheduler, Timer


class Timers:
    """Lives on the agent's loop."""

    def __init__(self, loop: Scheduler) -> None:
        self._loop = loop
        self._timers: list[Timer] = []

    def later(self, delay_s: float, call: Callable[[], None]) -> None:
        """Call after so many seconds, unless `cancel` comes first."""
        self._timers = [timer for timer in self._timers if not timer.cancelled]
        self._timers.append(self._loop.call_later(delay_s, call))

    def cancel(self) -> None:
        """None of those calls is made."""
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
