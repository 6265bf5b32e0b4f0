"""Fallback: the first of a chain that can answer does."""

from __future__ import annotations

from ..pipeline import Deliver, Job, Outcome, Signature
from ..refusal import Refusal
from .legs import SERVER_ERROR, Clock, Lead, Leg, refused


def goes_on(status: int, job: Job, now_ns: int) -> bool:
    """Whether the next place is asked: the server is at fault, someone still waits, and no state lies with the first.

    A breaker that is open, a full queue and a model that is not loaded are all 503.
    """
    in_time = job.deadline_ns is None or now_ns < job.deadline_ns
    return status >= SERVER_ERROR and in_time and not job.cancelled and job.sequence is None


class FallbackRoute:
    """An `Endpoint`."""

    def __init__(self, name: str, legs: tuple[Leg, ...], clock: Clock) -> None:
        self._name = name
        self._legs = legs
        self._lead = Lead(name, legs)
        self._clock = clock
        self._next = 0
        self._exhausted = 0

    @property
    def signature(self) -> Signature:
        return self._lead.signature

    def submit(self, job: Job, deliver: Deliver) -> None:
        self._ask(0, self._lead.signature, job, deliver)

    def statistics(self) -> dict[str, object]:
        return {"kind": "fallback", "fell_back": self._next, "exhausted": self._exhausted}

    def _ask(self, first: int, lead: Signature, job: Job, deliver: Deliver) -> None:
        """Hand the job to the first place from `first` on that takes it; raises the last's refusal."""
        for index in range(first, len(self._legs)):
            leg = self._legs[index]
            try:
                leg.submit(leg.opened(lead), job, self._judge(index, lead, job, deliver))
            except Refusal as refusal:
                if not self._has_next(index, refusal.status, job):
                    raise
                continue
            return

    def _judge(self, index: int, lead: Signature, job: Job, deliver: Deliver) -> Deliver:
        def answered(outcome: Outcome) -> None:
            if outcome.refusal is None or not self._has_next(index, outcome.refusal.status, job):
                deliver(outcome)
                return
            try:
                self._ask(index + 1, lead, job, deliver)
            except Refusal as refusal:
                deliver(refused(refusal, self._name))

        return answered

    def _has_next(self, index: int, status: int, job: Job) -> bool:
        if not goes_on(status, job, self._clock()):
            return False
        last = index + 1 == len(self._legs)
        self._exhausted += last
        self._next += not last
        return not last
