"""When a model that fails is left alone for a while. Pure: the time is an argument, the moves are a table.

Closed, jobs pass. Open, none does, for a pause that doubles each time the model fails again. Half-open, one job at a
time passes to try the model: its success closes the breaker, its failure opens it for longer.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Final

from ..control import BreakerState
from ..serving import BreakerSettings


class Event(Enum):
    """What a breaker is told, or finds."""

    SUCCESS = auto()
    FAILURE = auto()
    """The model failed, less often in a row than the settings allow."""
    LIMIT = auto()
    """The model failed as often in a row as the settings allow."""
    LOST = auto()
    """The process that runs the model is gone."""
    BACK = auto()
    """That process runs again and has proved itself."""
    PAUSE_OVER = auto()


_MOVES: Final[dict[tuple[BreakerState, Event], BreakerState]] = {
    ("closed", Event.SUCCESS): "closed",
    ("closed", Event.FAILURE): "closed",
    ("closed", Event.LIMIT): "open",
    ("closed", Event.LOST): "open",
    ("closed", Event.BACK): "closed",
    ("open", Event.LOST): "open",
    ("open", Event.BACK): "half_open",
    ("open", Event.PAUSE_OVER): "half_open",
    ("half_open", Event.SUCCESS): "closed",
    ("half_open", Event.FAILURE): "open",
    ("half_open", Event.LIMIT): "open",
    ("half_open", Event.LOST): "open",
    ("half_open", Event.BACK): "half_open",
}

Ticket = int
"""Names the period between two moves in which a job was admitted: what it ends with says nothing of a later period."""


class Breaker:
    """The breaker of one model. Times are seconds of any one clock that does not go back."""

    __slots__ = ("_openings", "_period", "_probing", "_settings", "away", "failures", "open_until_s", "state")

    def __init__(self, settings: BreakerSettings, state: BreakerState = "closed") -> None:
        self._settings = settings
        self.state: BreakerState = state
        self.failures = 0
        """Failed jobs in a row."""
        self.open_until_s = 0.0
        self.away = False
        """Whether the process that runs the model is gone: then only its return ends the pause."""
        self._openings = 0
        self._period: Ticket = 0
        self._probing = False

    def admit(self, now_s: float) -> Ticket | None:
        """Return the ticket of a job that may pass; None where the model is left alone."""
        if self.state == "closed":
            return self._period
        if self.state == "open" and not self.away and now_s >= self.open_until_s:
            self._move(Event.PAUSE_OVER, now_s)
        if self.state == "open" or self._probing:
            return None
        self._probing = True
        return self._period

    def admits(self, now_s: float) -> bool:
        """Whether `admit` would give a ticket now; nothing changes."""
        if self.state == "open":
            return not self.away and now_s >= self.open_until_s
        return not self._probing

    def release(self, ticket: Ticket) -> None:
        """A job ended in a way that says nothing of the model: refused, shed, cancelled, expired."""
        if ticket == self._period:
            self._probing = False

    def succeeded(self, ticket: Ticket, now_s: float) -> None:
        """A job was answered."""
        if ticket == self._period:
            self.failures = 0
            self._move(Event.SUCCESS, now_s)

    def failed(self, ticket: Ticket, now_s: float) -> None:
        """The model failed at a job."""
        if ticket == self._period:
            self.failures += 1
            self._move(Event.LIMIT if self.failures >= self._settings.failures else Event.FAILURE, now_s)

    def lost(self, now_s: float, ticket: Ticket | None = None) -> None:
        """The process that runs the model is gone; `ticket` is that of the job that found it, if one did.

        A job may tell so after the process is back already. So only whoever looks after the process, and will tell of
        its return, makes it `away`.
        """
        if ticket not in {None, self._period}:
            return
        self.away = self.away or ticket is None
        if self.state != "open":
            self.failures += 1
            self._move(Event.LOST, now_s)

    def back(self, now_s: float) -> None:
        """That process runs again: it may be tried, whatever is left of the pause."""
        self.away = False
        self._move(Event.BACK, now_s)

    def pause_left_s(self, now_s: float) -> float:
        """Seconds until a job may be tried; 0 where one may now."""
        return max(0.0, self.open_until_s - now_s) if self.state == "open" else 0.0

    def _move(self, event: Event, now_s: float) -> None:
        following = _MOVES[self.state, event]
        if following == self.state:
            return
        self.state = following
        self._period += 1
        self._probing = False
        if following == "open":
            doubled_s = self._settings.open_s * 2.0 ** min(self._openings, 40)
            self.open_until_s = now_s + min(doubled_s, self._settings.max_open_s)
            self._openings += 1
        elif following == "closed":
            self._openings = 0
