"""A route's other place for hot times: a smaller model that keeps the board from throttling."""

from __future__ import annotations

from collections.abc import Callable

from ..pipeline import Deliver, Endpoint, Job, Signature
from ..refusal import Refusal
from .legs import Leg


class HotSwitch:
    """An `Endpoint` before a route. While it is hot, jobs go to one leg instead, if that is there and fits.

    Steps of a sequence stay where their state is.
    """

    def __init__(self, route: Endpoint, leg: Leg, hot: Callable[[], bool]) -> None:
        self._route = route
        self._leg = leg
        self._hot = hot

    @property
    def signature(self) -> Signature:
        return self._route.signature

    def submit(self, job: Job, deliver: Deliver) -> None:
        endpoint = self._instead(job)
        if endpoint is None:
            self._route.submit(job, deliver)
        else:
            self._leg.submit(endpoint, job, deliver)

    def _instead(self, job: Job) -> Endpoint | None:
        if job.sequence is not None or not self._hot():
            return None
        try:
            return self._leg.opened(self._route.signature)
        except Refusal:
            return None
