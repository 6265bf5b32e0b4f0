"""Canary: a small part of the jobs goes to a newcomer, until that is seen to be worse."""

from __future__ import annotations

import logging
from collections.abc import Callable

from ...routes import Canary
from ..pipeline import Deliver, Endpoint, Job, Outcome, Signature
from ..refusal import Refusal
from .evidence import Evidence, RunningMedian
from .fallback import goes_on
from .legs import SERVER_ERROR, Clock, Lead, Leg, failed, refused
from .sticky import sticky_key, unit

_log = logging.getLogger(__name__)


class CanaryRoute:
    """An `Endpoint`. A job that the canary fails is done by the primary: clients pay with time, not with errors."""

    def __init__(
        self, name: str, settings: Canary, legs: tuple[Leg, ...], random: Callable[[], float], clock: Clock
    ) -> None:
        self._name = name
        self._settings = settings
        self._primary, self._canary = legs
        self._lead = Lead(name, legs[:1])
        self._random = random
        self._clock = clock
        self._median = RunningMedian()
        self._errors = Evidence(settings.fraction, settings.false_alarm / 2)
        self._slow = Evidence(settings.fraction, settings.false_alarm / 2)
        self.given_up: str | None = None
        """Why the canary gets no jobs any more."""

    @property
    def signature(self) -> Signature:
        return self._lead.signature

    def submit(self, job: Job, deliver: Deliver) -> None:
        canary = self._canary_for(job)
        if canary is None:
            self._ask_primary(job, deliver)
            return
        try:
            self._canary.submit(canary, job, self._judge_canary(job, deliver))
        except Refusal as refusal:
            self._failed(refusal.status, newcomer=True)
            if not goes_on(refusal.status, job, self._clock()):
                raise
            self._ask_primary(job, deliver, judged=False)

    def statistics(self) -> dict[str, object]:
        return {
            "kind": "canary",
            "fraction": self._settings.fraction if self.given_up is None else 0.0,
            "given_up": self.given_up or "",
            "log_evidence_errors": self._errors.log_wealth,
            "log_evidence_latency": self._slow.log_wealth,
            "log_evidence_needed": self._errors.enough,
        }

    def _canary_for(self, job: Job) -> Endpoint | None:
        key = sticky_key(job, by_key=True)
        draw = unit(self._name, key) if key else self._random()
        if self.given_up is not None or draw >= self._settings.fraction:
            return None
        try:
            return self._canary.opened(self._lead.signature)
        except Refusal:  # not loaded, or of another shape: that is no fault of its answers
            return None

    def _ask_primary(self, job: Job, deliver: Deliver, *, judged: bool = True) -> None:
        """`judged`: whether chance gave the job to the primary; the others would spoil the comparison."""
        begun_ns = self._clock()

        def answered(outcome: Outcome) -> None:
            if judged and failed(outcome):
                self._failed(SERVER_ERROR, newcomer=False)
            elif judged:
                self._took(self._clock() - begun_ns, newcomer=False)
            deliver(outcome)

        try:
            self._primary.submit(self._primary.opened(self._lead.signature), job, answered)
        except Refusal as refusal:
            if judged:
                self._failed(refusal.status, newcomer=False)
            raise

    def _judge_canary(self, job: Job, deliver: Deliver) -> Deliver:
        begun_ns = self._clock()

        def answered(outcome: Outcome) -> None:
            if not failed(outcome):
                self._took(self._clock() - begun_ns, newcomer=True)
                deliver(outcome)
                return
            self._failed(SERVER_ERROR, newcomer=True)
            if not goes_on(SERVER_ERROR, job, self._clock()):
                deliver(outcome)
                return
            try:
                self._ask_primary(job, deliver, judged=False)
            except Refusal as refusal:
                deliver(refused(refusal, self._name))

        return answered

    def _failed(self, status: int, *, newcomer: bool) -> None:
        if status >= SERVER_ERROR and self._errors.add(newcomer=newcomer):
            self._give_up("it fails more often than the primary")

    def _took(self, latency_ns: int, *, newcomer: bool) -> None:
        usual_ns = self._median.value
        if not newcomer:
            self._median.add(latency_ns)
        slow = usual_ns is not None and latency_ns > usual_ns * self._settings.max_slowdown
        if slow and self._slow.add(newcomer=newcomer):
            self._give_up(f"it takes longer than {self._settings.max_slowdown:g} times the primary's median more often")

    def _give_up(self, why: str) -> None:
        if self.given_up is None:
            self.given_up = why
            _log.warning("route %s gives up its canary %s: %s", self._name, self._canary.label, why)
