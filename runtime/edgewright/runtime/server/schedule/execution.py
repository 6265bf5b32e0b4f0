"""How a job ended in the scheduler, and what a scheduler is to those who have work for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from numpy.typing import NDArray

from ..pipeline import Job, Tensors
from ..refusal import Refusal

Outputs = dict[str, NDArray[Any]]
Run = Callable[[Tensors], Outputs]


@dataclass(slots=True)
class Execution:
    """One of three: outputs; an error of the engine; or a refusal, and then nothing ran."""

    outputs: Outputs | None
    error: Exception | None = None
    refusal: Refusal | None = None
    queue_ns: int = 0
    compute_ns: int = 0
    """Of the whole batch that the job was in."""
    batch_rows: int = 0
    """0 where nothing ran."""


@dataclass(frozen=True, slots=True)
class BatchTimes:
    """One run of the engine, as the statistics extension counts it."""

    rows: int
    input_ns: int
    infer_ns: int
    output_ns: int


Deliver = Callable[[Execution], None]
Executed = Callable[[BatchTimes], None]
Ended = Callable[[Sequence[Job], Sequence[Execution]], None]
"""Told how the jobs of a batch ended, before any of them is delivered."""


class Scheduler(Protocol):
    """Decides when a job runs. All methods are called on the event loop."""

    def submit(self, job: Job, deliver: Deliver) -> None:
        """Run the model on the job's inputs and call `deliver` once on the event loop, later.

        Raises:
            Refusal: 503, nothing runs.
        """

    def turn_away(self, rows: int) -> Refusal | None:
        """The refusal that a job would meet now: whoever asks before it reads a body saves that work."""

    @property
    def inline(self) -> bool:
        """True where a single sample runs on the event loop."""

    @property
    def pending(self) -> int:
        """Jobs that were taken and not delivered yet."""

    def explain(self) -> dict[str, Any]:
        """Why the last batches were formed as they were, as JSON."""

    def close(self) -> None:
        """No job follows, and none is pending."""
