"""A mixture of bets: the money is spread evenly over a fixed grid of bets, and each goes its own way.

The mean of the bets' wealth is the e-value (the method of mixtures: Robbins 1970; Howard et al. 2021). No bet has to be
the right one: the mixture loses at most ln(number of bets) against the best.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..observations import Evidence


def advance(evidence: Evidence, gains: Sequence[float], value: float, learnt: tuple[float, ...] = ()) -> Evidence:
    """Return the evidence after one step in which each bet's log wealth changed by its `gains`.

    `value` is what was bet on: kept as sum and sum of squares for people.
    """
    before = evidence.log_wealth
    wealth = tuple([old + gain for old, gain in zip(before, gains, strict=True)]) if before else tuple(gains)
    peak = evidence.peak
    # The mixture is at most its best bet: most steps need no exponential.
    if max(wealth) > peak:
        peak = max(peak, log_mean_exp(wealth))
    return Evidence(
        log_wealth=wealth,
        peak=peak,
        steps=evidence.steps + 1,
        total=evidence.total + value,
        total_squared=evidence.total_squared + value * value,
        learnt=learnt,
    )


def log_mean_exp(values: Sequence[float]) -> float:
    """Return ln of the mean of e^value, without overflow."""
    best = max(values)
    return best + math.log(math.fsum([math.exp(value - best) for value in values]) / len(values))
