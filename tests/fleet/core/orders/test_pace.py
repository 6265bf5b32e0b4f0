"""Rates: no minute holds more than the policy says, and a growing rate grows when it should."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewright.fleet.core.orders.pace import MOST_PER_MINUTE, allowed_now, left_this_minute, rate_per_minute
from edgewright.fleet.core.policy.sections import ExponentialRate, RateIncreaseCriteria, RolloutConfig


def growing(base: int, factor: float, *, cap: int | None = None, **criteria: int) -> RolloutConfig:
    return RolloutConfig(
        maximum_per_minute=cap,
        exponential_rate=ExponentialRate(
            base_rate_per_minute=base,
            increment_factor=factor,
            rate_increase_criteria=RateIncreaseCriteria(**criteria),
        ),
    )


def test_without_a_rate_there_is_no_limit() -> None:
    assert allowed_now(RolloutConfig(), 0.0, [0.0] * 1000, notified=1000, succeeded=0) is None


def test_a_fixed_rate_counts_the_last_minute() -> None:
    config = RolloutConfig(maximum_per_minute=3)
    assert allowed_now(config, 100.0, [], notified=0, succeeded=0) == 3
    assert allowed_now(config, 100.0, [40.0, 41.0, 99.0], notified=3, succeeded=0) == 1
    assert allowed_now(config, 100.0, [50.0] * 9, notified=9, succeeded=0) == 0


def test_a_rate_grows_with_what_was_notified() -> None:
    config = growing(10, 1.5, cap=40, number_of_notified_things=100)
    rates = [rate_per_minute(config, notified=count, succeeded=0) for count in (0, 99, 100, 200, 300, 400, 10**7)]
    assert rates == [10, 10, 15, 22, 33, 40, 40]


def test_a_rate_grows_with_what_succeeded_and_not_with_what_was_notified() -> None:
    config = growing(10, 2.0, number_of_succeeded_things=5)
    assert rate_per_minute(config, notified=1000, succeeded=4) == 10
    assert rate_per_minute(config, notified=1000, succeeded=5) == 20
    assert rate_per_minute(config, notified=10**7, succeeded=10**7) == MOST_PER_MINUTE


@pytest.mark.parametrize("jump_s", [-3600.0, 3600.0])
def test_a_clock_that_was_wrong_does_not_stop_the_rollout(jump_s: float) -> None:
    assert left_this_minute(5, 10_000.0, [10_000.0 + jump_s] * 100) == 5


@given(
    per_minute=st.integers(1, 20),
    steps_s=st.lists(st.floats(0, 40), min_size=1, max_size=60),
    wanted=st.integers(1, 30),
)
def test_no_sixty_seconds_hold_more_than_the_rate(per_minute: int, steps_s: list[float], wanted: int) -> None:
    config = RolloutConfig(maximum_per_minute=per_minute)
    sent: list[float] = []
    now_s = 0.0
    for step_s in steps_s:
        now_s += step_s
        left = allowed_now(config, now_s, sent, notified=len(sent), succeeded=0)
        assert left is not None
        sent += [now_s] * min(wanted, left)
    assert all(sum(start <= each < start + 60 for each in sent) <= per_minute for start in sent)
