"""How many rows go into the next batch. Nothing is ever waited for: a batch is made of what is there.

Larger batches are worth it where they save: where t/n falls. Where it does not, a batch would only make the first of it
wait for the last, so jobs run one by one.
"""

from __future__ import annotations

from enum import StrEnum

from .latency_model import LatencyModel

WORTH = 0.97
"""Time for each row, relative to the next smaller choice, from which a larger batch is taken."""


class Reason(StrEnum):
    """Why a batch has the size it has."""

    ALL = "all that waited"
    WORTH = "a larger batch would save nothing"
    LARGEST = "the largest batch of this model"
    BUDGET = "a larger batch would hold up the event loop"
    DEADLINE = "a larger batch would miss a deadline"
    NEXT_TOO_LARGE = "the next job would not fit"
    ALONE = "the job has more rows than a batch"
    UNBATCHABLE = "this model runs one job at a time"


class BatchPolicy:
    """Chooses sizes by the latency model.

    Args:
        model: of one engine.
        max_rows: of a batch; 1 where jobs run one at a time for their shapes.
        overhead_ns: what a batch costs beside the engine.
        budget_ns: a batch of several jobs may take so long; None where nothing else waits for its thread.
    """

    def __init__(
        self, model: LatencyModel, max_rows: int, *, overhead_ns: float = 0.0, budget_ns: float | None = None
    ) -> None:
        self.model = model
        self._most_rows = min(max_rows, model.sizes[-1])
        self._overhead_ns = overhead_ns
        self._budget_ns = budget_ns
        self.limit(None)

    def limit(self, max_rows: int | None) -> None:
        """Form smaller batches from now on, as power or heat may want; None is as large as before."""
        self.max_rows = self._most_rows if max_rows is None else min(max_rows, self._most_rows)
        self._choices = [rows for rows in self.model.sizes if 1 < rows < self.max_rows]
        if self.max_rows > 1:
            self._choices.append(self.max_rows)

    def rows(self, available: int) -> tuple[int, Reason]:
        """Return how many of the rows that wait are best run together, if no deadline speaks against it."""
        if available == 1:
            return 1, Reason.ALL
        if self.max_rows == 1:
            return 1, Reason.UNBATCHABLE
        most = min(available, self.max_rows)
        best, best_ns, limited = 1, self._overhead_ns + self.model.single_ns, False
        for rows in (*(choice for choice in self._choices if choice < most), most):
            time_ns = self.model.estimate_ns(rows)
            if self._budget_ns is not None and time_ns > self._budget_ns:
                limited = True
                break
            each_ns = (self._overhead_ns + time_ns) / rows
            if each_ns <= WORTH * best_ns:
                best, best_ns = rows, each_ns
        if best == available:
            return best, Reason.ALL
        if best == self.max_rows:
            return best, Reason.LARGEST
        return best, Reason.BUDGET if limited else Reason.WORTH
