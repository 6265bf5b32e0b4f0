"""Cron expressions: on which days, and at which minutes of a day, something starts. No dates, no zones, no clock.

Two spellings. `cron(30 18 ? * MON-FRI *)` has six fields as in AWS IoT Jobs: minute, hour, day of month, month, day of
week (1 is Sunday), year; exactly one of the two day fields is `?`. `30 18 * * 1-5` has the five fields of crontab(5):
day of week 0 to 7 (0 and 7 are Sunday, 1 is Monday), and a day fits either field where both are restricted.

Fields take `*`, numbers, names (`JAN`, `MON`), ranges, lists and steps; days of the month also `L` (the last), `LW` and
`15W` (the weekday nearest to it); days of the week also `6L` (the last of its kind) and `6#3` (the third).
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Callable
from datetime import date, timedelta
from functools import lru_cache

import msgspec

from ..policy.faults import PolicyError

MAX_CRON_CHARS = 200
FIRST_YEAR, LAST_YEAR = 1970, 2199
"""As in AWS."""
DAYS_OF_WEEK = {name: place for place, name in enumerate(("MON", "TUE", "WED", "THU", "FRI", "SAT", "SUN"))}
MONTHS = {name.upper(): place for place, name in enumerate(calendar.month_abbr) if name}

DayTest = Callable[[date], bool]


class Cron(msgspec.Struct, frozen=True):
    """An expression that was read."""

    text: str
    minutes: tuple[int, ...]
    """Minutes of the day at which it starts, on a clock on the wall, in order."""
    is_day: DayTest
    """Tells whether it starts on a day."""


class _Field(msgspec.Struct, frozen=True):
    name: str
    low: int
    high: int
    names: dict[str, int] = {}


_MINUTE = _Field("minute", 0, 59)
_HOUR = _Field("hour", 0, 23)
_DAY = _Field("day of month", 1, 31)
_MONTH = _Field("month", 1, 12, MONTHS)
_YEAR = _Field("year", FIRST_YEAR, LAST_YEAR)
_UNIX_WEEKDAY = _Field("day of week", 0, 7, {name: place + 1 for name, place in DAYS_OF_WEEK.items()})
_AWS_WEEKDAY = _Field("day of week", 1, 7, {name: (place + 1) % 7 + 1 for name, place in DAYS_OF_WEEK.items()})

_ITEM = re.compile(r"(?P<first>\*|[0-9]{1,4}|[A-Z]{3})(?:-(?P<last>[0-9]{1,4}|[A-Z]{3}))?(?:/(?P<step>[0-9]{1,4}))?")


@lru_cache(maxsize=512)
def parse(text: str) -> Cron:
    """Return the expression in a text.

    Raises:
        PolicyError: it is none, or one that never comes.
    """
    if len(text) > MAX_CRON_CHARS:
        raise PolicyError(f"cron expression of {len(text)} characters; the limit is {MAX_CRON_CHARS}")
    inner = re.fullmatch(r"\s*cron\((.*)\)\s*", text)
    fields = (inner.group(1) if inner else text).upper().split()
    if len(fields) != (6 if inner else 5):
        raise PolicyError(
            f"{text!r} is no cron expression: expected cron(minute hour day-of-month month day-of-week year), for "
            f'example "cron(30 18 * * ? *)", or the five fields of crontab, for example "30 18 * * *"; '
            f"got {len(fields)} fields"
        )
    minutes, hours = _numbers(fields[0], _MINUTE), _numbers(fields[1], _HOUR)
    months = _numbers(fields[3], _MONTH)
    years = _numbers(fields[5], _YEAR) if inner else frozenset(range(FIRST_YEAR, LAST_YEAR + 1))
    is_day = _days(fields[2], fields[4], is_aws=inner is not None)

    def fits(day: date) -> bool:
        return day.month in months and day.year in years and is_day(day)

    if not _ever_comes(fits, months, years):
        raise PolicyError(f"{text!r} never comes: no such day is in its months and years")
    return Cron(text, tuple(hour * 60 + minute for hour in sorted(hours) for minute in sorted(minutes)), fits)


def _days(day_of_month: str, day_of_week: str, *, is_aws: bool) -> DayTest:
    if is_aws and (day_of_month == "?") == (day_of_week == "?"):
        raise PolicyError(
            f"exactly one of day-of-month and day-of-week is `?` in cron(…), got {day_of_month!r} and {day_of_week!r}"
        )
    field = _AWS_WEEKDAY if is_aws else _UNIX_WEEKDAY
    of_month = _any_day if _is_open(day_of_month, is_aws) else _day_of_month(day_of_month)
    of_week = _any_day if _is_open(day_of_week, is_aws) else _day_of_week(day_of_week, field)
    if of_month is _any_day or of_week is _any_day:
        return lambda day: of_month(day) and of_week(day)
    return lambda day: of_month(day) or of_week(day)


def _is_open(field: str, is_aws: bool) -> bool:
    return field == "*" or (is_aws and field == "?")


def _any_day(_day: date) -> bool:
    return True


def _day_of_month(field: str) -> DayTest:
    tests: list[DayTest] = []
    for item in field.split(","):
        if item == "L":
            tests.append(lambda day: day.day == _length(day))
        elif item == "LW":
            tests.append(lambda day: day == _nearest_weekday(day, _length(day)))
        elif item.endswith("W"):
            tests.append(_is_nearest_weekday(_one(item[:-1], _DAY)))
        else:
            tests.append(_in_days(_numbers(item, _DAY)))
    return lambda day: any(test(day) for test in tests)


def _day_of_week(field: str, kind: _Field) -> DayTest:
    tests: list[DayTest] = []
    for item in field.split(","):
        if "#" in item:
            name, _, place = item.partition("#")
            tests.append(_is_nth(_weekday(_one(name, kind), kind), _one(place, _Field("place in the month", 1, 5))))
        elif item != "L" and item.endswith("L"):
            tests.append(_is_last(_weekday(_one(item[:-1], kind), kind)))
        else:
            numbers = {7} if item == "L" else _numbers(item, kind)
            tests.append(_in_weekdays(frozenset(_weekday(number, kind) for number in numbers)))
    return lambda day: any(test(day) for test in tests)


def _weekday(number: int, kind: _Field) -> int:
    """Return the day of the week as Python counts it, Monday is 0."""
    return (number - 2) % 7 if kind is _AWS_WEEKDAY else (number - 1) % 7


def _in_days(numbers: frozenset[int]) -> DayTest:
    return lambda day: day.day in numbers


def _in_weekdays(numbers: frozenset[int]) -> DayTest:
    return lambda day: day.weekday() in numbers


def _is_nth(weekday: int, place: int) -> DayTest:
    return lambda day: day.weekday() == weekday and (day.day - 1) // 7 + 1 == place


def _is_last(weekday: int) -> DayTest:
    return lambda day: day.weekday() == weekday and day.day + 7 > _length(day)


def _is_nearest_weekday(number: int) -> DayTest:
    return lambda day: number <= _length(day) and day == _nearest_weekday(day, number)


def _nearest_weekday(day: date, number: int) -> date:
    """Return the Monday to Friday nearest to a day of the month, without leaving the month."""
    wanted = day.replace(day=number)
    if wanted.weekday() == calendar.SATURDAY:
        return wanted - timedelta(days=1) if number > 1 else wanted + timedelta(days=2)
    if wanted.weekday() == calendar.SUNDAY:
        return wanted + timedelta(days=1) if number < _length(day) else wanted - timedelta(days=2)
    return wanted


def _length(day: date) -> int:
    return calendar.monthrange(day.year, day.month)[1]


def _numbers(field: str, kind: _Field) -> frozenset[int]:
    found: set[int] = set()
    for item in field.split(","):
        match = _ITEM.fullmatch(item)
        if match is None:
            raise _wrong(item, kind)
        first, last, step = match.group("first", "last", "step")
        if first == "*" and last is None:
            low, high = kind.low, kind.high
        else:
            low = _one(first, kind)
            high = _one(last, kind) if last else (kind.high if step else low)
        if low > high:
            raise PolicyError(f"{kind.name} {item!r}: a range goes up; write {low}-{kind.high},{kind.low}-{high}")
        if step is not None and int(step) < 1:
            raise PolicyError(f"{kind.name} {item!r}: expected a step of 1 or more")
        found.update(range(low, high + 1, int(step or 1)))
    return frozenset(found)


def _one(item: str, kind: _Field) -> int:
    number = kind.names.get(item, int(item) if item.isascii() and item.isdigit() and len(item) <= 4 else None)
    if number is None or not kind.low <= number <= kind.high:
        raise _wrong(item, kind)
    return number


def _wrong(item: str, kind: _Field) -> PolicyError:
    names = f" or {', '.join(kind.names)}" if kind.names else ""
    return PolicyError(f"{kind.name} {item!r}: expected `*` or {kind.low} to {kind.high}{names}, ranges, lists, steps")


def _ever_comes(fits: DayTest, months: frozenset[int], years: frozenset[int]) -> bool:
    """Look at 40 years, or at all if fewer were named: the calendar repeats after 28, or 40 across 2100."""
    some_years = sorted(year for year in years if year >= 2000)[:40] or sorted(years)
    return any(
        fits(date(year, month, day))
        for year in some_years
        for month in sorted(months)
        for day in range(1, calendar.monthrange(year, month)[1] + 1)
    )
