"""When a rollout starts, ends, and may give orders: fixed times, and maintenance windows in each device's own zone.

A window opens when the clock on the device's wall first shows its start, and lasts its minutes of real time. Where the
clocks jump over the start (spring), it opens at the jump; where they show it twice (autumn), it opens the first time.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from functools import cache, partial
from zoneinfo import ZoneInfo, available_timezones

from ..policy.faults import PolicyError
from ..policy.sections import MaintenanceWindow, SchedulingConfig
from .cron import Cron, parse

DAYS_BACK = 2
"""A window opened less than a day ago; where a zone skipped a day, the day before that one counts too."""


def is_before_start(config: SchedulingConfig, now_s: float) -> bool:
    """Tell whether `startTime` is still ahead."""
    return config.start_time is not None and now_s < time_s(config.start_time)


def is_after_end(config: SchedulingConfig, now_s: float) -> bool:
    """Tell whether `endTime` has come."""
    return config.end_time is not None and now_s >= time_s(config.end_time)


def opens(config: SchedulingConfig, device_zone: str, now_s: float) -> bool:
    """Tell whether a device in this zone is inside a maintenance window, or there are none.

    A zone that is not known counts as UTC (`unknown_zones` names them).
    """
    return opener(config, now_s)(device_zone)


def opener(config: SchedulingConfig, now_s: float) -> Callable[[str], bool]:
    """Return `opens` for one tick, which works out each zone once."""
    windows = [(parse(window.start_time), window) for window in config.maintenance_windows]
    if not windows:
        return lambda _device_zone: True
    return cache(
        lambda device_zone: any(_is_open(cron, window, zone_of(device_zone), now_s) for cron, window in windows)
    )


def unknown_zones(zones: Iterable[str]) -> tuple[str, ...]:
    """Return those zones that the time zone database does not have, each once, in order."""
    return tuple(sorted(set(zones) - known_zones()))


@cache
def known_zones() -> frozenset[str]:
    """Return the names of all time zones, but for `localtime`, which is another zone on each machine."""
    return frozenset(available_timezones() - {"localtime"})


@cache
def zone_of(name: str) -> tzinfo:
    """Return a time zone; UTC where there is none of that name."""
    return ZoneInfo(name) if name in known_zones() else UTC


@cache
def time_s(text: str) -> float:
    """Return an ISO 8601 time with an offset as seconds since 1970.

    Raises:
        PolicyError: it is none, or has no offset.
    """
    example = 'for example "2026-03-29T02:30:00+01:00", or with "Z" for UTC'
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            raise PolicyError(f"{text!r} does not say in which zone: expected an offset at its end, {example}")
        return moment.timestamp()
    except (ValueError, OverflowError) as error:
        raise PolicyError(f"{text!r} is no time in ISO 8601: expected date, time and offset, {example}") from error


def _is_open(cron: Cron, window: MaintenanceWindow, zone: tzinfo, now_s: float) -> bool:
    started_s = _last_start_s(cron, zone, now_s)
    return started_s is not None and now_s < started_s + window.duration_in_minutes * 60


def _last_start_s(cron: Cron, zone: tzinfo, now_s: float) -> float | None:
    """Return the latest start that is not ahead; None where it was too long ago for any window."""
    today = datetime.fromtimestamp(now_s, zone).date()
    for days_back in range(-1, DAYS_BACK + 1):
        day = today - timedelta(days=days_back)
        if cron.is_day(day):
            # moments grow with the clock on the wall, since of two moments that it shows the first one counts
            moment_s = partial(_moment_s, zone, day)
            place = bisect_right(cron.minutes, now_s, key=moment_s)
            if place:
                return moment_s(cron.minutes[place - 1])
    return None


def _moment_s(zone: tzinfo, day: date, minute: int) -> float:
    """Return when a clock on a wall of this zone first shows a time, or jumps over it."""
    wall = datetime.combine(day, time(minute // 60, minute % 60), zone)
    moment_s = wall.timestamp()
    if datetime.fromtimestamp(moment_s, zone).replace(tzinfo=None) == wall.replace(tzinfo=None):
        return moment_s
    return _jump_s(wall.replace(fold=1).timestamp(), moment_s, zone)


def _jump_s(before_s: float, after_s: float, zone: tzinfo) -> float:
    """Return the second between these two at which the clocks of a zone go forward."""
    old = datetime.fromtimestamp(before_s, zone).utcoffset()
    low, high = int(before_s), int(after_s)
    while high - low > 1:
        middle = (low + high) // 2
        if datetime.fromtimestamp(middle, zone).utcoffset() == old:
            low = middle
        else:
            high = middle
    return float(high)
