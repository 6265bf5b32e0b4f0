"""Histograms: do the treated devices see, or answer, something else than their controls?

Earlier blocks say which bins the treated devices fill more than the controls; that is a weight in [0, 1] for each bin.
The next block's D is the mean weight of its treated rows minus that of its control rows: nothing on average where both
arms are alike, whatever the weights are, as they were chosen before the block was seen. A bet on D is then fair
(two-sample tests by betting with a predictable witness function: Shekhar & Ramdas 2023).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from math import log1p
from typing import Final

from ..observations import Evidence
from . import mixture

BETS: Final = (0.95, 0.7, 0.5, 0.35, 0.22, 0.12, 0.06, 0.02, -0.06, -0.22, -0.5, -0.95)
"""Mostly on the learnt direction; a few against it, should it turn."""
_SURE: Final = 2.0
"""Standard errors from which on a bin's direction counts in full."""
_SMOOTHING: Final = 1e-4
"""Share that an empty bin counts as in PSI."""


def advance(evidence: Evidence, treated: Sequence[float], control: Sequence[float]) -> Evidence:
    """Return the evidence after one block.

    Args:
        evidence: What is known from earlier blocks.
        treated: The share of each bin in the treated devices' rows; several histograms one after the other, each
            share then divided by the number of histograms, so that all add up to 1.
        control: The same for the controls.

    Raises:
        ValueError: The two differ in length, or are not shares.
    """
    if len(treated) != len(control) or not treated:
        raise ValueError(f"two histograms of {len(treated)} and {len(control)} bins cannot be compared")
    if min(treated) < 0 or min(control) < 0 or sum(treated) > 1 + 1e-6 or sum(control) > 1 + 1e-6:
        raise ValueError("shares of bins are at least 0 and add up to 1")
    bins = len(treated)
    # Other edges than before: what was learnt says nothing about them. What was won stays won.
    learnt = evidence.learnt if len(evidence.learnt) == 3 * bins else (0.0,) * (3 * bins)
    weights = _weights(learnt, bins)
    d = math.fsum([w * (a - b) for w, a, b in zip(weights, treated, control, strict=True)])
    d = min(1.0, max(-1.0, d))
    return mixture.advance(evidence, [log1p(bet * d) for bet in BETS], d, _learn(learnt, treated, control))


def pooled(evidence: Evidence) -> tuple[list[float], list[float]]:
    """Return the mean share of each bin over all blocks so far, of the treated devices and of the controls."""
    bins = len(evidence.learnt) // 3
    treated, control = evidence.learnt[:bins], evidence.learnt[bins : 2 * bins]
    all_treated, all_control = math.fsum(treated) or 1.0, math.fsum(control) or 1.0
    return [value / all_treated for value in treated], [value / all_control for value in control]


def pooled_psi(evidence: Evidence, sizes: Sequence[int] = ()) -> float:
    """Return the population stability index between the arms over all blocks so far.

    With the numbers of bins of several histograms in `sizes`, it is the highest of theirs.
    """
    treated, control = pooled(evidence)
    highest, start = 0.0, 0
    for size in sizes or (len(treated),):
        highest = max(highest, _psi(treated[start : start + size], control[start : start + size]))
        start += size
    return highest


def _weights(learnt: Sequence[float], bins: int) -> list[float]:
    """Return the weight of each bin: its difference so far, in its own standard errors, cut to [0, 1]."""
    weights = []
    for treated, control, squares in zip(learnt[:bins], learnt[bins : 2 * bins], learnt[2 * bins :], strict=True):
        z = (treated - control) / math.sqrt(squares) if squares else 0.0
        weights.append(0.5 + 0.5 * min(1.0, max(-1.0, z / _SURE)))
    return weights


def _learn(learnt: Sequence[float], treated: Sequence[float], control: Sequence[float]) -> tuple[float, ...]:
    new = (*treated, *control, *[(a - b) ** 2 for a, b in zip(treated, control, strict=True)])
    return tuple([old + value for old, value in zip(learnt, new, strict=True)])


def _psi(one: Sequence[float], other: Sequence[float]) -> float:
    all_one, all_other = math.fsum(one) or 1.0, math.fsum(other) or 1.0
    total = 0.0
    for a, b in zip(one, other, strict=True):
        p, q = max(a / all_one, _SMOOTHING), max(b / all_other, _SMOOTHING)
        total += (p - q) * math.log(p / q)
    return total
