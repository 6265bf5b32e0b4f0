"""Finds the fastest plan within the budget in few evaluations.

What a plan costs in latency and adds in noise is predicted; whether that is good enough is evaluated on *tune*. So
there is one number to search for, the noise that the budget allows, and each step is one solved knapsack and one
evaluation.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from ..metrics import Comparison
from ..quantize.plan import Plan

MAX_EVALUATIONS = 8
ENOUGH = 1.3
"""Ratio of noise between what was too much and what was not, from which closing in pays no more (about 1.1 dB)."""
LARGEST_STEP, SMALLEST_STEP = 0.9, 0.01
"""Of the bound, from one miss to the next."""


@dataclass(frozen=True)
class Proposal:
    """A plan with what is predicted of it."""

    plan: Plan
    repairs: dict[str, str]
    """Name of the repair by group; groups that are as planned are left out."""
    latency_ms: float
    noise: float


@dataclass(frozen=True)
class Step:
    """One evaluated plan."""

    proposal: Proposal
    comparison: Comparison
    within: bool


@dataclass(frozen=True)
class Found:
    """What the search came to."""

    best: Step | None
    """The fastest plan that keeps the budget and is worth it; None where there is none."""
    steps: tuple[Step, ...]
    """In order; the first is the plain plan."""
    too_slow: Proposal | None
    """A plan that was not evaluated because float is as fast."""


Solve = Callable[[float], Proposal | None]
Score = Callable[[Plan], Comparison]


@dataclass
class _Bracket:
    """Between the largest noise that was good enough and the smallest that was too much."""

    good: float = 0.0
    bad: float = math.inf
    steps: list[Step] = field(default_factory=list)

    def best(self, worth_ms: float) -> Step | None:
        within = [step for step in self.steps if step.within and step.proposal.latency_ms < worth_ms]
        return min(within, key=lambda step: (step.proposal.latency_ms, step.proposal.noise), default=None)


def search(
    plain: Proposal, solve: Solve, score: Score, limit: float, worth_ms: float, max_evaluations: int = MAX_EVALUATIONS
) -> Found:
    """Evaluates the plain plan, and where that misses the budget, repaired ones.

    Args:
        plain: the plan without repairs.
        solve: the fastest plan whose predicted noise is within a bound, or None.
        score: compares a plan with the float model on *tune*; each call is one evaluation.
        limit: of the drop, in the metric's unit.
        worth_ms: only plans faster than this are worth it: the float model's latency, infinite where float cannot run.
        max_evaluations: of `score`.
    """
    bracket = _Bracket(bad=plain.noise)
    _evaluate(plain, score, limit, bracket)
    too_slow: Proposal | None = None
    if bracket.steps[0].within:
        if plain.latency_ms >= worth_ms:
            too_slow = _try_faster(plain, solve, score, limit, worth_ms, bracket)
        return Found(bracket.best(worth_ms), tuple(bracket.steps), too_slow)
    bound = _first_bound(bracket.steps[0], limit)
    while len(bracket.steps) < max_evaluations and bracket.bad > bracket.good * ENOUGH:
        proposal = solve(bound)
        if proposal is None or proposal.latency_ms >= worth_ms:
            # Less noise only costs more: what is left to find is above this bound.
            too_slow = proposal or too_slow
            bracket.good = bound
        elif (known := _known(proposal, bracket)) is not None:
            _narrow(known, bound, bracket)
        else:
            _narrow(_evaluate(proposal, score, limit, bracket), bound, bracket)
        bound = _next_bound(bound, bracket, limit)
        if bound < plain.noise * 1e-6:
            break
    return Found(bracket.best(worth_ms), tuple(bracket.steps), too_slow)


def _try_faster(
    plain: Proposal, solve: Solve, score: Score, limit: float, worth_ms: float, bracket: _Bracket
) -> Proposal | None:
    """Where the plain plan is good but slower than float, operators that are better off in float may be why."""
    proposal = solve(plain.noise)
    if proposal is None or proposal.latency_ms >= worth_ms:
        return proposal or plain
    _evaluate(proposal, score, limit, bracket)
    return None


def _evaluate(proposal: Proposal, score: Score, limit: float, bracket: _Bracket) -> Step:
    comparison = score(proposal.plan)
    step = Step(proposal, comparison, comparison.drop.value <= limit)
    bracket.steps.append(step)
    return step


def _known(proposal: Proposal, bracket: _Bracket) -> Step | None:
    return next((step for step in bracket.steps if step.proposal.repairs == proposal.repairs), None)


def _narrow(step: Step, bound: float, bracket: _Bracket) -> None:
    """The same plan answers for every bound between its own noise and the one that it was asked for."""
    if step.within:
        bracket.good = max(bracket.good, bound)
    else:
        bracket.bad = min(bracket.bad, step.proposal.noise, bound)


def _first_bound(plain: Step, limit: float) -> float:
    """A drop that grows with the amplitude of the noise asks for noise in the square of the ratio."""
    return plain.proposal.noise * _step_down(plain, limit)


def _step_down(step: Step, limit: float) -> float:
    ratio = max(limit, 0.0) / step.comparison.drop.value if step.comparison.drop.value > 0 else 0.0
    return min(LARGEST_STEP, max(SMALLEST_STEP, ratio**2))


def _next_bound(bound: float, bracket: _Bracket, limit: float) -> float:
    if bracket.good > 0:
        return math.sqrt(bracket.good * bracket.bad)
    return min(bound, bracket.bad) * _step_down(bracket.steps[-1], limit)
