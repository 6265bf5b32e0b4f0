"""Validity, exactly: over all ways in which the coin may have drawn the arms, a bet gains nothing on average."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewright.fleet.core.observations import Evidence
from edgewright.fleet.core.sequential import combine, mean, mixture, odds, predictive, sample_ratio, sign

shares = st.floats(0, 1)


def arms(size: int, treated: int) -> list[tuple[bool, ...]]:
    """All ways to draw the treated devices of a block."""
    return [tuple(place in chosen for place in range(size)) for chosen in itertools.combinations(range(size), treated)]


def wealth(evidence: Evidence) -> float:
    return math.exp(combine.log_e_now(evidence))


@given(st.data())
def test_odds_are_fair_whatever_the_devices_are_like(data: st.DataObject) -> None:
    events = data.draw(st.lists(st.booleans(), min_size=2, max_size=10))
    treated = data.draw(st.integers(1, len(events) - 1))
    drawn = [odds.advance(Evidence(), list(zip(arm, events, strict=True))) for arm in arms(len(events), treated)]
    assert sum(map(wealth, drawn)) / len(drawn) == pytest.approx(1)


@given(
    odds_of=st.lists(st.floats(0.001, 100), min_size=2, max_size=4),
    psi0=st.floats(1, 10),
    shrink=st.floats(0.1, 1),
)
@settings(max_examples=60)
def test_odds_gain_nothing_up_to_the_allowed_ratio_though_devices_differ(
    odds_of: list[float], psi0: float, shrink: float
) -> None:
    """Each device has odds of its own; the release multiplies them by at most psi0."""
    expected = 0.0
    for arm in arms(len(odds_of), len(odds_of) // 2):
        real = [each * psi0 * shrink if is_treated else each for each, is_treated in zip(odds_of, arm, strict=True)]
        for events in itertools.product((False, True), repeat=len(real)):
            chance = math.prod((o if event else 1) / (1 + o) for o, event in zip(real, events, strict=True))
            expected += chance * wealth(odds.advance(Evidence(), list(zip(arm, events, strict=True)), psi0))
    assert expected / len(arms(len(odds_of), len(odds_of) // 2)) <= 1 + 1e-9


@given(st.data())
def test_a_mean_gains_nothing_where_the_average_loss_is_at_the_limit(data: st.DataObject) -> None:
    without = data.draw(st.lists(shares, min_size=2, max_size=6))
    extra = data.draw(st.lists(st.floats(-1, 1), min_size=len(without), max_size=len(without)))
    treated = data.draw(st.integers(1, len(without) - 1))
    under = [min(1.0, max(0.0, base + more)) for base, more in zip(without, extra, strict=True)]
    effect = sum(under) / len(under) - sum(without) / len(without)
    limit = max(0.0, effect)
    if limit >= 1:
        return
    total = 0.0
    for arm in arms(len(without), treated):
        d = mean.difference(
            [new for new, is_treated in zip(under, arm, strict=True) if is_treated],
            [old for old, is_treated in zip(without, arm, strict=True) if not is_treated],
        )
        assert d is not None
        total += wealth(mean.advance(Evidence(), d, limit))
    assert total / len(arms(len(without), treated)) <= 1 + 1e-9


@given(st.data())
def test_worse_is_no_likelier_than_not_for_arms_of_any_size(data: st.DataObject) -> None:
    without = data.draw(st.lists(st.floats(0.01, 1e6), min_size=2, max_size=7))
    treated = data.draw(st.integers(1, len(without) - 1))
    max_loss = data.draw(st.floats(0, 1))
    worse = [
        sign.is_worse(
            [value * (1 + max_loss) * 0.999 for value, chosen in zip(without, arm, strict=True) if chosen],
            [value for value, chosen in zip(without, arm, strict=True) if not chosen],
            max_loss,
        )
        for arm in arms(len(without), treated)
    ]
    assert 2 * sum(map(bool, worse)) <= len(worse)


def test_signs_are_fair() -> None:
    assert wealth(sign.advance(Evidence(), True)) + wealth(sign.advance(Evidence(), False)) == pytest.approx(2)


@given(
    history=st.lists(st.tuples(*[st.lists(st.integers(0, 9), min_size=4, max_size=4)] * 2), max_size=6),
    pair=st.tuples(*[st.lists(st.integers(1, 9), min_size=4, max_size=4)] * 2),
)
def test_a_prediction_gains_nothing_where_the_arms_could_be_swapped(
    history: list[tuple[list[int], list[int]]], pair: tuple[list[int], list[int]]
) -> None:
    evidence = Evidence()
    for treated, control in history:
        evidence = predictive.advance(evidence, share_of(treated), share_of(control))
    one, other = map(share_of, pair)
    after = [predictive.advance(evidence, one, other), predictive.advance(evidence, other, one)]
    assert sum(map(wealth, after)) / 2 == pytest.approx(wealth(evidence))


def share_of(counts: Sequence[int]) -> list[float]:
    total = sum(counts)
    return [count / total if total else 0.0 for count in counts]


@pytest.mark.parametrize("plan", [(0.5, 0.5), (0.9, 0.1), (0.2, 0.3, 0.5)])
def test_counts_as_planned_are_fair(plan: tuple[float, ...]) -> None:
    after = 12
    expected = 0.0
    for counts in itertools.product(range(after + 1), repeat=len(plan)):
        if sum(counts) == after:
            ways = math.factorial(after) // math.prod(map(math.factorial, counts))
            chance = ways * math.prod(share**count for share, count in zip(plan, counts, strict=True))
            expected += chance * math.exp(sample_ratio.log_e_value(counts, plan, concentration=20))
    assert expected == pytest.approx(1)


@given(st.lists(st.floats(-50, 50), min_size=1, max_size=20))
def test_a_mixture_is_the_mean_of_its_bets(values: list[float]) -> None:
    expected = sum(map(math.exp, values)) / len(values)
    assert math.exp(mixture.log_mean_exp(values)) == pytest.approx(expected)


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(-20, 20)), min_size=1, max_size=6))
def test_a_weighted_sum_is_one(parts: list[tuple[float, float]]) -> None:
    expected = sum(weight * math.exp(value) for weight, value in parts)
    assert math.exp(combine.weighted(parts)) == pytest.approx(expected, rel=1e-9, abs=1e-300)


def test_a_weighted_sum_does_not_overflow() -> None:
    assert combine.weighted([(0.5, 5000.0), (0.5, 0.0)]) == pytest.approx(5000 + math.log(0.5))
    assert combine.weighted([]) == -math.inf
