"""Whether a newcomer is worse: a test that may be looked at after every event.

Jobs are dealt out by chance, so when newcomer and incumbent fail equally often, an event (an error, a slow answer) is
the newcomer's with the chance q of a job being so. Three bettors hold that its odds of an event are 2, 5 and 20 times
the incumbent's; each event multiplies a bettor's stake by the ratio of the two likelihoods. While nothing is wrong the
mean stake is a martingale from 1, so the chance that it ever reaches 1/α is at most α, whenever one looks (Ville's
inequality; Howard et al., "Time-uniform, nonparametric, nonasymptotic confidence sequences", 2021). Errors that both
make alike, such as an overloaded board's, speak for nobody. After `WINDOW` events the stakes begin anew: a newcomer
that was good for weeks must not have won so much trust that its fall goes unseen.
"""

from __future__ import annotations

import math
from collections import deque

ODDS = (2.0, 5.0, 20.0)
WINDOW = 1000

MEDIAN_OF = 255
MEDIAN_FROM = 32
"""Answers before there is a median to speak of."""
_SORT_EVERY = 16


class Evidence:
    """Bets on events of one kind."""

    def __init__(self, share: float, false_alarm: float) -> None:
        """`share`: chance that a job is the newcomer's; `false_alarm`: α."""
        newcomers = [odds * share / (odds * share + 1 - share) for odds in ODDS]
        self._if_newcomer = [math.log(chance / share) for chance in newcomers]
        self._if_incumbent = [math.log((1 - chance) / (1 - share)) for chance in newcomers]
        self.enough = math.log(1 / false_alarm)
        """The logarithm of the stake that decides."""
        self._stakes = [0.0] * len(ODDS)
        self._events = 0

    def add(self, *, newcomer: bool) -> bool:
        """One event; True where the newcomer is worse."""
        if self._events >= WINDOW:
            self._stakes, self._events = [0.0] * len(ODDS), 0
        self._events += 1
        gains = self._if_newcomer if newcomer else self._if_incumbent
        self._stakes = [stake + gain for stake, gain in zip(self._stakes, gains, strict=True)]
        return self.log_wealth >= self.enough

    @property
    def log_wealth(self) -> float:
        """Logarithm of the mean stake."""
        most = max(self._stakes)
        return most + math.log(sum(math.exp(stake - most) for stake in self._stakes) / len(self._stakes))


class RunningMedian:
    """Median of the latest values, up to `MEDIAN_OF` of them; sorted every few values."""

    def __init__(self) -> None:
        self._values: deque[int] = deque(maxlen=MEDIAN_OF)
        self._median: int | None = None
        self._since = 0

    def add(self, value: int) -> None:
        self._values.append(value)
        self._since += 1
        if len(self._values) >= MEDIAN_FROM and (self._median is None or self._since >= _SORT_EVERY):
            self._median, self._since = sorted(self._values)[len(self._values) // 2], 0

    @property
    def value(self) -> int | None:
        """None until there are enough."""
        return self._median
