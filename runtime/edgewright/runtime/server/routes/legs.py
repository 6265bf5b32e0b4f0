"""The places that a route leads to: found anew for each job, held against each other, counted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from ..pipeline import Deliver, Endpoint, Job, Outcome, Signature
from ..refusal import Refusal, not_now
from .fitting import misfit

Clock = Callable[[], int]
"""`time.perf_counter_ns`, or a test's."""

SERVER_ERROR = 500


@dataclass(slots=True)
class LegCounts:
    """What one place did for a route."""

    jobs: int = 0
    """Taken and answered, with outputs or with an error."""
    rows: int = 0
    errors: int = 0
    """Answered with a status from 500."""
    refused: int = 0
    """Not taken."""
    latency_ns: int = 0
    compute_ns: int = 0
    in_flight: int = 0

    def as_dict(self) -> dict[str, float | int]:
        return {
            "jobs": self.jobs,
            "rows": self.rows,
            "errors": self.errors,
            "refused": self.refused,
            "in_flight": self.in_flight,
            "latency_s": self.latency_ns / 1e9,
            "compute_s": self.compute_ns / 1e9,
        }


class Leg:
    """One place. What stands behind its name may change from job to job."""

    def __init__(self, label: str, find: Callable[[], Endpoint], clock: Clock) -> None:
        self.label = label
        self.counts = LegCounts()
        self._find = find
        self._clock = clock
        self._judged: tuple[Signature, Signature, str | None] | None = None

    def signature(self) -> Signature:
        """What is there now.

        Raises:
            Refusal: 503, nothing is.
        """
        return self._found().signature

    def misfit(self, lead: Signature) -> str | None:
        """Why this place cannot take the jobs of `lead`, None where it can; raises as `signature` does."""
        own = self.signature()
        if self._judged is None or self._judged[0] is not lead or self._judged[1] is not own:
            self._judged = (lead, own, misfit(lead, own))
        return self._judged[2]

    def opened(self, lead: Signature) -> Endpoint:
        """Where a job that was read under the signature `lead` can go.

        Raises:
            Refusal: 503, nothing is there, or it does not fit.
        """
        why = self.misfit(lead)
        if why is not None:
            raise not_now(f"'{self.label}' does not fit the route '{lead.model}': {why}")
        return self._found()

    def submit(self, endpoint: Endpoint, job: Job, deliver: Deliver) -> None:
        """Hand a job to what `opened` gave, and count it; raises what that raises."""
        begun_ns = self._clock()
        counts = self.counts

        def answered(outcome: Outcome) -> None:
            counts.in_flight -= 1
            counts.jobs += 1
            counts.rows += job.rows
            counts.errors += failed(outcome)
            counts.latency_ns += self._clock() - begun_ns
            counts.compute_ns += outcome.compute_ns
            deliver(named(outcome, self.label))

        counts.in_flight += 1
        try:
            endpoint.submit(job, answered)
        except BaseException:
            counts.in_flight -= 1
            counts.refused += 1
            raise

    def _found(self) -> Endpoint:
        try:
            return self._find()
        except Refusal as refusal:
            if refusal.status >= SERVER_ERROR:
                raise
            raise not_now(f"a route leads to '{self.label}', which is not loaded") from refusal


class Lead:
    """The signature of a route: that of the first of its places that is there, under the route's name."""

    def __init__(self, route: str, legs: tuple[Leg, ...]) -> None:
        self._route = route
        self._legs = legs
        self._of: Signature | None = None
        self._named: Signature | None = None

    @property
    def signature(self) -> Signature:
        """Raises a Refusal (503) where no place is there."""
        first: Refusal | None = None
        for leg in self._legs:
            try:
                found = leg.signature()
            except Refusal as refusal:
                first = first or refusal
                continue
            if self._named is None or self._of is not found:
                self._of, self._named = found, replace(found, model=self._route, version="")
            return self._named
        raise first or not_now(f"the route '{self._route}' leads nowhere")


def failed(outcome: Outcome) -> bool:
    """Whether the server is at fault."""
    return outcome.refusal is not None and outcome.refusal.status >= SERVER_ERROR


def named(outcome: Outcome, arm: str) -> Outcome:
    """The outcome, with a note of the model that answered and of the arm, the outermost route's first.

    A new one: whoever answered may keep its own, as a cache does.
    """
    inner = outcome.notes.get("edgewright_arm")
    notes = {
        **outcome.notes,
        "edgewright_model": outcome.notes.get("edgewright_model", outcome.model),
        "edgewright_arm": arm if inner is None else f"{arm}/{inner}",
    }
    return replace(outcome, notes=notes)


def refused(refusal: Refusal, model: str) -> Outcome:
    """The outcome of a job that was taken and then found no place."""
    return Outcome(None, refusal, model, "")
