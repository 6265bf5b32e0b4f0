"""Shares in [0, 1]: errors, accuracy, labels, disagreement. Is the treated arm worse by more than a limit on average?

Each block gives D, the loss of its treated devices minus that of its controls, in [-1, 1]. The arms were drawn by a
coin, so D is right on average whatever the devices are like. A bet lambda multiplies its wealth by
`1 + lambda * (D - limit)`: a fair game at best where the expected D is at most the limit (betting: Waudby-Smith &
Ramdas 2023, "Estimating means of bounded random variables by betting"; on two samples: Shekhar & Ramdas 2023).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import log1p
from typing import Final

from ..observations import Evidence
from . import mixture

STAKES: Final = (0.95, 0.8, 0.65, 0.5, 0.38, 0.28, 0.2, 0.14, 0.1, 0.06, 0.03, 0.01)
"""Shares of the largest bet that cannot go bankrupt."""


def advance(evidence: Evidence, d: float, limit: float) -> Evidence:
    """Return the evidence after one block whose treated devices lost `d` more than its controls.

    Raises:
        ValueError: `d` is outside [-1, 1] or `limit` outside [0, 1): the game would not be fair.
    """
    if not (-1 <= d <= 1 and 0 <= limit < 1):
        raise ValueError(f"a difference of two shares is in [-1, 1] and its limit in [0, 1), not {d} and {limit}")
    excess = d - limit
    return mixture.advance(evidence, [log1p(bet * excess) for bet in _bets(limit)], d)


def difference(treated: Sequence[float], control: Sequence[float]) -> float | None:
    """Return the mean loss of the treated minus that of the controls; None where an arm has nobody left."""
    if not treated or not control:
        return None
    return sum(treated) / len(treated) - sum(control) / len(control)


@lru_cache(maxsize=1024)
def _bets(limit: float) -> tuple[float, ...]:
    """Return the bets: D - limit is at least -(1 + limit), so a bet below 1 / (1 + limit) keeps its wealth positive."""
    return tuple(stake / (1 + limit) for stake in STAKES)
