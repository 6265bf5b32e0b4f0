"""What accuracy control has to say, for report.json. It imports nothing of the compiler, like the report itself."""

from __future__ import annotations

from typing import Literal

import msgspec

WORST = 3


class _Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Immutable, keyword-only."""


class RepairPrice(_Part, frozen=True, kw_only=True):
    """One repair of one operator, alone."""

    name: str
    latency_change_ms: float
    snr_gain_db: float
    """Of the whole model, predicted."""


class OperatorReport(_Part, frozen=True, kw_only=True):
    """One of the operators that do most of the damage."""

    name: str
    operator: str
    """What it is: `Conv`."""
    noise_share: float
    """Of the plain plan's predicted noise."""
    repairs: tuple[RepairPrice, ...]


class StepReport(_Part, frozen=True, kw_only=True):
    """One plan that was evaluated on *tune*."""

    repairs: dict[str, str]
    latency_ms: float
    predicted_snr_db: float
    snr_db: float
    drop: float
    argmax_agreement: float | None
    within: bool


class ControlReport(_Part, frozen=True, kw_only=True):
    """The whole search on one target."""

    outcome: Literal["as planned", "repaired", "missed"]
    reason: str
    float_latency_ms: float | None
    """None where float cannot run."""
    evaluations: int
    """Runs over all of *tune*."""
    ranking_runs: float
    """What the ranking took, in runs over all of *tune*; shared by all targets."""
    steps: tuple[StepReport, ...]
    worst: tuple[OperatorReport, ...]


def given_up(reason: str) -> ControlReport:
    """Of a search that ended before it had a result."""
    return ControlReport(
        outcome="missed",
        reason=f"repairs were given up: {reason}",
        float_latency_ms=None,
        evaluations=0,
        ranking_runs=0.0,
        steps=(),
        worst=(),
    )
