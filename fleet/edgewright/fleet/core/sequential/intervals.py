"""Confidence sequences: intervals that hold at all times at once, for the reports beside the verdicts."""

from __future__ import annotations

import math

import msgspec

from ..statistics import log_beta

DEFAULT_TUNED_STEPS = 500
"""Steps at which an interval is narrowest; it is valid at all."""


class Interval(msgspec.Struct, frozen=True, kw_only=True):
    """Where a value lies, at all times at once with chance 1 - alpha."""

    low: float
    estimate: float
    high: float


def interval(
    steps: int, total: float, total_squared: float, alpha: float, tuned_steps: int = DEFAULT_TUNED_STEPS
) -> Interval | None:
    """Return the asymptotic confidence sequence of a mean; None before two steps.

    Waudby-Smith, Arbour, Sinha, Kennedy & Ramdas 2024, "Time-uniform central limit theory", eq. 11, as GrowthBook uses
    it (`gbstats/frequentist/tests.py`, SequentialTest), except that GrowthBook tunes it for 5 000 observations.
    """
    if steps < 2:
        return None
    mean = total / steps
    variance = max(0.0, (total_squared - total * mean) / (steps - 1))
    half = math.sqrt(variance) * _standard_half_width(steps, alpha, tuned_steps)
    return Interval(low=mean - half, estimate=mean, high=mean + half)


def _standard_half_width(steps: float, alpha: float, tuned_steps: float) -> float:
    rho2 = (-2 * math.log(alpha) + math.log(-2 * math.log(alpha) + 1)) / tuned_steps
    inner = steps * rho2 + 1
    return math.sqrt(2 * inner / (steps * steps * rho2) * math.log(math.sqrt(inner) / alpha))


def difference_interval(
    one: tuple[int, float, float], other: tuple[int, float, float], alpha: float, tuned_steps: int = 5_000
) -> Interval | None:
    """Return the interval of (mean of `one`) - (mean of `other`), each given as (count, sum, sum of squares).

    The two-sample form of `interval` (GrowthBook): the standard error of the difference with the width of a sequence of
    all observations.
    """
    parts = []
    for count, total, squares in (one, other):
        if count < 2:
            return None
        mean = total / count
        parts.append((mean, max(0.0, (squares - total * mean) / (count - 1)) / count))
    count = one[0] + other[0]
    estimate = parts[0][0] - parts[1][0]
    error = math.sqrt(parts[0][1] + parts[1][1])
    half = error * math.sqrt(count) * _standard_half_width(count, alpha, tuned_steps)
    return Interval(low=estimate - half, estimate=estimate, high=estimate + half)


def rate_interval(failures: int, executed: int, alpha: float) -> Interval | None:
    """Return the confidence sequence of a rate, exact at every count; None of nothing.

    It holds the rates p that a uniform mixture over all rates has not disproved: those with
    B(failures + 1, passed + 1) / (p^failures (1 - p)^passed) < 1/alpha (Robbins 1970).
    """
    if executed < 1:
        return None
    passed = executed - failures
    estimate = failures / executed
    floor = log_beta(failures + 1, passed + 1) + math.log(alpha)
    low = 0.0 if failures == 0 else _edge(failures, passed, floor, 0.0, estimate)
    high = 1.0 if passed == 0 else _edge(failures, passed, floor, 1.0, estimate)
    return Interval(low=low, estimate=estimate, high=high)


def _edge(failures: int, passed: int, floor: float, outside: float, inside: float) -> float:
    """Return where the likelihood falls to `floor`, between a rate outside the interval and one inside."""
    for _ in range(60):
        middle = (outside + inside) / 2
        likelihood = (failures * math.log(middle) if failures else 0.0) + (
            passed * math.log1p(-middle) if passed else 0.0
        )
        outside, inside = (middle, inside) if likelihood < floor else (outside, middle)
    return outside
