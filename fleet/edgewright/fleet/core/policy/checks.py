"""What a policy must not say although every key of it is well formed. One function for each section."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TypeVar

from ..orders import cron
from ..orders.schedule import time_s
from . import selector
from .faults import PolicyError
from .sections import (
    Control,
    ControlGate,
    FailureGate,
    RetryConfig,
    RolloutConfig,
    SchedulingConfig,
    TimeoutConfig,
    Wave,
)

MAX_WAVES = 50
MAX_WINDOWS = 50
MAX_DEVICES = 10_000_000
MAX_RETRIES = 10
"""Over all criteria, as in AWS IoT Jobs."""
LEAST_FRACTION = 0.05
"""A block has at most 20 devices (orders/arms.py), and one of them is the smallest share."""
ODDS_METRICS = frozenset({"crashes", "silence"})

Read = TypeVar("Read")

_SHARE = re.compile(r"[0-9]{1,3}(\.[0-9]{1,6})?%")


def check_waves(waves: Sequence[int | str | Wave], where: str) -> None:
    """Check that each wave adds something, and that the last one leaves nobody out."""
    if not 1 <= len(waves) <= MAX_WAVES:
        raise PolicyError(f"{where}: waves: expected 1 to {MAX_WAVES} of them, got {len(waves)}")
    for number, wave in enumerate(waves, start=1):
        _check_wave(wave, number, where)
    rests = [number for number, wave in enumerate(waves, start=1) if _takes_all_that_are_left(wave)]
    if rests != [len(waves)]:
        raise PolicyError(
            f'{where}: waves: "rest" must be the last wave, and only the last (it may come earlier for some boards, '
            f"sites or a query); got {[_told(wave) for wave in waves]}. To leave devices out, use `group`"
        )


def check_group(group: str, where: str) -> None:
    """Check that the group is a query."""
    _named(f"{where}: group", selector.parse, group)


def check_pace(config: RolloutConfig, where: str) -> None:
    """Check that a growing rate has one reason to grow, and room."""
    rate = config.exponential_rate
    if rate is None:
        return
    at = f"{where}: jobExecutionsRolloutConfig.exponentialRate"
    criteria = rate.rate_increase_criteria
    named = (criteria.number_of_notified_things, criteria.number_of_succeeded_things)
    if sum(number is not None for number in named) != 1:
        raise PolicyError(
            f"{at}.rateIncreaseCriteria: expected exactly one of numberOfNotifiedThings and "
            f"numberOfSucceededThings, got {'both' if named[0] else 'none'}"
        )
    if abs(rate.increment_factor * 10 - round(rate.increment_factor * 10)) > 1e-9:
        raise PolicyError(f"{at}.incrementFactor: expected one decimal (1.5), got {rate.increment_factor:g}")
    most = config.maximum_per_minute
    if most is not None and most < rate.base_rate_per_minute:
        raise PolicyError(
            f"{at}.baseRatePerMinute is {rate.base_rate_per_minute}, more than maximumPerMinute ({most}), so it would "
            "never apply: lower it or raise maximumPerMinute"
        )


def check_timeouts(config: TimeoutConfig, horizon_s: float, where: str) -> None:
    """Check that a deadline comes before the horizon does."""
    for key, minutes in (
        ("inProgressTimeoutInMinutes", config.in_progress_timeout_in_minutes),
        ("queuedTimeoutInMinutes", config.queued_timeout_in_minutes),
    ):
        if minutes is not None and minutes * 60 > horizon_s:
            raise PolicyError(
                f"{where}: timeoutConfig.{key} is {minutes:g} min, longer than horizonSeconds "
                f"({horizon_s:g} s), so it would never apply: raise horizonSeconds or lower it"
            )


def check_retries(config: RetryConfig, where: str) -> None:
    """Check that each kind of failure has one number of retries."""
    at = f"{where}: jobExecutionsRetryConfig.criteriaList"
    kinds = [criterion.failure_type for criterion in config.criteria_list]
    _refuse_twice(kinds, at, "failureType")
    if "ALL" in kinds and len(kinds) > 1:
        raise PolicyError(f"{at}: ALL stands beside {', '.join(sorted(set(kinds) - {'ALL'}))}: which one counts?")
    total = sum(criterion.number_of_retries for criterion in config.criteria_list)
    if total > MAX_RETRIES:
        raise PolicyError(f"{at}: {total} retries in all; the limit is {MAX_RETRIES}")


def check_schedule(config: SchedulingConfig, where: str) -> None:
    """Check the times, their order, and each maintenance window."""
    at = f"{where}: schedulingConfig"
    start_s = _named(f"{at}.startTime", time_s, config.start_time) if config.start_time is not None else None
    end_s = _named(f"{at}.endTime", time_s, config.end_time) if config.end_time is not None else None
    if start_s is not None and end_s is not None and end_s <= start_s:
        raise PolicyError(f"{at}.endTime ({config.end_time}) is not after startTime ({config.start_time})")
    if end_s is None and config.end_behavior != "STOP_ROLLOUT":
        raise PolicyError(f"{at}.endBehavior is {config.end_behavior} but there is no endTime, so it would never apply")
    if len(config.maintenance_windows) > MAX_WINDOWS:
        raise PolicyError(f"{at}.maintenanceWindows: {len(config.maintenance_windows)}; the limit is {MAX_WINDOWS}")
    for number, window in enumerate(config.maintenance_windows):
        _named(f"{at}.maintenanceWindows[{number}].startTime", cron.parse, window.start_time)


def check_control(config: Control, where: str) -> None:
    """Check that the share of controls can be drawn and does not rise."""
    at = f"{where}: control.fractions"
    fractions = config.fractions
    if not 1 <= len(fractions) <= MAX_WAVES:
        raise PolicyError(f"{at}: expected 1 to {MAX_WAVES} shares, got {len(fractions)}; no controls: [0]")
    for fraction in fractions:
        if 0 < fraction < LEAST_FRACTION:
            raise PolicyError(
                f"{at}: {fraction:g} is less than one device in 20 ({LEAST_FRACTION:g}), the smallest share that is "
                "drawn; 0 is none"
            )
    if any(later > earlier for earlier, later in pairwise(fractions)):
        raise PolicyError(
            f"{at}: the share of controls falls from wave to wave, as more devices are at stake in waiting; "
            f"got {list(fractions)}"
        )


def check_control_gate(config: ControlGate, where: str) -> None:
    """Check that each metric has one limit, of its own kind."""
    at = f"{where}: controlGate.metrics"
    _refuse_twice([limit.metric for limit in config.metrics], at, "metric")
    for limit in config.metrics:
        if limit.metric in ODDS_METRICS and limit.max_loss is not None and limit.max_loss < 1:
            raise PolicyError(
                f"{at}: maxLoss of {limit.metric} is a ratio of odds, 1 is as many as the controls; got "
                f"{limit.max_loss:g}"
            )


def check_failure_gate(gate: FailureGate, where: str) -> None:
    """Check that what is accepted leaves something to fail."""
    accepted = gate.max_failure_percentage + (gate.max_silent_percentage or 0)
    if accepted >= 100:
        raise PolicyError(
            f"{where}: failureGate: maxFailurePercentage and maxSilentPercentage are {accepted:g} % together, so the "
            "gate could never stop anything: lower them, or say enabled = false"
        )


def _check_wave(wave: int | str | Wave, number: int, where: str) -> None:
    add = wave.add if isinstance(wave, Wave) else wave
    if not _adds(add):
        raise PolicyError(f'{where}: waves: wave {number} is {add!r}; expected a number (5), a share ("10%") or "rest"')
    if not isinstance(wave, Wave):
        return
    at = f"{where}: waves: wave {number}"
    for key, names in (("boards", wave.boards), ("sites", wave.sites)):
        _refuse_twice(names, at, key)
        if not all(names):
            raise PolicyError(f"{at}: {key}: an empty name; leave {key} out for all of them")
    _named(f"{at}: where", selector.parse, wave.where)


def _adds(add: int | str) -> bool:
    if isinstance(add, int):
        return 1 <= add <= MAX_DEVICES
    return add == "rest" or (_SHARE.fullmatch(add) is not None and 0 < float(add[:-1]) <= 100)


def _takes_all_that_are_left(wave: int | str | Wave) -> bool:
    if isinstance(wave, Wave):
        return wave.add == "rest" and not (wave.boards or wave.sites or wave.where.strip())
    return wave == "rest"


def _told(wave: int | str | Wave) -> str:
    if not isinstance(wave, Wave):
        return str(wave)
    limits = [key for key in ("boards", "sites", "where") if getattr(wave, key)]
    return f"{wave.add} of some {' and '.join(limits)}" if limits else str(wave.add)


def _refuse_twice(names: Sequence[str], at: str, key: str) -> None:
    twice = sorted(name for name, count in Counter(names).items() if count > 1)
    if twice:
        raise PolicyError(f"{at}: {key} {twice[0]!r} is there twice; name each once")


def _named(at: str, read: Callable[[str], Read], text: str) -> Read:
    """Read an expression; an error in it says in which key it stands."""
    try:
        return read(text)
    except PolicyError as error:
        raise PolicyError(f"{at}: {error}") from error
