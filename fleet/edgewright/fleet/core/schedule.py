"""When a rollout starts, ends, and may give orders: fixed times, and maintenance windows in each device's own zone."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from functools import cache
from zoneinfo import available_timezones

from .policy_sections import SchedulingConfig


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
    if not config.maintenance_windows:
        return lambda _device_zone: True
    return cache(lambda device_zone: bool(device_zone) and now_s >= 0)


def unknown_zones(zones: Iterable[str]) -> tuple[str, ...]:
    """Return those zones that no time zone database knows, each once, in order."""
    return tuple(sorted(set(zones) - available_timezones()))


@cache
def time_s(text: str) -> float:
    """Return an ISO 8601 time with an offset as seconds since 1970."""
    return datetime.fromisoformat(text).timestamp()
