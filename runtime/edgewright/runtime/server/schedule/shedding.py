"""Which jobs are refused because too much waits already.

After CoDel (RFC 8289): a queue that empties now and then is a burst, and bursts are welcome; a queue in which every job
of the last 100 ms waited longer than the target is overload. From then on a job is refused if it would wait longer than
the target, behind jobs that are as urgent as it is. One batch always may wait, so that the engine never stands idle for
want of what was refused.
"""

from __future__ import annotations

from ..refusal import Refusal, not_now
from .latency_model import LatencyModel

INTERVAL_NS = 100_000_000
TARGETS_AN_INTERVAL = 5


class Shedding:
    """Watches how long jobs wait.

    Attributes:
        target_ns: waits that are longer are too long.
        overloaded: whether jobs that would wait so long are refused.
        shed: how many were, for this or because the queue was full.
    """

    def __init__(self, shed_after_ns: int) -> None:
        self.target_ns = shed_after_ns
        self.overloaded = False
        self.shed = 0
        self._shed_after_ns = shed_after_ns
        self._interval_ns = 0
        self._above_since_ns: int | None = None
        self.fit(0.0)

    def fit(self, batch_ns: float) -> None:
        """Fit the target to the model: who comes while a batch runs waits for it, and that alone is no overload."""
        self.target_ns = max(self._shed_after_ns, int(batch_ns))
        self._interval_ns = max(INTERVAL_NS, TARGETS_AN_INTERVAL * self.target_ns)

    def waited(self, longest_wait_ns: int, now_ns: int) -> None:
        """Note how long the oldest job had waited when a batch was formed.

        Shedding itself keeps waits near the target, so it ends when they are well below.
        """
        if longest_wait_ns <= (self.target_ns // 2 if self.overloaded else self.target_ns):
            self._above_since_ns = None
            self.overloaded = False
        elif self._above_since_ns is None:
            self._above_since_ns = now_ns
        elif now_ns - self._above_since_ns >= self._interval_ns:
            self.overloaded = True

    def idle(self) -> None:
        """Note that the engine has nothing to do."""
        self._above_since_ns = None
        self.overloaded = False

    def refusal(self, backlog_rows: int, batch_rows: int, model: LatencyModel) -> Refusal | None:
        """The answer to one more job, behind rows that wait and are run in batches of `batch_rows`."""
        if not self.overloaded or backlog_rows < batch_rows:
            return None
        wait_ns = backlog_ns(backlog_rows, batch_rows, model)
        if wait_ns <= self.target_ns:
            return None
        return self.refused("the model is overloaded", wait_ns)

    def refused(self, why: str, wait_ns: float) -> Refusal:
        """Count a job that is refused; it may come again when what waits now is done."""
        self.shed += 1
        return not_now(f"{why}; {wait_ns / 1e6:.0f} ms of work wait", wait_ns / 1e9)


def backlog_ns(rows: int, batch_rows: int, model: LatencyModel) -> float:
    """Time that rows take in batches of `batch_rows`."""
    batches, left = divmod(rows, batch_rows)
    return batches * model.estimate_ns(batch_rows) + (model.estimate_ns(left) if left else 0.0)
