"""An endpoint that executes identical requests once while they are under way at one time.

The first one leads: it is executed, and those that come before it is answered get its outcome. What ends a leader for a
reason of its own (its client is gone, it waited too long, it was shed) ends no other: the next one that still waits
leads then. A model that failed has failed for all of them.
"""

from __future__ import annotations

from dataclasses import replace

from .cache import Count
from .pipeline import Deliver, Endpoint, Job, Outcome, Signature
from .refusal import Refusal
from .request_key import request_key

_OWN_REASONS = frozenset({429, 499, 503, 504})
"""Statuses of a leader that say nothing of those that wait for the same."""

_Key = tuple[bytes, int]
_Waiting = list[tuple[Job, Deliver]]


class Coalesced:
    """An `Endpoint` before a model. Requests of another priority are not the same."""

    def __init__(self, inner: Endpoint, count: Count) -> None:
        self.signature: Signature = inner.signature
        self._inner = inner
        self._count = count
        self._flights: dict[_Key, _Waiting] = {}

    def submit(self, job: Job, deliver: Deliver) -> None:
        """See `pipeline.Endpoint`."""
        if job.sequence is not None:
            self._inner.submit(job, deliver)
            return
        key = (request_key(job), job.priority)
        followers = self._flights.get(key)
        if followers is None:
            self._lead(key, job, deliver, [])
        else:
            followers.append((job, deliver))

    def _lead(self, key: _Key, leader: Job, deliver: Deliver, followers: _Waiting) -> None:
        self._flights[key] = followers
        try:
            self._inner.submit(leader, lambda outcome: self._landed(key, leader, deliver, outcome))
        except Refusal:
            del self._flights[key]
            raise

    def _landed(self, key: _Key, leader: Job, deliver: Deliver, outcome: Outcome) -> None:
        followers = self._flights.pop(key)
        if followers and _of_its_own(leader, outcome):
            self._promote(key, followers)
        else:
            for job, each in followers:
                shared = replace(outcome, notes=dict(outcome.notes))
                self._count(job, shared)
                each(shared)
        deliver(outcome)

    def _promote(self, key: _Key, waiting: _Waiting) -> None:
        while waiting:
            place = next((place for place, (job, _) in enumerate(waiting) if not job.cancelled), 0)
            job, deliver = waiting.pop(place)
            try:
                self._lead(key, job, deliver, waiting)
            except Refusal as refusal:
                deliver(Outcome(None, refusal, self.signature.model, self.signature.version))
            else:
                return


def _of_its_own(leader: Job, outcome: Outcome) -> bool:
    refusal = outcome.refusal
    return refusal is not None and not outcome.lost and (leader.cancelled or refusal.status in _OWN_REASONS)
