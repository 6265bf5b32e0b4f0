"""How far apart two histograms with the same bins are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate

TEST_BINS = 10
"""Numeric bins are joined to at most this many before testing: fewer bins see the same drift in fewer samples."""

MIN_EXPECTED = 5.0
"""Bins are joined until the smaller sample expects this many in each, so that the chi-square law holds."""

Counts = Sequence[int]


def psi(live: Counts, baseline: Counts) -> float:
    """Return the population stability index; half a count is added to each bin so that an empty one stays finite."""
    n, m = sum(live) + 0.5 * len(live), sum(baseline) + 0.5 * len(baseline)
    if not live:
        return 0.0
    return math.fsum(
        ((a + 0.5) / n - (b + 0.5) / m) * math.log(((a + 0.5) / n) / ((b + 0.5) / m))
        for a, b in zip(live, baseline, strict=True)
    )


def ks(live: Counts, baseline: Counts) -> float:
    """Return the Kolmogorov-Smirnov distance of the binned samples: never above that of the raw ones."""
    n, m = sum(live), sum(baseline)
    if n == 0 or m == 0:
        return 0.0
    pairs = zip(accumulate(live), accumulate(baseline), strict=True)
    return max(abs(a / n - b / m) for a, b in pairs)


def js(live: Counts, baseline: Counts) -> float:
    """Return the Jensen-Shannon distance with base 2: 0 is equal, 1 is disjoint."""
    n, m = sum(live), sum(baseline)
    if n == 0 or m == 0:
        return 0.0
    divergence = math.fsum(_js_term(a / n, b / m) for a, b in zip(live, baseline, strict=True)) / 2
    return math.sqrt(min(1.0, max(0.0, divergence)))


def _js_term(p: float, q: float) -> float:
    middle = (p + q) / 2
    left = p * math.log2(p / middle) if p > 0 else 0.0
    right = q * math.log2(q / middle) if q > 0 else 0.0
    return left + right


def ks_p_value(distance: float, n: int, m: int) -> float:
    """Return an upper bound of the chance of a KS distance this large (the leading term of Kolmogorov's series)."""
    return min(1.0, 2 * math.exp(-2 * distance * distance * n * m / (n + m))) if n and m else 1.0


def join_neighbours(live: Counts, baseline: Counts) -> tuple[list[int], list[int]]:
    """Join adjacent bins to at most `TEST_BINS` of about equal mass, each with enough expected counts."""
    share = _smaller_share(live, baseline)
    need = max(MIN_EXPECTED / share if share else math.inf, (sum(live) + sum(baseline)) / TEST_BINS)
    groups: list[list[int]] = [[0, 0]]
    for a, b in zip(live, baseline, strict=True):
        if sum(groups[-1]) >= need:
            groups.append([0, 0])
        groups[-1][0] += a
        groups[-1][1] += b
    if len(groups) > 1 and share * sum(groups[-1]) < MIN_EXPECTED:
        last = groups.pop()
        groups[-1] = [groups[-1][0] + last[0], groups[-1][1] + last[1]]
    return [a for a, _ in groups], [b for _, b in groups]


def join_rare(live: Counts, baseline: Counts) -> tuple[list[int], list[int]]:
    """Join the rare categories into one that stands last."""
    share = _smaller_share(live, baseline)
    kept: list[tuple[int, int]] = []
    rest_live = rest_baseline = 0
    for a, b in zip(live, baseline, strict=True):
        if share * (a + b) >= MIN_EXPECTED:
            kept.append((a, b))
        else:
            rest_live, rest_baseline = rest_live + a, rest_baseline + b
    if rest_live + rest_baseline:
        kept.append((rest_live, rest_baseline))
    return [a for a, _ in kept], [b for _, b in kept]


def _smaller_share(live: Counts, baseline: Counts) -> float:
    n, m = sum(live), sum(baseline)
    return min(n, m) / (n + m) if n and m else 0.0
