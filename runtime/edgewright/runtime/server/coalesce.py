"""An endpoint that executes identical requests once while they are under way at one time.

The first one leads: it is executed, and those that come before it is answered get its outcome. What ends a leader for a
reason of its own (its client is gone, it waited too long, it was shed) ends no other: the next one that still waits
leads then. A model that failed has failed for all of them. A request that would give up sooner than the leader leads a
flight that nobody joins, since only the scheduler watches deadlines.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, field, replace

from .cache import Count
from .pipeline import Deliver, Endpoint, Job, Outcome, Signature
from .refusal import Refusal
from .request_key import request_key

_log = logging.getLogger(__name__)

_OWN_REASONS = frozenset({429, 499, 503, 504})
"""Statuses of a leader that say nothing of those that wait for the same."""

_Key = tuple[bytes, int]
_Waiting = list[tuple[Job, Deliver]]


@dataclass(slots=True, eq=False)
class _Flight:
    """One execution and those that wait for it."""

    key: _Key
    leader: Job
    deliver: Deliver
    followers: _Waiting = field(default_factory=list)


class Coalesced:
    """An `Endpoint` before a model. Requests of another priority are not the same."""

    def __init__(self, inner: Endpoint, count: Count) -> None:
        self.signature: Signature = inner.signature
        self._inner = inner
        self._count = count
        self._flights: dict[_Key, _Flight] = {}

    def submit(self, job: Job, deliver: Deliver) -> None:
        """See `pipeline.Endpoint`."""
        if job.sequence is not None:
            self._inner.submit(job, deliver)
            return
        key = (request_key(job), job.priority)
        flight = self._flights.get(key)
        if flight is None:
            self._begin(_Flight(key, job, deliver))
        elif _gives_up_ns(job) >= _gives_up_ns(flight.leader):
            flight.followers.append((job, deliver))
        else:
            self._inner.submit(job, deliver)

    def _begin(self, flight: _Flight) -> None:
        try:
            self._lead(flight)
        except BaseException:
            self._promote(flight)  # others may have joined it while the model was refusing it
            raise

    def _lead(self, flight: _Flight) -> None:
        self._flights[flight.key] = flight
        try:
            self._inner.submit(flight.leader, lambda outcome: self._landed(flight, outcome))
        except BaseException:
            self._flights.pop(flight.key, None)
            raise

    def _landed(self, flight: _Flight, outcome: Outcome) -> None:
        del self._flights[flight.key]
        if _of_its_own(flight.leader, outcome):
            self._promote(flight)
        else:
            for job, deliver in flight.followers:
                self._share(job, deliver, outcome)
        flight.deliver(outcome)

    def _share(self, job: Job, deliver: Deliver, outcome: Outcome) -> None:
        shared = replace(outcome, notes=dict(outcome.notes), shared=True)
        try:
            self._count(job, shared)
        except Exception:  # noqa: BLE001 - an answer that is not counted is still one
            _log.exception("a shared answer could not be counted")
        _tell(deliver, shared)

    def _promote(self, flight: _Flight) -> None:
        """Have the first of the followers lead that is taken. Who is not is told when that is settled.

        Whoever is told something may ask for the same again at once, and that must find the new flight.
        """
        refused: list[tuple[Deliver, Refusal]] = []
        waiting = flight.followers
        while waiting:
            job, deliver = waiting.pop(_first_to_give_up(waiting))
            try:
                self._lead(_Flight(flight.key, job, deliver, waiting))
            except Refusal as refusal:
                refused.append((deliver, refusal))
            except Exception:  # noqa: BLE001 - those behind it are answered all the same
                _log.exception("a request could not be handed on")
                refused.append((deliver, Refusal(500, "internal error; the server's log has the details")))
            else:
                break
        for deliver, why in refused:
            _tell(deliver, Outcome(None, why, self.signature.model, self.signature.version))


def _gives_up_ns(job: Job) -> float:
    return math.inf if job.deadline_ns is None else job.deadline_ns


def _first_to_give_up(waiting: _Waiting) -> int:
    """Place of the job that leads best: nobody has left it, and no other would give up sooner."""
    return min(range(len(waiting)), key=lambda place: (waiting[place][0].cancelled, _gives_up_ns(waiting[place][0])))


def _of_its_own(leader: Job, outcome: Outcome) -> bool:
    refusal = outcome.refusal
    return refusal is not None and not outcome.lost and (leader.cancelled or refusal.status in _OWN_REASONS)


def _tell(deliver: Deliver, outcome: Outcome) -> None:
    """Whoever cannot take an outcome takes none from the others."""
    try:
        deliver(outcome)
    except Exception:  # noqa: BLE001 - a protocol's matter, and only of this one request
        _log.exception("an outcome could not be delivered")
