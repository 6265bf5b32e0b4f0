"""Several tests of one release, together at one level.

A weighted mean of e-values is an e-value, however they hang together (Vovk & Wang 2021, "E-values: calibration,
combination and applications"), where p-values would have to be corrected for looking at many.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from ..observations import Evidence
from . import mixture


def log_e(evidence: Evidence) -> float:
    """Return the highest ln E so far: what one test alone may be judged by at any time (Ville)."""
    return evidence.peak


def log_e_now(evidence: Evidence) -> float:
    """Return ln E as it stands: what may be averaged with others, and which way the test leans."""
    return mixture.log_mean_exp(evidence.log_wealth) if evidence.log_wealth else 0.0


def weighted(parts: Iterable[tuple[float, float]]) -> float:
    """Return ln of the sum of weight * e^(ln E) over `(weight, ln E)`, without overflow; -inf of nothing.

    With weights that add up to 1 and each ln E as it stands now, it is the ln of an e-value: 1/alpha is reached with a
    chance of at most alpha. A test that alone reaches 1 / (alpha * weight) at its peak may stop too: the chances of
    that add up to alpha (the union bound).
    """
    terms = [math.log(weight) + value for weight, value in parts if weight > 0]
    if not terms:
        return -math.inf
    best = max(terms)
    if math.isinf(best):
        return best
    return best + math.log(math.fsum([math.exp(term - best) for term in terms]))
