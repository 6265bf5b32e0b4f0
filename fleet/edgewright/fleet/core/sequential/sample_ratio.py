"""Sample-ratio mismatch: are the arms as large as the draw said? If not, whatever they show proves nothing.

A sequential multinomial test: the counts under a Dirichlet mixture of shares around the planned ones, against the
planned ones (Lindon & Malek 2022, "Anytime-valid inference for multinomial count data"; their package `ssrm_test`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

DEFAULT_CONCENTRATION = 10_000.0
"""How close to the plan the mixture looks: mismatches that matter are of a percent or two."""


def log_e_value(counts: Sequence[int], shares: Sequence[float], concentration: float = DEFAULT_CONCENTRATION) -> float:
    """Return ln E against "each unit falls into arm i with chance `shares[i]`".

    It depends on the counts alone, so it may be computed whenever one looks; the chance that it ever reaches
    ln(1/alpha) is at most alpha.

    Raises:
        ValueError: The two differ in length, or the shares are not positive or do not add up to 1.
    """
    if len(counts) != len(shares) or min(shares, default=0) <= 0 or abs(sum(shares) - 1) > 1e-9:
        raise ValueError(f"{len(counts)} counts need as many positive shares that add up to 1, not {list(shares)}")
    value = math.lgamma(concentration) - math.lgamma(concentration + sum(counts))
    for count, share in zip(counts, shares, strict=True):
        prior = concentration * share
        value += math.lgamma(prior + count) - math.lgamma(prior) - count * math.log(share)
    return value
