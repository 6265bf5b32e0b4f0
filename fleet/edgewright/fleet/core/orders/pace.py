"""How fast orders may go out: a fixed rate, or one that grows as devices hear of it or succeed."""

from __future__ import annotations

from collections.abc import Iterable

from ..policy.sections import ExponentialRate, RolloutConfig

MINUTE_S = 60.0
MOST_PER_MINUTE = 1_000_000_000
"""Above any fleet. A rate that has grown past it is no limit any more."""


def allowed_now(
    config: RolloutConfig, now_s: float, dispatched_s: Iterable[float], *, notified: int, succeeded: int
) -> int | None:
    """Return how many more orders may go out now; None is any number.

    Args:
        config: the policy's `jobExecutionsRolloutConfig`.
        now_s: the time of this tick.
        dispatched_s: when each order of the rollout went out, retries and graduations among them.
        notified: devices that have been given an order so far.
        succeeded: devices that have succeeded so far.
    """
    per_minute = rate_per_minute(config, notified=notified, succeeded=succeeded)
    return None if per_minute is None else left_this_minute(per_minute, now_s, dispatched_s)


def left_this_minute(per_minute: int, now_s: float, sent_s: Iterable[float]) -> int:
    """Return how many more may go out at this rate, so that no 60 seconds ever hold more.

    What was sent under a clock that ran far ahead and was set back is not waited for.
    """
    return max(0, per_minute - sum(now_s - MINUTE_S < each < now_s + MINUTE_S for each in sent_s))


def rate_per_minute(config: RolloutConfig, *, notified: int, succeeded: int) -> int | None:
    """Return the rate that the rollout has reached, in orders per minute; None is no limit."""
    if config.exponential_rate is None:
        return config.maximum_per_minute
    rate = _grown(config.exponential_rate, notified=notified, succeeded=succeeded)
    return rate if config.maximum_per_minute is None else min(rate, config.maximum_per_minute)


def _grown(config: ExponentialRate, *, notified: int, succeeded: int) -> int:
    criteria = config.rate_increase_criteria
    if criteria.number_of_succeeded_things is not None:
        steps = succeeded // criteria.number_of_succeeded_things
    else:
        steps = notified // (criteria.number_of_notified_things or 1)
    rate = float(config.base_rate_per_minute)
    while steps > 0 and rate < MOST_PER_MINUTE:
        rate, steps = rate * config.increment_factor, steps - 1
    return int(min(rate, MOST_PER_MINUTE))
