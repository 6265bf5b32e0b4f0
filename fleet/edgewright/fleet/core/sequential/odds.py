"""Crashes, silence: does an event strike the treated devices of a block more often than chance allows?

Given how many devices of a block had the event, *which* of them had it is all that is left to see. If the release
changes nothing, each choice is equally likely, whatever the devices are like: the coin that drew the arms sees to it.
So the number of treated among them is hypergeometric; under an odds ratio theta it is Fisher's noncentral
hypergeometric. A bet on theta multiplies its wealth by the ratio of the two (conditional likelihood: Cox 1958;
Breslow & Day 1980, §7; as an e-process: Turner, Ly & Grünwald 2024, "Safe tests for 2x2 tables").

The ratio rises with the treated events, so the bound holds for every odds ratio up to `psi0`; where devices of a block
differ, their common ratio looks closer to 1 than it is, which is on the safe side too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from ..observations import Evidence
from . import mixture

RATIOS: Final = (1.2, 1.4, 1.7, 2.0, 2.5, 3.2, 4.0, 5.5, 8.0, 12.0, 20.0, 50.0)
"""Odds ratios bet on, as multiples of `psi0`."""


def advance(evidence: Evidence, slots: Sequence[tuple[bool, bool]], psi0: float = 1.0) -> Evidence:
    """Return the evidence after one block of devices, each `(is treated, had the event)`.

    A device nobody can tell of is left out of `slots`. The value kept is the number of treated events above what
    chance would give.
    """
    treated = sum([is_treated for is_treated, _ in slots])
    events = sum([event for _, event in slots])
    hit = sum([event for is_treated, event in slots if is_treated])
    if not treated * (len(slots) - treated) * events * (len(slots) - events):
        return mixture.advance(evidence, _NOTHING, 0.0)
    value = hit - events * treated / len(slots)
    return mixture.advance(evidence, _gains(treated, len(slots) - treated, events, hit, psi0), value)


_NOTHING: Final = (0.0,) * len(RATIOS)


@lru_cache(maxsize=65_536)
def _gains(treated: int, control: int, events: int, hit: int, psi0: float) -> tuple[float, ...]:
    null = _log_normaliser(treated, control, events, psi0)
    return tuple(
        hit * math.log(ratio) + null - _log_normaliser(treated, control, events, psi0 * ratio) for ratio in RATIOS
    )


def _log_normaliser(treated: int, control: int, events: int, odds: float) -> float:
    """Return ln of the sum over all ways to spread the events, each treated event weighing `odds`."""
    ways = range(max(0, events - control), min(treated, events) + 1)
    terms = [_log_choose(treated, k) + _log_choose(control, events - k) + k * math.log(odds) for k in ways]
    best = max(terms)
    return best + math.log(math.fsum([math.exp(term - best) for term in terms]))


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
