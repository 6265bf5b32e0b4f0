"""Special functions and tests in plain `math`: the fleet needs no scipy at run time (the tests use it as oracle)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from statistics import NormalDist

_TINY = 1e-300
_EPSILON = 1e-15
_MAX_ITERATIONS = 100_000
"""Far above what is needed: the continued fractions take about sqrt(a + b) steps."""


def log_beta(a: float, b: float) -> float:
    """Return ln B(a, b)."""
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


def log_betainc(a: float, b: float, x: float) -> float:
    """Return ln I_x(a, b), the regularised incomplete beta function, without underflow in its lower tail."""
    if x <= 0:
        return -math.inf
    if x >= 1:
        return 0.0
    if x < (a + 1) / (a + b + 2):
        return _log_beta_front(a, b, x) + math.log(_beta_fraction(a, b, x))
    other = math.exp(_log_beta_front(b, a, 1 - x)) * _beta_fraction(b, a, 1 - x)
    return math.log1p(-min(other, 1 - _EPSILON))


def _log_beta_front(a: float, b: float, x: float) -> float:
    return a * math.log(x) + b * math.log1p(-x) - log_beta(a, b) - math.log(a)


def _beta_fraction(a: float, b: float, x: float) -> float:
    """Lentz's evaluation of the continued fraction of I_x(a, b)."""
    c = 1.0
    d = 1 / _away_from_zero(1 - (a + b) * x / (a + 1))
    value = d
    for m in range(1, _MAX_ITERATIONS):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        d = 1 / _away_from_zero(1 + even * d)
        c = _away_from_zero(1 + even / c)
        value *= d * c
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        d = 1 / _away_from_zero(1 + odd * d)
        c = _away_from_zero(1 + odd / c)
        value *= d * c
        if abs(d * c - 1) < _EPSILON:
            return value
    raise ArithmeticError(f"incomplete beta did not converge at a={a}, b={b}, x={x}")


def _away_from_zero(value: float) -> float:
    return value if abs(value) > _TINY else _TINY


def gamma_upper(a: float, x: float) -> float:
    """Return Q(a, x), the regularised upper incomplete gamma function."""
    if x <= 0:
        return 1.0
    front = math.exp(a * math.log(x) - x - math.lgamma(a))
    if x < a + 1:
        return max(0.0, 1 - front * _gamma_series(a, x))
    return front * _gamma_fraction(a, x)


def _gamma_series(a: float, x: float) -> float:
    term = value = 1 / a
    for n in range(1, _MAX_ITERATIONS):
        term *= x / (a + n)
        value += term
        if term < value * _EPSILON:
            return value
    raise ArithmeticError(f"incomplete gamma did not converge at a={a}, x={x}")


def _gamma_fraction(a: float, x: float) -> float:
    b = x + 1 - a
    c = 1 / _TINY
    d = 1 / _away_from_zero(b)
    value = d
    for n in range(1, _MAX_ITERATIONS):
        step = -n * (n - a)
        b += 2
        d = 1 / _away_from_zero(step * d + b)
        c = _away_from_zero(b + step / c)
        value *= d * c
        if abs(d * c - 1) < _EPSILON:
            return value
    raise ArithmeticError(f"incomplete gamma did not converge at a={a}, x={x}")


def chi2_upper(statistic: float, degrees: int) -> float:
    """Return the chance that a chi-square variable is at least `statistic`."""
    return 1.0 if degrees < 1 else gamma_upper(degrees / 2, statistic / 2)


@lru_cache(maxsize=4096)
def chi2_critical(alpha: float, degrees: int) -> float:
    """Return the value that a chi-square variable exceeds with chance `alpha`. The same few are asked for all day."""
    if degrees < 1:
        return 0.0
    low, high = 0.0, float(degrees)
    while chi2_upper(high, degrees) > alpha:
        high *= 2
    while high - low > 1e-10 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if chi2_upper(middle, degrees) > alpha else (low, middle)
    return high


def chi2_two_samples(one: Sequence[float], other: Sequence[float]) -> tuple[float, int]:
    """Return Pearson's statistic for "both counts come from one distribution" and its degrees of freedom."""
    n, m = sum(one), sum(other)
    if n == 0 or m == 0:
        return 0.0, 0
    filled = [(a, b) for a, b in zip(one, other, strict=True) if a + b]
    statistic = math.fsum((a * m - b * n) ** 2 / (a + b) for a, b in filled) / (n * m)
    return statistic, len(filled) - 1


def normal_upper(z: float) -> float:
    """Return the chance that a standard normal variable is at least `z`."""
    return 0.5 * math.erfc(z / math.sqrt(2))


def normal_critical(alpha: float) -> float:
    """Return the value that a standard normal variable exceeds with chance `alpha`."""
    return NormalDist().inv_cdf(1 - alpha)


def log_e_value(failures: int, executed: int, limit: float) -> float:
    """Return ln E against "each device fails with chance at most `limit`".

    E is a uniform mixture of likelihood ratios over all rates above the limit. Under the null hypothesis it is a
    supermartingale in the dispatch order that starts at 1, so the chance that it *ever* reaches 1/alpha is at most
    alpha (Ville): one may look after every device.
    """
    passed = executed - failures
    return (
        log_beta(failures + 1, passed + 1)
        + log_betainc(passed + 1, failures + 1, 1 - limit)
        - math.log1p(-limit)
        - failures * math.log(limit)
        - passed * math.log1p(-limit)
    )


def log_e_process(failed: Sequence[bool], limit: float) -> float:
    """Return the highest ln E over all prefixes of the devices in dispatch order.

    A success only ever lowers E, so the maximum is at a failure. Devices without a result yet count as successes: that
    can only lower E, so the bound on false stops holds, and early failures still show at once.
    """
    best = 0.0
    failures = 0
    for executed, is_failure in enumerate(failed, start=1):
        if is_failure:
            failures += 1
            best = max(best, log_e_value(failures, executed, limit))
    return best
