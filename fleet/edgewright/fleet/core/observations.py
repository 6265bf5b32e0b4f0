"""What single devices did in a fixed time after their draw, and what the control gates keep of it.

A *block* is a few devices of one target that were drawn together; a coin said which get the release (treated) and
which wait (control). When the observation time of all of them is over, the block enters the gates, in the order of the
blocks, once, and never again: so the tests may look after every block (sequential/).
"""

from __future__ import annotations

from typing import Literal

import msgspec

Metric = Literal[
    "crashes", "silence", "errors", "latency", "energy", "accuracy", "labels", "disagreement", "inputs", "outputs"
]
"""`errors`: share of failed requests. `latency`: mean, in microseconds. `energy`: mean per request, in microjoules.
`accuracy`: expected from confidence. `labels`: accuracy from labels, with confidence filling in where there is none
(prediction-powered). `disagreement`: share of shadowed requests answered otherwise. `inputs`, `outputs`: histograms."""


class Observation(msgspec.Struct, frozen=True, kw_only=True):
    """One device of a block, from its draw to the end of its observation time."""

    device: str
    is_treated: bool
    heard: bool
    """False: not one sign of life in the second half of the observation time."""
    crashes: int = 0
    requests: int = 0
    failures: int = 0
    rows: int = 0
    latency_us_sum: int = 0
    energy_uj_sum: int = 0
    energy_requests: int = 0
    """Requests whose energy was measured."""
    accuracy: float | None = None
    """Expected from confidence; None without a confidence table or rows."""
    labelled_accuracy: float | None = None
    """Prediction-powered; None without labels."""
    shadow_rows: int = 0
    shadow_disagreements: int = 0
    inputs: tuple[tuple[int, ...], ...] = ()
    """Histograms of the inputs that both bundles count on the same edges."""
    outputs: tuple[tuple[int, ...], ...] = ()


class Block(msgspec.Struct, frozen=True, kw_only=True):
    """A block whose observation time is over."""

    number: int
    target: str
    observations: tuple[Observation, ...]


class BlockOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """What a block gave to the tests, and all that is needed to compute them again: this goes into the audit log."""

    number: int
    target: str
    values: dict[Metric, tuple[float, ...]]
    """For each metric what its test was given, rounded to 9 digits. The test in gates/control.py says what the
    numbers are."""


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """The state of one sequential test."""

    log_wealth: tuple[float, ...] = ()
    """One for each bet of the mixture."""
    peak: float = 0.0
    """Highest ln E so far."""
    steps: int = 0
    total: float = 0.0
    """Sum of what was bet on, and of its squares: for people, and for the estimate beside the verdict."""
    total_squared: float = 0.0
    learnt: tuple[float, ...] = ()
    """What a predictive test has learnt from earlier blocks."""


class GateMemory(msgspec.Struct, frozen=True, kw_only=True):
    """All tests of a rollout after `next_block` blocks."""

    next_block: int = 0
    tests: dict[str, Evidence] = {}
    """By `target/metric`."""
