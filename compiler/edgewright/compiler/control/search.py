"""Finds the fastest plan within the budget in few evaluations.

What a plan costs in latency and adds in noise is predicted; whether that is good enough is evaluated on *tune*. So
there is one number to search for, the noise that the budget allows, and each step is one solved knapsack and one
evaluation.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from ..metrics import Comparison
from ..quantize.plan import Plan

MAX_EVALUATIONS = 8
ENOUGH = 1.3
"""Ratio of noise between what was too much and what was not, from which closing in pays no more (about 1.1 dB)."""
GAIN = 0.02
"""Share of the latency that another evaluation must be able to save."""
SPARE_EVALUATIONS = 2
SPARE_SOLVES = 4
SPARE_STEP = 1.5
"""Of the bound, from one plan that is tried on the chance to the next."""
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
    """Of the budget."""
    safe: bool
    """Within by the margin that was asked for."""


@dataclass(frozen=True)
class Found:
    """What the search came to."""

    good: tuple[Step, ...]
    """Plans that keep the budget and are worth it, the best first: the fastest of the safe ones."""
    steps: tuple[Step, ...]
    """In order; the first is the plain plan."""
    too_slow: Proposal | None
    """A plan that was not evaluated because float is as fast."""

    @property
    def best(self) -> Step | None:
        """None where no plan keeps the budget and is worth it."""
        return self.good[0] if self.good else None


@dataclass(frozen=True)
class Goal:
    """What a plan is to reach."""

    limit: float
    """Of the drop: the budget, in the metric's unit."""
    worth_ms: float
    """Only plans faster than this are worth it: the float model's latency, infinite where float cannot run."""
    margin: float
    """Standard errors of its drop that a safe plan stays below the limit: then other samples are likely to keep it too.
    Of its own drop, because quieter plans are also surer."""


Solve = Callable[[float], Proposal | None]
Score = Callable[[Plan], Comparison]


def search(plain: Proposal, solve: Solve, score: Score, goal: Goal, max_evaluations: int = MAX_EVALUATIONS) -> Found:
    """Evaluates the plain plan, and where that misses the budget, repaired ones.

    Args:
        plain: the plan without repairs.
        solve: the fastest plan whose predicted noise is within a bound, or None.
        score: compares a plan with the float model on *tune*; each call is one evaluation.
        goal: what a plan is to reach.
        max_evaluations: of `score`.
    """
    run = _Search(plain, solve, score, goal, max_evaluations)
    if run.evaluate(plain).safe:
        run.try_in_float()
    else:
        run.close_in()
        run.try_on_the_chance()
    return Found(run.good(), tuple(run.steps), run.too_slow)


class _Search:
    """Closes in between the largest noise that was good enough and the smallest that was too much."""

    def __init__(self, plain: Proposal, solve: Solve, score: Score, goal: Goal, max_evaluations: int) -> None:
        self._plain = plain
        self._solve = solve
        self._score = score
        self._goal = goal
        self._max_evaluations = max_evaluations
        self._most_good = 0.0
        self._least_bad = plain
        self._bad = plain.noise
        self.steps: list[Step] = []
        self.too_slow: Proposal | None = None

    def evaluate(self, proposal: Proposal) -> Step:
        """One run over *tune*."""
        comparison = self._score(proposal.plan)
        safe = self._with_margin(comparison) <= self._goal.limit
        step = Step(proposal, comparison, comparison.drop.value <= self._goal.limit, safe)
        self.steps.append(step)
        return step

    def good(self) -> tuple[Step, ...]:
        """The fastest of the safe ones first, then what may keep the budget with luck, the likeliest first."""
        worth = [step for step in self.steps if step.within and step.proposal.latency_ms < self._goal.worth_ms]
        safe = [step for step in worth if step.safe]
        safe.sort(key=lambda step: (step.proposal.latency_ms, step.proposal.noise))
        rest = [step for step in worth if not step.safe]
        rest.sort(key=lambda step: (step.comparison.drop.value, step.proposal.latency_ms))
        return (*safe, *rest)

    def try_in_float(self) -> None:
        """Where the plain plan is good but slower than float, operators that are better off in float may be why."""
        if self._plain.latency_ms < self._goal.worth_ms:
            return
        proposal = self._solve(self._plain.noise)
        if proposal is None or proposal.latency_ms >= self._goal.worth_ms:
            self.too_slow = proposal or self._plain
        else:
            self.evaluate(proposal)

    def close_in(self) -> None:
        """From the plain plan down to a plan that is good enough, then up to the fastest such one."""
        bound = self._plain.noise * self._step_down()
        while self._has_evaluations and self._bad > self._most_good * ENOUGH and self._could_gain(self._least_bad):
            proposal = self._solve(bound)
            if proposal is None or proposal.latency_ms >= self._goal.worth_ms:
                # Less noise only costs more: what is left to find is above this bound.
                self.too_slow = proposal or self.too_slow
                self._most_good = bound
            else:
                self._narrow(self._known(proposal) or self.evaluate(proposal), bound)
            bound = self._next_bound(bound)
            if bound < self._plain.noise * 1e-6:
                break

    def try_on_the_chance(self) -> None:
        """Louder plans, where one missed by no more than its standard error: others with as much noise may not."""
        spare, bound = SPARE_EVALUATIONS, self._bad
        if not any(step.safe for step in self.steps) or not any(map(self._missed_by_chance, self.steps)):
            return
        for _ in range(SPARE_SOLVES):
            bound *= SPARE_STEP
            if not spare or not self._has_evaluations or bound >= self._plain.noise:
                return
            proposal = self._solve(bound)
            if proposal is not None and self._known(proposal) is None and self._could_gain(proposal):
                self.evaluate(proposal)
                spare -= 1

    def _with_margin(self, comparison: Comparison) -> float:
        return comparison.drop.value + self._goal.margin * comparison.standard_error

    @property
    def _has_evaluations(self) -> bool:
        return len(self.steps) < self._max_evaluations

    def _could_gain(self, proposal: Proposal) -> bool:
        safe = [step.proposal.latency_ms for step in self.steps if step.safe]
        return not safe or proposal.latency_ms < min(safe) * (1 - GAIN)

    def _missed_by_chance(self, step: Step) -> bool:
        miss = self._with_margin(step.comparison) - self._goal.limit
        return 0 < miss <= step.comparison.standard_error

    def _known(self, proposal: Proposal) -> Step | None:
        return next((step for step in self.steps if step.proposal.repairs == proposal.repairs), None)

    def _narrow(self, step: Step, bound: float) -> None:
        """The same plan answers for every bound between its own noise and the one that it was asked for."""
        if step.safe:
            self._most_good = max(self._most_good, bound)
        elif min(step.proposal.noise, bound) < self._bad:
            self._bad, self._least_bad = min(step.proposal.noise, bound), step.proposal

    def _step_down(self) -> float:
        """A drop that grows with the amplitude of the noise asks for noise in the square of the ratio."""
        drop = self._with_margin(self.steps[-1].comparison)
        ratio = max(self._goal.limit, 0.0) / drop if drop > 0 else 0.0
        return min(LARGEST_STEP, max(SMALLEST_STEP, ratio**2))

    def _next_bound(self, bound: float) -> float:
        if self._most_good > 0:
            return math.sqrt(self._most_good * self._bad)
        return min(bound, self._bad) * self._step_down()
