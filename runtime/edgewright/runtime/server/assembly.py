"""What stands before a loaded model, put in order: breaker, then coalescing, then cache, then the model.

The breaker is always there and outermost: a model that is left alone costs nobody a look into the cache. Its memory is
one opening; the other two are there only where the settings say so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from ..control import BreakerState
from ..serving import ModelSettings
from .breaker import Breaker
from .cache import Cached
from .coalesce import Coalesced
from .guarded import Guarded, Moved
from .pipeline import Endpoint, Job, Outcome
from .refusal import Refusal
from .response_cache import ResponseCache
from .statistics import ModelStatistics


class Served(Endpoint, Protocol):
    """A model that also counts what it is spared."""

    statistics: ModelStatistics

    def count_shared(self, job: Job, outcome: Outcome) -> None:
        """Count a job that was answered with another job's outcome."""

    def turn_away(self, rows: int = 1) -> Refusal | None:
        """The refusal that a job would meet now for overload."""


@dataclass(frozen=True, slots=True)
class Assembly:
    """The way to one model."""

    endpoint: Guarded
    cached: Cached | None

    def tick(self) -> None:
        """About once a second."""
        if self.cached is not None:
            self.cached.tick()


def assemble(served: Served, settings: ModelSettings, *, moved: Moved, state: BreakerState = "closed") -> Assembly:
    """Put what the settings ask for before a model.

    Args:
        served: the model.
        settings: of the model.
        moved: told of each change of the breaker.
        state: of the breaker at the start, as the agent remembers it.
    """
    inner: Endpoint = served
    cached = None
    if settings.cache_bytes > 0:
        cache = ResponseCache(settings.cache_bytes, settings.cache_ttl_s)
        inner = cached = Cached(inner, cache, served.statistics, served.count_shared)
    if settings.coalesce:
        inner = Coalesced(inner, served.count_shared)
    breaker = Breaker(settings.breaker, state)
    guarded = Guarded(inner, breaker, moved, served.turn_away) if inner is served else Guarded(inner, breaker, moved)
    return Assembly(guarded, cached)
