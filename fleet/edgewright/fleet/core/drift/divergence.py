"""How far apart two histograms with the same bins are.

All figures agree with scipy on the same counts to 1e-9 (tests/fleet/core/drift/test_divergence.py): `psi_plain` with
`scipy.special.rel_entr`, `js` with `scipy.spatial.distance.jensenshannon(base=2)`, `ks` with the distance of
`scipy.stats.ks_2samp` and its p-value with `scipy.stats.kstwobign`. `psi` smooths; scipy has nothing of that kind.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate

TEST_BINS = 10
"""Numeric bins are joined to at most this many before testing: fewer bins see the same drift in fewer samples."""

MIN_EXPECTED = 5.0
"""Bins are joined until the smaller sample expects this many in each, so that the chi-square law holds."""

KOLMOGOROV_CERTAIN = 0.05
"""Below this, 1 - p is under 1e-200."""
KOLMOGOROV_SWITCH = 1.0
KOLMOGOROV_TERMS = 12
"""On either side of the switch the terms beyond are below 1e-100."""

Counts = Sequence[float]
"""Whole numbers; or weighted sums of them, where old traffic counts less (monitor.py)."""


def psi(live: Counts, baseline: Counts) -> float:
    """Return the population stability index; half a count is added to each bin so that an empty one stays finite."""
    n, m = sum(live) + 0.5 * len(live), sum(baseline) + 0.5 * len(baseline)
    return psi_of_shares([(a + 0.5) / n for a in live], [(b + 0.5) / m for b in baseline])


def psi_plain(live: Counts, baseline: Counts) -> float:
    """Return the population stability index as it is defined: infinite where only one of the two has an empty bin."""
    n, m = sum(live), sum(baseline)
    if n == 0 or m == 0:
        return 0.0
    return psi_of_shares([a / n for a in live], [b / m for b in baseline])


def psi_of_shares(live: Sequence[float], baseline: Sequence[float]) -> float:
    """Return the population stability index of two laws; infinite where only one of the two has an empty bin."""
    filled = [(p, q) for p, q in zip(live, baseline, strict=True) if p or q]
    if any(p == 0 or q == 0 for p, q in filled):
        return math.inf
    return math.fsum((p - q) * math.log(p / q) for p, q in filled)


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


def ks_p_value(distance: float, n: float, m: float) -> float:
    """Return the chance of a KS distance this large by Kolmogorov's law for large samples.

    With ties, as in bins, it is an upper bound. `ks_2samp(method="asymp")` corrects the law for one small sample and so
    differs by O(1/sqrt(n)).
    """
    return kolmogorov_upper(distance * math.sqrt(n * m / (n + m))) if n and m else 1.0


def kolmogorov_upper(z: float) -> float:
    """Return the chance that Kolmogorov's variable is at least `z`.

    The series in exp(-2 k^2 z^2) converges fast for large z and its theta transform for small z (Marsaglia, Tsang and
    Wang, "Evaluating Kolmogorov's distribution", 2003, section 4).
    """
    if z < KOLMOGOROV_CERTAIN:
        return 1.0
    if z < KOLMOGOROV_SWITCH:
        factor = math.sqrt(2 * math.pi) / z
        odd = range(1, 2 * KOLMOGOROV_TERMS, 2)
        return 1 - factor * math.fsum(math.exp(-((k * math.pi) ** 2) / (8 * z * z)) for k in odd)
    terms = range(1, KOLMOGOROV_TERMS)
    return min(1.0, 2 * math.fsum((-1) ** (k - 1) * math.exp(-2 * (k * z) ** 2) for k in terms))


def join_neighbours(live: Counts, baseline: Counts) -> tuple[list[float], list[float]]:
    """Join adjacent bins to at most `TEST_BINS` of about equal mass, each with enough expected counts."""
    share = _smaller_share(live, baseline)
    need = max(MIN_EXPECTED / share if share else math.inf, (sum(live) + sum(baseline)) / TEST_BINS)
    groups: list[list[float]] = [[0, 0]]
    for a, b in zip(live, baseline, strict=True):
        if sum(groups[-1]) >= need:
            groups.append([0, 0])
        groups[-1][0] += a
        groups[-1][1] += b
    if len(groups) > 1 and share * sum(groups[-1]) < MIN_EXPECTED:
        last = groups.pop()
        groups[-1] = [groups[-1][0] + last[0], groups[-1][1] + last[1]]
    return [a for a, _ in groups], [b for _, b in groups]


def join_rare(live: Counts, baseline: Counts) -> tuple[list[float], list[float]]:
    """Join the rare categories into one that stands last."""
    share = _smaller_share(live, baseline)
    kept: list[tuple[float, float]] = []
    rest_live = rest_baseline = 0.0
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
