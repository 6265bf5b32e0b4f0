"""What an inference is inside the server, and what it passes through on its way.

A protocol (`v2`) makes a `Job` of a request and an answer of its `Outcome`. Between them stand endpoints: a model
(`served_model`), or something that stands before models and has the same two words, so that they can be put before each
other: a route, a cache, a breaker. None of them knows of HTTP or gRPC.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from numpy.typing import NDArray

from edgewright.bundle.manifest import TensorSpec

from .refusal import Refusal
from .statistics import ModelStatistics

Tensors = Mapping[str, NDArray[Any]]
Note = str | int | float | bool


@dataclass(frozen=True, slots=True)
class Signature:
    """Inputs and outputs by name, as a client sees them."""

    model: str
    version: str
    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]


@dataclass(frozen=True, slots=True)
class SequenceStep:
    """One step of a sequence of inferences that share state (the `sequence` extension)."""

    id: str
    start: bool
    end: bool


@dataclass(slots=True, eq=False)
class Job:
    """One inference on its way. Times are `time.perf_counter_ns()`."""

    inputs: Tensors
    rows: int
    """Samples in the inputs; 1 where the batch is fixed."""
    received_ns: int
    """When the last byte had arrived."""
    input_ns: int = 0
    """Time that reading the request took."""
    priority: int = 0
    """1 is the most urgent; 0 is the model's default."""
    deadline_ns: int | None = None
    """Nobody waits for the answer after it."""
    key: str = ""
    """What sticky routes choose by; empty where the client named none."""
    sequence: SequenceStep | None = None
    cancelled: bool = False
    """The client is gone: whatever has not begun need not."""
    digest: bytes = b""
    """Of the inputs, once somebody asked for it; see `request_key`."""

    follower: Job | None = None
    """A part of this job that a route has made a job of its own; it is cancelled with it."""

    def cancel(self) -> None:
        self.cancelled = True
        if self.follower is not None:
            self.follower.cancel()

    @property
    def size_bytes(self) -> int:
        """Memory of the inputs."""
        return sum(array.nbytes for array in self.inputs.values())


@dataclass(slots=True)
class Outcome:
    """How a job ended: with outputs, or with the refusal that the client is told."""

    outputs: Tensors | None
    refusal: Refusal | None
    model: str
    """Who answered; behind a route not the name that was asked."""
    version: str
    queue_ns: int = 0
    compute_ns: int = 0
    statistics: ModelStatistics | None = None
    """Of the model that answered: whoever writes the answer adds what that took."""
    notes: dict[str, Note] = field(default_factory=dict)
    """What the answer carries as parameters, for example which arm of a route it came from."""
    lost: bool = False
    """The process that runs the model is gone: no job need be tried until it is back."""
    shared: bool = False
    """What another job's execution gave: it says nothing new of the model."""


Deliver = Callable[[Outcome], None]


class Endpoint(Protocol):
    """What a name in the protocol leads to. All calls are made on the event loop."""

    @property
    def signature(self) -> Signature: ...

    def submit(self, job: Job, deliver: Deliver) -> None:
        """Have the job done; `deliver` is called once on the event loop, now or later.

        Raises:
            Refusal: it cannot be taken; nothing ran, nothing was counted as executed, `deliver` is not called.
        """
