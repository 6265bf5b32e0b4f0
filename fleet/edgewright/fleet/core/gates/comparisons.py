"""What one block says about each metric: the numbers that its test is given, and which test that is.

| metric | test | numbers of a block |
|---|---|---|
| crashes, silence | odds | for each device: 1 if treated, 1 if it had the event |
| errors, accuracy, labels | mean and sign | loss of the treated minus that of the controls; the middle values below |
| disagreement | mean | loss of the treated minus that of the controls |
| latency, energy | sign | lower middle value of the treated, upper middle value of the controls |
| inputs, outputs | predictive | shares of the bins: of the treated, then of the controls |

Losses are tested in two ways with half of the money each. The *mean* finds a few devices that lose much; but as a share
may lie anywhere in [0, 1], a bet on it wins little from a loss of 15 points on every device. That is what the *sign*
finds: most blocks lose more than twice the limit. Twice, because rare events are lumpy: a device that fails one request
in 100 more on average does so in more than half of its hours, but fails two in 100 in less. A release that costs no
device more than the limit is stopped with a chance of at most alpha by both.

Numbers are rounded before the test sees them, so the audit log holds what the test saw, and folding it again gives the
same state bit for bit. Every device of an arm has the same say however much traffic it had: the coin drew devices.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from ..observations import Block, Evidence, Metric, Observation
from ..sequential import mean, mixture, odds, predictive, sign

BINS: Final = 16
"""Of each histogram: longer ones are joined, shorter ones filled up with empty bins, so that a row tells its shape."""
MOST_HISTOGRAMS: Final = 8
"""The first ones; the audit log keeps the shares of every block."""
_DIGITS: Final = 9
_SMALLEST_ODDS: Final = 0.01
_LARGEST_LOSS: Final = 0.999

Values = tuple[float, ...]


class Comparison(msgspec.Struct, frozen=True):
    """One metric's test."""

    values: Callable[[Block], Values]
    """What a block gives to it; empty where it says nothing."""
    advance: Callable[[Evidence, Values, float], Evidence]
    """The next state, from the last, such values and the limit."""
    default_loss: float
    """In the unit of `MetricLimit.max_loss`."""
    unit: str = "points"
    scale: float = 1.0
    """Of the test's limit in that unit."""

    def limit(self, max_loss: float | None) -> float:
        """Return the limit in the unit of the test."""
        return (self.default_loss if max_loss is None else max_loss) * self.scale


def _events(has_event: Callable[[Observation], bool]) -> Callable[[Block], Values]:
    return lambda block: tuple(
        [float(number) for one in block.observations for number in (one.is_treated, has_event(one))]
    )


def _odds(evidence: Evidence, values: Values, limit: float) -> Evidence:
    slots = [(bool(treated), bool(event)) for treated, event in zip(values[::2], values[1::2], strict=True)]
    return odds.advance(evidence, slots, max(_SMALLEST_ODDS, limit))


def _arms(block: Block, of: Callable[[Observation], float | None]) -> tuple[list[float], list[float]]:
    """Return what the treated say and what the controls say; devices that can say nothing are left out."""
    arms: tuple[list[float], list[float]] = ([], [])
    for one in block.observations:
        value = of(one)
        if value is not None:
            arms[not one.is_treated].append(value)
    return arms


def _difference(loss: Callable[[Observation], float | None]) -> Callable[[Block], Values]:
    def values(block: Block) -> Values:
        d = mean.difference(*_arms(block, loss))
        return () if d is None else (round(d, _DIGITS),)

    return values


def _mean(evidence: Evidence, values: Values, limit: float) -> Evidence:
    return mean.advance(evidence, values[0], min(limit, _LARGEST_LOSS))


def _losses(loss: Callable[[Observation], float | None]) -> Callable[[Block], Values]:
    difference, middles = _difference(loss), _middles(loss)
    return lambda block: (*difference(block), *middles(block))


def _mean_and_sign(evidence: Evidence, values: Values, limit: float) -> Evidence:
    by_mean, by_sign = _halves(evidence)
    by_mean = _mean(by_mean, values[:1], limit)
    by_sign = sign.advance(by_sign, values[1] - values[2] > 2 * limit)
    wealth = (*by_mean.log_wealth, *by_sign.log_wealth)
    return msgspec.structs.replace(by_mean, log_wealth=wealth, peak=max(evidence.peak, mixture.log_mean_exp(wealth)))


def _halves(evidence: Evidence) -> tuple[Evidence, Evidence]:
    """Return the two tests that share one state; both have as many bets, so their mean is that of all bets."""
    bets = len(mean.STAKES)
    wealth = evidence.log_wealth
    return (
        msgspec.structs.replace(evidence, log_wealth=wealth[:bets]),
        msgspec.structs.replace(evidence, log_wealth=wealth[bets:]),
    )


def _error_share(one: Observation) -> float | None:
    return min(1.0, one.failures / one.requests) if one.requests else None


def _inaccuracy(accuracy: float | None) -> float | None:
    """Estimates from labels can leave [0, 1], and bets on them would no longer be fair."""
    return None if accuracy is None else 1 - min(1.0, max(0.0, accuracy))


def _disagreement(block: Block) -> Values:
    """Controls that shadow nothing agree with the old release, which they run."""
    treated, control = _arms(block, lambda one: _share_of(one.shadow_disagreements, one.shadow_rows))
    if not treated:
        return ()
    d = mean.difference(treated, control or [0.0])
    return () if d is None else (round(d, _DIGITS),)


def _share_of(part: int, whole: int) -> float | None:
    return min(1.0, part / whole) if whole else None


def _middles(of: Callable[[Observation], float | None]) -> Callable[[Block], Values]:
    def values(block: Block) -> Values:
        treated, control = _arms(block, of)
        if not treated or not control:
            return ()
        lower, upper = sorted(treated)[(len(treated) - 1) // 2], sorted(control)[len(control) // 2]
        return round(lower, _DIGITS), round(upper, _DIGITS)

    return values


def _sign(evidence: Evidence, values: Values, limit: float) -> Evidence:
    return sign.advance(evidence, bool(sign.is_worse(values[:1], values[1:], limit)))


def _latency(one: Observation) -> float | None:
    return one.latency_us_sum / one.requests if one.requests else None


def _energy(one: Observation) -> float | None:
    return one.energy_uj_sum / one.energy_requests if one.energy_requests else None


Histograms = tuple[tuple[int, ...], ...]


def _shares(of: Callable[[Observation], Histograms]) -> Callable[[Block], Values]:
    def values(block: Block) -> Values:
        arms: tuple[list[list[float]], list[list[float]]] = ([], [])
        for one in block.observations:
            row = _row(of(one))
            if row:
                arms[not one.is_treated].append(row)
        treated, control = arms
        if not treated or not control or len({len(row) for arm in arms for row in arm}) > 1:
            return ()
        return (*_mean_row(treated), *_mean_row(control))

    return values


def _row(histograms: Histograms) -> list[float]:
    """Return the shares of all bins, those of each histogram adding up to the same; empty if one is empty."""
    row: list[float] = []
    used = histograms[:MOST_HISTOGRAMS]
    for counts in used:
        total = sum(counts) * len(used)
        if total <= 0:
            return []
        joined = [0.0] * BINS
        for place, count in enumerate(counts):
            joined[place if len(counts) <= BINS else place * BINS // len(counts)] += count / total
        row += joined
    return row


def _mean_row(rows: Sequence[Sequence[float]]) -> list[float]:
    return [round(sum(column) / len(rows), _DIGITS) for column in zip(*rows, strict=True)]


def _predictive(evidence: Evidence, values: Values, _limit: float) -> Evidence:
    half = len(values) // 2
    return predictive.advance(evidence, values[:half], values[half:])


COMPARISONS: Final[dict[Metric, Comparison]] = {
    "crashes": Comparison(_events(lambda one: one.crashes > 0), _odds, 1.0, "odds ratio"),
    "silence": Comparison(_events(lambda one: not one.heard), _odds, 1.0, "odds ratio"),
    "errors": Comparison(_losses(_error_share), _mean_and_sign, 1.0, scale=0.01),
    "latency": Comparison(_middles(_latency), _sign, 20.0, "%", 0.01),
    "energy": Comparison(_middles(_energy), _sign, 20.0, "%", 0.01),
    "accuracy": Comparison(_losses(lambda one: _inaccuracy(one.accuracy)), _mean_and_sign, 1.0, scale=0.01),
    "labels": Comparison(_losses(lambda one: _inaccuracy(one.labelled_accuracy)), _mean_and_sign, 1.0, scale=0.01),
    "disagreement": Comparison(_disagreement, _mean, 5.0, scale=0.01),
    "inputs": Comparison(_shares(lambda one: one.inputs), _predictive, 0.1, "PSI"),
    "outputs": Comparison(_shares(lambda one: one.outputs), _predictive, 0.1, "PSI"),
}
