"""What ships. Pure: candidates with their figures in, a decision with its reason out.

Never worse: an int8 candidate ships only if it is faster than the float model and loses no more than the budget. It is
picked on the *tune* samples and confirmed on the *test* samples, which nothing else has looked at. Where those do not
confirm it, the best of those with less noise is next: what is picked is never picked for its figures on *test*.

Faster means that the whole interval of the ratio lies below one. For a measured ratio that interval is statistical; for
an estimated one it is the error of estimated ratios (`edgewright.targets.cost.RATIO_FACTOR`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from .metrics import Budget, Comparison, Estimate

Outcome = Literal["shipped", "budget-missed"]

BUDGET_MISSED: Final = "budget-missed"
BUDGET_NOT_ESTABLISHED = "budget-not-established"
FLOAT_CANNOT_RUN = "float-cannot-run"
LATENCY_ESTIMATED = "latency-estimated"

SIMILAR_LATENCY = 1.03
"""Candidates this close to the fastest are told apart by fidelity, not by speed."""


@dataclass(frozen=True)
class Candidate:
    """One way to ship the model."""

    name: str
    latency_ms: float
    time_ratio: Estimate
    """Its latency over the float model's."""
    measured: bool
    tune: Comparison
    test: Comparison
    faithful: bool
    """Whether the engine computes what the model says: its outputs agree with exact arithmetic."""


@dataclass(frozen=True)
class Decision:
    """Which candidate ships, and why."""

    chosen: str
    outcome: Outcome
    reason: str
    flags: tuple[str, ...]
    verdicts: dict[str, str]
    """For each int8 candidate, in a few words."""


def choose(
    float_name: str,
    candidates: Sequence[Candidate],
    budget: Budget,
    *,
    float_can_run: bool,
    why_none: str = "",
    otherwise: str = "float ships",
) -> Decision:
    """Decides between the float model and the int8 candidates.

    Args:
        float_name: of the model that the others are compared with.
        candidates: the others.
        budget: what they may lose.
        float_can_run: whether that model can ship.
        why_none: the reason where there are no candidates.
        otherwise: in words, what happens where none of them ships.
    """
    verdicts = {candidate.name: _verdict(candidate, budget, float_can_run) for candidate in candidates}
    faithful = [candidate for candidate in candidates if candidate.faithful]
    if not float_can_run:
        return _without_float(faithful, budget, verdicts)
    faster = [candidate for candidate in faithful if candidate.time_ratio.high < 1]
    if not faster:
        reason = _not_faster(faithful) if faithful else why_none or "there is no usable int8 candidate"
        return Decision(float_name, "shipped", f"{reason}; {otherwise}", (), verdicts)
    affordable = [candidate for candidate in faster if candidate.tune.drop.value <= budget.limit]
    if not affordable:
        least = min(faster, key=lambda candidate: candidate.tune.drop.value)
        reason = (
            f"every faster int8 candidate loses more than {budget} on the tune samples ({_loss(least.tune)} at best)"
        )
        return Decision(float_name, BUDGET_MISSED, f"{reason}; {otherwise}", (), verdicts)
    best = _confirmed(affordable, budget)
    if best is None:
        first = _best(affordable)
        reason = f"{first.name} loses {_loss(first.test)} on the test samples, the budget is {budget}; {otherwise}"
        return Decision(float_name, BUDGET_MISSED, reason, (), verdicts)
    return Decision(best.name, "shipped", _praise(best, budget), _flags(best, budget), verdicts)


def _not_faster(candidates: Sequence[Candidate]) -> str:
    nearest = min(candidates, key=lambda candidate: candidate.time_ratio.value)
    if nearest.time_ratio.value >= 1:
        return "no int8 candidate is faster than the float model"
    return f"no int8 candidate is faster than the float model for certain: {nearest.name} is {_speed_up(nearest)}"


def _without_float(candidates: Sequence[Candidate], budget: Budget, verdicts: dict[str, str]) -> Decision:
    if not candidates:
        raise ValueError("a target without float needs at least one int8 candidate")
    affordable = [candidate for candidate in candidates if candidate.tune.drop.value <= budget.limit]
    confirmed = _confirmed(affordable, budget)
    best = confirmed or min(candidates, key=_damage)
    flags = (FLOAT_CANNOT_RUN, *_flags(best, budget))
    if confirmed is not None:
        return Decision(
            best.name, "shipped", f"{best.name} {_kept(best, budget)}; float cannot run here", flags, verdicts
        )
    part, worse = ("test", best.test) if best.test.drop.value > budget.limit else ("tune", best.tune)
    reason = (
        f"float cannot run here, and {best.name} loses {_loss(worse)} on the {part} samples where {budget} is allowed; "
        "it ships, flagged"
    )
    return Decision(best.name, BUDGET_MISSED, reason, (BUDGET_MISSED, *flags), verdicts)


def _confirmed(affordable: Sequence[Candidate], budget: Budget) -> Candidate | None:
    """The best that *test* confirms. After one that it does not, only less noise gives a reason to look again."""
    left = list(affordable)
    while left:
        best = _best(left)
        if best.test.drop.value <= budget.limit:
            return best
        left = [candidate for candidate in left if candidate.tune.snr_db > best.tune.snr_db]
    return None


def _best(candidates: Sequence[Candidate]) -> Candidate:
    fastest = min(candidate.latency_ms for candidate in candidates)
    close = [candidate for candidate in candidates if candidate.latency_ms <= fastest * SIMILAR_LATENCY]
    # The name decides between equals, so that the order of the list does not.
    return min(close, key=lambda candidate: (-candidate.tune.snr_db, candidate.name))


def _damage(candidate: Candidate) -> tuple[float, float, str]:
    return candidate.tune.drop.value, -candidate.tune.snr_db, candidate.name


def _flags(candidate: Candidate, budget: Budget) -> tuple[str, ...]:
    flags = []
    if candidate.test.drop.value <= budget.limit < candidate.test.drop.high:
        flags.append(BUDGET_NOT_ESTABLISHED)
    if not candidate.measured:
        flags.append(LATENCY_ESTIMATED)
    return tuple(flags)


def _verdict(candidate: Candidate, budget: Budget, float_can_run: bool) -> str:
    if not candidate.faithful:
        return "the engine here does not compute what the model says (saturation)"
    parts = []
    if float_can_run and candidate.time_ratio.high >= 1:
        doubt = "" if candidate.time_ratio.value >= 1 else " for certain"
        parts.append(f"not faster than float{doubt}")
    if candidate.tune.drop.value > budget.limit:
        parts.append("over the budget on tune samples")
    elif candidate.test.drop.value > budget.limit:
        parts.append("over the budget on test samples")
    return ", ".join(parts) or "within the budget"


def _praise(candidate: Candidate, budget: Budget) -> str:
    return f"{_speed_up(candidate)}, {_kept(candidate, budget)}"


def _kept(candidate: Candidate, budget: Budget) -> str:
    text = f"loses {_loss(candidate.test)} of {budget}"
    if candidate.test.drop.high > budget.limit:
        worst = _amount(candidate.test.drop.high, candidate.test)
        text += f"; {candidate.test.samples} test samples cannot establish the budget (up to {worst})"
    return text


def _speed_up(candidate: Candidate) -> str:
    ratio = candidate.time_ratio
    how = "measured" if candidate.measured else "estimated"
    return f"{1 / ratio.value:.2f}x as fast as float ({how}, {1 / ratio.high:.2f}x to {1 / ratio.low:.2f}x)"


def _loss(comparison: Comparison) -> str:
    return _amount(comparison.drop.value, comparison)


def _amount(value: float, comparison: Comparison) -> str:
    return f"{value:.2f} dB" if comparison.unit == "dB" else f"{value * 100:.2f} %"
