"""Shadow: the primary answers, and another model is tried on the same inputs when that disturbs nobody.

The copy is begun after the primary's answer is delivered, in a later turn of the event loop, and only while no other
job of this route waits. What the shadow says goes nowhere; counts of agreement are kept.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

from edgewright.bundle.manifest import TensorSpec

from ...routes import Shadow
from ..pipeline import Deliver, Endpoint, Job, Outcome, Signature, Tensors
from ..refusal import Refusal
from .agreement import Agreement
from .legs import Clock, Lead, Leg

_log = logging.getLogger(__name__)

CountShadow = Callable[[str, str, int, int], None]
"""Takes name and version of the model that was tried, samples compared, and those answered otherwise."""

Later = Callable[[Callable[[], None]], None]
"""Calls a function in a later turn of the event loop."""

_CREDIT_NS = 1_000_000_000
"""Busy time that can be saved up, for a share of 1: a second."""
_LEAST_URGENT = 1 << 16
_PATIENCE_NS = 5_000_000_000
"""A copy that has not begun so long after its job is dropped."""


class BusyBudget:
    """Computing time that is earned as a share of the time that passes. Pure: times are nanoseconds that are passed."""

    def __init__(self, share: float, now_ns: int) -> None:
        self._share = share
        self._credit_ns = share * _CREDIT_NS
        self._seen_ns = now_ns

    def allows(self, now_ns: int) -> bool:
        """Whether a copy may begin. One that costs more than was saved leaves a debt that is earned first."""
        earned = self._share * max(0, now_ns - self._seen_ns)
        self._credit_ns = min(self._share * _CREDIT_NS, self._credit_ns + earned)
        self._seen_ns = max(self._seen_ns, now_ns)
        return self._credit_ns > 0

    def spend(self, busy_ns: int) -> None:
        self._credit_ns -= busy_ns


class ShadowRoute:
    """An `Endpoint`: the primary's, whatever becomes of the shadow."""

    def __init__(
        self,
        name: str,
        settings: Shadow,
        legs: tuple[Leg, ...],
        *,
        random: Callable[[], float],
        clock: Clock,
        later: Later,
        hot: Callable[[], bool],
        count: CountShadow,
    ) -> None:
        self._settings = settings
        self._primary, self._shadow = legs
        self._lead = Lead(name, legs[:1])
        self._random = random
        self._clock = clock
        self._later = later
        self._hot = hot
        self._count = count
        self._budget = BusyBudget(settings.max_busy_share, clock())
        self._agreement = Agreement(settings.compare, settings.tolerance)
        self._waiting = 0
        """Jobs that the primary has not answered."""
        self._copies = 0
        self._skipped: Counter[str] = Counter()

    @property
    def signature(self) -> Signature:
        return self._lead.signature

    def problem(self) -> str | None:
        """Why there is nothing to compare; raises as `signature` does."""
        if _compared(self._settings.output, self.signature) is None:
            return f"there is no output '{self._settings.output}'"
        return None

    def submit(self, job: Job, deliver: Deliver) -> None:
        signature = self._lead.signature

        def answered(outcome: Outcome) -> None:
            self._waiting -= 1
            deliver(outcome)
            if outcome.outputs is not None and self._random() < self._settings.fraction:
                self._plan(job, outcome.outputs, signature)

        self._waiting += 1
        try:
            self._primary.submit(self._primary.opened(signature), job, answered)
        except BaseException:
            self._waiting -= 1
            raise

    def statistics(self) -> dict[str, object]:
        return {"kind": "shadow", "skipped": dict(self._skipped), "agreement": self._agreement.as_dict()}

    def _plan(self, job: Job, outputs: Tensors, signature: Signature) -> None:
        why = self._hindrance(job)
        if why is not None:
            self._skipped[why] += 1
            return
        self._copies += 1  # now, not when it begins: more may be planned in this turn
        self._later(lambda: self._begin(job, outputs, signature))

    def _hindrance(self, job: Job) -> str | None:
        """Why a copy may not run now."""
        if job.sequence is not None:
            return "sequence"
        if self._hot():
            return "hot"
        if self._waiting:
            return "jobs_wait"
        if self._copies >= self._settings.max_in_flight:
            return "in_flight"
        return None if self._budget.allows(self._clock()) else "budget"

    def _begin(self, job: Job, outputs: Tensors, signature: Signature) -> None:
        if self._waiting:  # someone came in this turn
            self._skip("jobs_wait")
            return
        now_ns = self._clock()
        copy = replace(
            job,
            received_ns=now_ns,
            deadline_ns=now_ns + _PATIENCE_NS,
            priority=_LEAST_URGENT,
            cancelled=False,
            follower=None,
        )
        try:
            self._run(self._shadow.opened(signature), copy, outputs, signature)
        except Refusal as refusal:
            self._skip(f"refused_{refusal.status}")
        except Exception:  # noqa: BLE001 - nobody waits for a copy, and the next one may go well
            _log.exception("a shadow could not be asked")
            self._skip("failed")

    def _run(self, endpoint: Endpoint, copy: Job, outputs: Tensors, signature: Signature) -> None:
        begun_ns = self._clock()

        def answered(outcome: Outcome) -> None:
            self._copies -= 1
            self._budget.spend(outcome.compute_ns or self._clock() - begun_ns)
            if outcome.outputs is None:
                self._skipped["failed"] += 1
                return
            before = self._agreement.rows, self._agreement.disagreed
            self._compare(outputs, outcome.outputs, _compared(self._settings.output, signature))
            rows, differing = self._agreement.rows - before[0], self._agreement.disagreed - before[1]
            if rows:
                self._count(outcome.model, outcome.version, rows, differing)

        self._shadow.submit(endpoint, copy, answered)

    def _compare(self, outputs: Tensors, theirs: Tensors, spec: TensorSpec | None) -> None:
        if spec is not None:
            self._agreement.add(outputs[spec.name], theirs[spec.name], batched=spec.shape[:1] == (-1,))

    def _skip(self, why: str) -> None:
        self._copies -= 1
        self._skipped[why] += 1


def _compared(output: str | None, signature: Signature) -> TensorSpec | None:
    return next((spec for spec in signature.outputs.values() if output in {None, spec.name}), None)
