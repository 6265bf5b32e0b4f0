"""A model without an engine, for what stands before models: it keeps jobs until the test says how they end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from edgewright.runtime.server.pipeline import Deliver, Job, Outcome, Signature
from edgewright.runtime.server.refusal import Refusal, not_now
from edgewright.runtime.server.statistics import ModelStatistics


class HeldModel:
    """An endpoint whose jobs end when the test ends them."""

    def __init__(self) -> None:
        self.signature = Signature("digits", "1", {}, {})
        self.statistics = ModelStatistics()
        self.held: list[tuple[Job, Deliver]] = []
        self.full = False
        self.shared: list[Job] = []
        self.on_submit: Callable[[], None] = lambda: None

    def submit(self, job: Job, deliver: Deliver) -> None:
        self.on_submit()
        if self.full:
            raise not_now("too many requests wait for this model")
        self.held.append((job, deliver))

    def turn_away(self, rows: int = 1) -> Refusal | None:
        return not_now(f"{rows} rows are too many") if self.full else None

    def count_shared(self, job: Job, outcome: Outcome) -> None:
        assert outcome.model == self.signature.model
        self.shared.append(job)

    def answer(self, value: float = 1.0) -> None:
        """End the oldest job well."""
        _, deliver = self.held.pop(0)
        deliver(Outcome({"y": np.full(3, value, np.float32)}, None, "digits", "1"))

    def refuse(self, status: int, *, lost: bool = False) -> None:
        """End the oldest job with a refusal."""
        _, deliver = self.held.pop(0)
        deliver(Outcome(None, Refusal(status, f"status {status}"), "digits", "1", lost=lost))


class Client:
    """Submits jobs and keeps what they end with."""

    def __init__(self, endpoint: Any) -> None:
        self._endpoint = endpoint
        self.outcomes: list[Outcome] = []

    def ask(self, value: float = 0.0, deliver: Deliver | None = None, **changes: Any) -> Job:
        """Ask for a value; `changes` are fields of the job."""
        job = Job({"x": np.full(4, value, np.float32)}, 1, 0, **changes)
        self._endpoint.submit(job, deliver or self.outcomes.append)
        return job

    @property
    def statuses(self) -> list[int]:
        return [200 if outcome.refusal is None else outcome.refusal.status for outcome in self.outcomes]
