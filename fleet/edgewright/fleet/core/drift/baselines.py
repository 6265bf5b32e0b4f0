"""Baselines that learn: the past, older windows counting less; or the same hour of earlier days. Pure.

A baseline learns only from windows that the monitor calls calm, so it follows change that is slow against its half-life
and does not follow a jump. A period's windows join the baseline when the period is over: a day must not be compared
with itself. Weights are at most 1, so taking the weighted sum of samples for the sample size never claims too much
(the effective size (sum w n)^2 / sum w^2 n is at least sum w n).
"""

from __future__ import annotations

import msgspec

from .alert_rules import AlertRule
from .measures import Rows

HOUR_S, DAY_S = 3600, 86400


class Bucket(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """One baseline: what has settled, and the windows of a period that is not over."""

    settled: Rows = ()
    settled_s: int = 0
    """The time to which the weights of `settled` belong."""
    fresh: Rows = ()
    period: int = 0


Learnt = dict[int, Bucket]
"""By hour of the day; `trailing` has one, at 0."""


def baseline_at(rule: AlertRule, learnt: Learnt, start_s: int) -> Rows | None:
    """Return what a window that begins at `start_s` is compared with; None before anything was learnt."""
    number, period = _place(rule, start_s)
    bucket = learnt.get(number)
    if bucket is None:
        return None
    return _folded(rule, bucket, period, start_s).settled or None


def learn(rule: AlertRule, learnt: Learnt, start_s: int, rows: Rows) -> Learnt:
    """Return the baselines after a calm window. Rows of other sizes begin anew: the reference has changed."""
    number, period = _place(rule, start_s)
    bucket = learnt.get(number)
    if bucket is None or _sizes(bucket.fresh) != _sizes(rows):
        return learnt | {number: Bucket(fresh=rows, period=period, settled_s=start_s)}
    bucket = _folded(rule, bucket, period, start_s)
    fresh = _sum(bucket.fresh, rows) if bucket.fresh else rows
    return learnt | {number: msgspec.structs.replace(bucket, fresh=fresh, period=period)}


def _place(rule: AlertRule, start_s: int) -> tuple[int, int]:
    if rule.baseline == "same_hour":
        return start_s % DAY_S // HOUR_S, start_s // DAY_S
    return 0, start_s


def _folded(rule: AlertRule, bucket: Bucket, period: int, now_s: int) -> Bucket:
    if period == bucket.period or not bucket.fresh:
        return bucket
    weight = 0.5 ** ((now_s - bucket.settled_s) / (rule.half_life_hours * HOUR_S))
    settled = tuple(tuple(count * weight for count in row) for row in bucket.settled)
    joined = _sum(settled, bucket.fresh) if settled else bucket.fresh
    return Bucket(settled=joined, settled_s=now_s, fresh=_nothing(bucket.fresh), period=period)


def _sum(one: Rows, other: Rows) -> Rows:
    return tuple(tuple(a + b for a, b in zip(*rows, strict=True)) for rows in zip(one, other, strict=True))


def _nothing(rows: Rows) -> Rows:
    return tuple((0.0,) * len(row) for row in rows)


def _sizes(rows: Rows) -> list[int]:
    return [len(row) for row in rows]
