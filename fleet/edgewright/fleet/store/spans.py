"""The window records of some devices in spans of time, and how they join a cohort.

The windows' index begins with the time, so that new rows stand at its end. Windows lie on a grid, so the windows of one
series in a span are looked up one by one instead of reading all devices' windows of that time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import Connection, Row, select

from edgewright.runtime.telemetry.records import WindowRecord

from ..core.sums.slots import Changes, SlotKey, shape_of, slot_of
from ..core.sums.windows import Totals, amounts
from . import totals
from .lookup import rows_of
from .schema import series, windows

MOST_LOOKUPS = 4000
"""A series with more places on the grid than this is read in order instead: it has a wrong clock or tiny windows."""
_totals = msgspec.msgpack.Decoder(Totals)


class Span(NamedTuple):
    """The windows of a device that end after `since_s` and begin before `until_s`."""

    device: str
    since_s: float
    until_s: float


class Found(NamedTuple):
    """A record, and when its newest version came."""

    device: str
    record: WindowRecord
    received_s: float


def records_in(connection: Connection, model: str, spans: Iterable[Span]) -> Iterator[Found]:
    """Yield the window records of one model in the spans, each of another device."""
    span_of = {span.device: span for span in spans}
    wanted = [(device,) for device in sorted(span_of)]
    found = {
        row.id: row
        for row in rows_of(connection, series, (series.c.device,), wanted)
        if row.model == model and row.last_start_s > span_of[row.device].since_s - row.window_s
    }
    places: list[tuple[int, int]] = []
    for row in found.values():
        starts = _starts(row, span_of[row.device])
        if len(starts) > MOST_LOOKUPS:
            yield from _in_order(connection, row, span_of[row.device])
        else:
            places += [(start_s, row.id) for start_s in starts]
    key = (windows.c.window_start_s, windows.c.series)
    for each in rows_of(connection, windows, key, places):
        yield _found(found[each.series], each)


def join_cohort(connection: Connection, cohort: str, model: str, since_s: dict[str, float]) -> None:
    """Count the windows of these devices that end after a time of each for the cohort that they become a part of."""
    joined_before_s = totals.joined_before_s(connection)
    changes = Changes()
    spans = [Span(device, at_s, float("inf")) for device, at_s in since_s.items()]
    for _, record, _ in records_in(connection, model, spans):
        start_s, length_s = slot_of(record, joined_before_s=joined_before_s)
        counts = amounts(record)
        changes.add(SlotKey(cohort, record.bundle, start_s, length_s, shape_of(record.histograms)), counts)
    totals.change(connection, changes)


def _starts(row: Row[Any], span: Span) -> Sequence[int]:
    step = row.window_s
    first = int((span.since_s - step) // step + 1) * step
    last = min(span.until_s, row.last_start_s + 1)
    return range(first, int(-(-last // 1)), step)


def _in_order(connection: Connection, row: Row[Any], span: Span) -> Iterator[Found]:
    query = select(windows).where(
        windows.c.series == row.id,
        windows.c.window_start_s > span.since_s - row.window_s,
        windows.c.window_start_s < min(span.until_s, row.last_start_s + 1),
    )
    for each in connection.execute(query):
        yield _found(row, each)


def _found(one: Row[Any], row: Row[Any]) -> Found:
    return Found(one.device, record_of(one, row), row.received_s)


def record_of(one: Row[Any], row: Row[Any]) -> WindowRecord:
    """Return the record of a window of one series."""
    counts = _totals.decode(row.counts)
    return WindowRecord(
        model=one.model,
        version=one.version,
        bundle=one.bundle,
        reference=one.reference,
        window_start_s=row.window_start_s,
        window_s=one.window_s,
        boot=one.boot,
        incarnation=one.incarnation,
        seq=row.seq,
        closed=row.closed,
        requests=counts.requests,
        failures=counts.failures,
        rows=counts.rows,
        latency_us_sum=counts.latency_us_sum,
        latency=counts.latency,
        histograms=counts.histograms,
        crashes=counts.crashes,
        energy_uj_sum=counts.energy_uj_sum,
        energy_requests=counts.energy_requests,
        shadow_rows=counts.shadow_rows,
        shadow_disagreements=counts.shadow_disagreements,
        labelled=counts.labelled,
        labelled_correct=counts.labelled_correct,
    )
