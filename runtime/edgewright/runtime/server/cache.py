"""An endpoint that keeps answers: an identical request within their time is answered without running the model.

It stands before one loaded version, so a swap of versions takes the answers of the old one with it. Steps of a sequence
pass through: what they are answered depends on more than their inputs.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from .pipeline import Deliver, Endpoint, Job, Outcome, Signature
from .request_key import request_key
from .response_cache import ResponseCache
from .statistics import ModelStatistics

Count = Callable[[Job, Outcome], None]
"""Counts a job that is answered by what another job was answered."""


class Cached:
    """An `Endpoint` before a model."""

    def __init__(self, inner: Endpoint, cache: ResponseCache, statistics: ModelStatistics, count: Count) -> None:
        self.signature: Signature = inner.signature
        self.cache = cache
        self._inner = inner
        self._statistics = statistics
        self._count = count

    def submit(self, job: Job, deliver: Deliver) -> None:
        """See `pipeline.Endpoint`."""
        if job.sequence is not None:
            self._inner.submit(job, deliver)
            return
        begun_ns = time.perf_counter_ns()
        key = request_key(job)
        outputs = self.cache.get(key, time.monotonic())
        looked_up_ns = time.perf_counter_ns() - begun_ns
        if outputs is None:
            self._inner.submit(job, lambda outcome: self._keep(key, looked_up_ns, outcome, deliver))
            return
        self._statistics.cache_hit.add(looked_up_ns)
        model, version = self.signature.model, self.signature.version
        outcome = Outcome(outputs, None, model, version, statistics=self._statistics, shared=True)
        self._count(job, outcome)
        deliver(outcome)

    def tick(self) -> None:
        """About once a second."""
        self.cache.expire(time.monotonic())

    def _keep(self, key: bytes, looked_up_ns: int, outcome: Outcome, deliver: Deliver) -> None:
        try:
            if outcome.outputs is not None:
                begun_ns = time.perf_counter_ns()
                self.cache.put(key, outcome.outputs, time.monotonic())
                self._statistics.cache_miss.add(looked_up_ns + time.perf_counter_ns() - begun_ns)
        finally:  # there may be no memory for a copy
            deliver(outcome)
