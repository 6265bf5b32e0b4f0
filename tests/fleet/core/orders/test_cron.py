"""Cron expressions: both spellings, against plain counting of days."""

from __future__ import annotations

import calendar
from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewright.fleet.core.orders.cron import parse
from edgewright.fleet.core.policy.faults import PolicyError

YEAR = [date(2026, 1, 1) + timedelta(days=place) for place in range(365)]


def days(text: str, of: list[date] = YEAR) -> list[str]:
    cron = parse(text)
    return [day.strftime("%a %d.%m.") for day in of if cron.is_day(day)]


MARCH = [day for day in YEAR if day.month == 3]


@pytest.mark.parametrize(
    ("aws", "unix"),
    [
        ("cron(30 18 * * ? *)", "30 18 * * *"),
        ("cron(0 2 ? * 1 *)", "0 2 * * 0"),
        ("cron(0 2 ? * SUN *)", "0 2 * * 7"),
        ("cron(0 2 ? * 2-6 *)", "0 2 * * 1-5"),
        ("cron(0 2 ? * MON-FRI *)", "0 2 * * mon-fri"),
        ("cron(*/15 0,12 1 JAN,JUL ? *)", "*/15 0,12 1 1,7 *"),
        ("cron(5/20 1-3 1/7 * ? 1970-2199)", "5/20 1-3 1-31/7 * *"),
        ("cron(0 0 ? * 3#2 *)", "0 0 * * 2#2"),
        ("cron(0 0 ? * 6L *)", "0 0 * * 5L"),
        ("cron(0 0 ? * L *)", "0 0 * * 6"),
        ("cron(0 0 LW * ? *)", "0 0 LW * *"),
    ],
)
def test_both_spellings_say_the_same(aws: str, unix: str) -> None:
    assert parse(aws).minutes == parse(unix).minutes
    assert days(aws) == days(unix) != []


def test_minutes_of_the_day() -> None:
    assert parse("30 18 * * *").minutes == (18 * 60 + 30,)
    assert parse("5/20 1-3/2 * * *").minutes == (65, 85, 105, 185, 205, 225)
    assert len(parse("* * * * *").minutes) == 1440


def test_days_of_the_month() -> None:
    assert days("0 0 L 2-4 *") == ["Sat 28.02.", "Tue 31.03.", "Thu 30.04."]
    assert days("0 0 LW 2-5 *") == ["Fri 27.02.", "Tue 31.03.", "Thu 30.04.", "Fri 29.05."]
    # the 15th is a Sunday in March and a Wednesday in April; the 1st is a Sunday in March and must not leave the month
    assert days("0 0 15W 3,4 *") == ["Mon 16.03.", "Wed 15.04."]
    assert days("0 0 1W 3 *") == ["Mon 02.03."]
    assert days("0 0 1W 8 *") == ["Mon 03.08."]
    assert days("0 0 31W 1-5 *") == ["Fri 30.01.", "Tue 31.03.", "Fri 29.05."]
    assert days("0 0 1,15,L 3 *") == ["Sun 01.03.", "Sun 15.03.", "Tue 31.03."]


def test_days_of_the_week() -> None:
    assert days("0 0 * 3 1#1,5#5", MARCH) == ["Mon 02.03."]
    assert days("cron(0 0 ? 3 2L *)") == ["Mon 30.03."]
    assert days("cron(0 0 ? 3 SUN#5 *)") == ["Sun 29.03."]


def test_crontab_takes_either_day_where_both_are_restricted() -> None:
    assert days("0 0 13 3 5") == ["Fri 06.03.", "Fri 13.03.", "Fri 20.03.", "Fri 27.03."]
    assert days("0 0 14 3 5") == ["Fri 06.03.", "Fri 13.03.", "Sat 14.03.", "Fri 20.03.", "Fri 27.03."]


def test_the_year_counts() -> None:
    assert days("cron(0 0 1 1 ? 2027)") == []
    assert parse("cron(0 0 1 1 ? 2027)").is_day(date(2027, 1, 1))
    assert parse("cron(0 0 29 2 ? 2024/4)").is_day(date(2028, 2, 29))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["no cron expression", "got 0 fields", "cron(30 18 * * ? *)"]),
        ("0 2 * *", ["got 4 fields"]),
        ("0 2 * * * *", ["got 6 fields"]),
        ("cron(0 2 * * *)", ["got 5 fields"]),
        ("cron(0 2 * * ? *", ["got 6 fields"]),
        ("@daily", ["no cron expression"]),
        ("cron(0 2 * * * *)", ["exactly one", "`?`"]),
        ("cron(0 2 ? * ? *)", ["exactly one"]),
        ("0 2 ? * *", ["day of month '?'"]),
        ("60 2 * * *", ["minute '60'", "0 to 59"]),
        ("0 24 * * *", ["hour '24'", "0 to 23"]),
        ("0 2 0 * *", ["day of month '0'", "1 to 31"]),
        ("0 2 * 13 *", ["month '13'", "JAN"]),
        ("0 2 * FOO *", ["month 'FOO'"]),
        ("0 2 * * 8", ["day of week '8'", "0 to 7"]),
        ("cron(0 2 ? * 0 *)", ["day of week '0'", "1 to 7"]),
        ("cron(0 2 * * ? 1969)", ["year '1969'", "1970 to 2199"]),
        ("0 22-4 * * *", ["22-23,0-4", "goes up"]),
        ("*/0 2 * * *", ["step of 1 or more"]),
        ("1,,2 2 * * *", ["minute ''"]),
        ("-5 2 * * *", ["minute '-5'"]),
        ("1.5 2 * * *", ["minute '1.5'"]),
        ("² 2 * * *", ["minute '²'"]),
        ("0 0 * * 1#6", ["place in the month '6'", "1 to 5"]),
        ("0 0 W * *", ["day of month ''"]),
        ("0 0 30 2 *", ["never comes"]),
        ("0 0 31 4,6,9,11 *", ["never comes"]),
        ("cron(0 0 29 2 ? 2025-2027)", ["never comes"]),
        ("0 " * 200, ["limit is 200"]),
    ],
)
def test_what_is_no_cron_expression_is_refused(text: str, words: list[str]) -> None:
    with pytest.raises(PolicyError) as caught:
        parse(text)
    for word in words:
        assert word in str(caught.value)


@given(st.text(alphabet="0123456789*/-,?LW#MONJAcron() ", max_size=40) | st.text(max_size=30))
def test_any_text_is_an_expression_or_one_clear_error(text: str) -> None:
    try:
        cron = parse(text)
    except PolicyError:
        return
    assert cron.minutes == tuple(sorted(set(cron.minutes)))
    assert all(0 <= minute < 1440 for minute in cron.minutes)


@given(
    month_days=st.sets(st.integers(1, 28), min_size=1),
    week_days=st.sets(st.integers(0, 6), min_size=1),
    months=st.sets(st.integers(1, 12), min_size=1),
)
def test_lists_are_plain_membership(month_days: set[int], week_days: set[int], months: set[int]) -> None:
    def joined(numbers: set[int]) -> str:
        return ",".join(map(str, sorted(numbers)))

    by_month_day = parse(f"0 0 {joined(month_days)} {joined(months)} *")
    by_week_day = parse(f"0 0 * {joined(months)} {joined(week_days)}")
    for day in YEAR:
        assert by_month_day.is_day(day) is (day.day in month_days and day.month in months)
        # crontab(5): 0 is Sunday; Python: 0 is Monday
        assert by_week_day.is_day(day) is ((day.weekday() + 1) % 7 in week_days and day.month in months)


@given(st.integers(1, 31), st.dates(date(1971, 1, 1), date(2198, 12, 31)))
def test_the_nearest_weekday_is_nearest(number: int, any_day: date) -> None:
    last = calendar.monthrange(any_day.year, any_day.month)[1]
    month = [any_day.replace(day=place) for place in range(1, last + 1)]
    fits = [day for day in month if parse(f"0 0 {number}W * *").is_day(day)]
    if number > last:
        assert fits == []
        return
    wanted = any_day.replace(day=number)
    weekdays = [day for day in month if day.weekday() < 5]
    assert fits == [min(weekdays, key=lambda day: abs(day - wanted))]
