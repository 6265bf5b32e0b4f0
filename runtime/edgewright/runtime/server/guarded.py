"""An endpoint behind a breaker: what fails again and again is refused at once, until a try succeeds."""

from __future__ import annotations

import time
from collections.abc import Callable

from ..control import BreakerState
from .breaker import Breaker, Ticket
from .pipeline import Deliver, Endpoint, Job, Outcome, Signature
from .refusal import Refusal, not_now

Moved = Callable[[BreakerState, str, bool], None]
"""Told of each change: the state, the reason in words, and whether the model's process died."""

_MODEL_FAILED = 500
"""The one status that says that the model is at fault: not the request (4xx), not the load (429, 503, 504)."""

TurnAway = Callable[[int], Refusal | None]
"""The refusal that a job of so many rows would meet now for overload."""


def _turns_nobody_away(rows: int) -> None:
    del rows


class Guarded:
    """An `Endpoint` before a model.

    `overload` says whom the model itself would turn away. Where answers are cached or shared it is not asked: only the
    body tells whether a request needs the model at all.
    """

    def __init__(
        self, inner: Endpoint, breaker: Breaker, moved: Moved, overload: TurnAway = _turns_nobody_away
    ) -> None:
        self.signature: Signature = inner.signature
        self.breaker = breaker
        self._inner = inner
        self._moved = moved
        self._overload = overload
        self._told: BreakerState = breaker.state
        self._reason = "it failed before this server was started"

    def submit(self, job: Job, deliver: Deliver) -> None:
        """See `pipeline.Endpoint`; 503 with Retry-After while the breaker is open."""
        breaker = self.breaker
        closed = breaker.state == "closed"
        ticket = breaker.admit(0.0 if closed else time.monotonic())
        if ticket is None:
            raise self._refusal()

        def done(outcome: Outcome) -> None:
            if outcome.refusal is not None or breaker.state != "closed" or breaker.failures:
                self._settle(ticket, outcome)
            deliver(outcome)

        if not closed:
            self._tell()
        try:
            self._inner.submit(job, done)
        except BaseException:
            breaker.release(ticket)
            raise

    def turn_away(self, rows: int = 1) -> Refusal | None:
        """The refusal that a job would meet now: whoever asks before reading a body spares that work.

        None is no promise. One who is turned away is counted as shed where that is for overload.
        """
        if self.breaker.state != "closed" and (refusal := self.left_alone()) is not None:
            return refusal
        return self._overload(rows)

    def left_alone(self) -> Refusal | None:
        """The refusal that a job would meet now for the breaker's sake."""
        if self.breaker.state == "closed" or self.breaker.admits(time.monotonic()):
            return None
        return self._refusal()

    def lost(self, reason: str) -> None:
        """The model's process is gone."""
        self._reason = reason
        self.breaker.lost(time.monotonic())
        self._tell(crashed=True)

    def back(self) -> None:
        """The model's process runs again."""
        self.breaker.back(time.monotonic())
        self._tell()

    def _settle(self, ticket: Ticket, outcome: Outcome) -> None:
        now_s = time.monotonic()
        refusal = outcome.refusal
        if outcome.shared:
            self.breaker.release(ticket)
        elif outcome.lost and refusal is not None:
            self._reason = refusal.message
            self.breaker.lost(now_s, ticket)
        elif refusal is None:
            self.breaker.succeeded(ticket, now_s)
        elif refusal.status == _MODEL_FAILED:
            self._reason = f"it failed {self.breaker.failures + 1} times in a row, at last: {refusal.message}"
            self.breaker.failed(ticket, now_s)
        else:
            self.breaker.release(ticket)
        self._tell(crashed=outcome.lost)

    def _tell(self, *, crashed: bool = False) -> None:
        if self.breaker.state != self._told:
            self._told = self.breaker.state
            self._moved(self._told, self._reason if self._told == "open" else "", crashed)

    def _refusal(self) -> Refusal:
        name = self.signature.model
        left_s = self.breaker.pause_left_s(time.monotonic())
        if self.breaker.state == "half_open":
            return not_now(f"model '{name}' has failed and is being tried with another request")
        return not_now(f"model '{name}' is left alone for a while: {self._reason}", left_s)
