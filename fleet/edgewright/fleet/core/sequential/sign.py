"""Latency, energy: quantities without an upper bound. Are the treated devices worse more often than not?

A mean of such a quantity can be anything (one slow device in a thousand decides it), so only its sign is bet on: a
block counts as worse where its treated devices took more than `1 + max_loss` times what its controls took. If the
release costs at most that, this happens in at most half of the blocks. A bet b multiplies its wealth by 1 + b where it
does and by 1 - b where it does not (the sign test by betting: Shekhar & Ramdas 2023).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import log1p
from typing import Final

from ..observations import Evidence
from . import mixture

BETS: Final = (0.9, 0.75, 0.6, 0.48, 0.38, 0.3, 0.24, 0.18, 0.13, 0.09, 0.05, 0.02)
_WON: Final = tuple(log1p(bet) for bet in BETS)
_LOST: Final = tuple(log1p(-bet) for bet in BETS)


def advance(evidence: Evidence, worse: bool) -> Evidence:
    """Return the evidence after one block that was worse, or was not."""
    return mixture.advance(evidence, _WON if worse else _LOST, float(worse))


def is_worse(treated: Sequence[float], control: Sequence[float], max_loss: float) -> bool | None:
    """Return whether the treated devices of a block took more than `1 + max_loss` times what its controls took.

    Compares the lower middle value of the treated with the upper middle value of the controls. With means, nine treated
    devices against one control would be "worse" in most blocks of a release that changes nothing: a mean of skewed
    values is above most single values. With these two middle values the chance is at most 1/2 for any sizes: turning
    the order of the values around turns "worse" into "better", and both cannot be. None where an arm has nobody left.
    """
    if not treated or not control:
        return None
    return sorted(treated)[(len(treated) - 1) // 2] > (1 + max_loss) * sorted(control)[len(control) // 2]
