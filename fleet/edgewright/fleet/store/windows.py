"""Window records of single devices, as long as they are kept, and how they reach the totals.

A *series* is what one server process says about one bundle; its records differ by window. Totals are changed in the
transaction that stores the record. After some days a closed record is *folded*: its row goes, its counts stay in the
totals, and the series remembers the window. A record that comes for such a window later is a repetition, because a
closed record is the last one of its key: it changes nothing. A record that is not closed is never folded.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import Connection, bindparam, delete, func, select, update
from sqlalchemy.dialects.sqlite import insert

from edgewright.runtime.telemetry.records import WindowRecord

from ..core.sums import ranges
from ..core.sums.slots import FLEET, Changes, Reporting, SlotKey, cohort_of_arm, cohort_of_site, shape_of, slot_of
from ..core.sums.windows import ObservedWindow, Totals, amounts, latest, rank
from . import totals
from .lookup import rows_of
from .schema import assignments, devices, rollouts, series, windows
from .spans import record_of

GATED = ("running", "awaiting_approval", "paused", "following")
"""States of a rollout in which its waves are watched."""
_encoder = msgspec.msgpack.Encoder()
_totals = msgspec.msgpack.Decoder(Totals)
_ranges = msgspec.msgpack.Decoder(ranges.Ranges)


class _SeriesKey(NamedTuple):
    device: str
    model: str
    version: str
    bundle: str
    boot: str
    incarnation: str
    window_s: int


class _Series(msgspec.Struct):
    id: int
    last_start_s: int
    folded: ranges.Ranges
    site: str


class _Stored(NamedTuple):
    seq: int
    closed: bool
    counts: Totals


class _Order(NamedTuple):
    cohort: str
    dispatched_s: float


def put_windows(connection: Connection, found: Iterable[tuple[str, WindowRecord]], *, now_s: float) -> int:
    """Store windows and change the totals by what is new in them; return how many came too late to matter.

    Of one key, the record with the highest `seq` stays; an older or repeated one changes nothing.
    """
    newest = latest(ObservedWindow(device=device, record=record) for device, record in found)
    by_series: dict[_SeriesKey, list[WindowRecord]] = {}
    for window in newest.values():
        by_series.setdefault(_series_key(window.device, window.record), []).append(window.record)
    known = _series_of(connection, by_series)
    stored = _stored(
        connection, [(record.window_start_s, known[key].id) for key, each in by_series.items() for record in each]
    )
    orders = _orders(connection, {key.device for key in by_series})
    joined_before_s = totals.joined_before_s(connection)
    changes = Changes()
    rows: list[dict[str, Any]] = []
    late = 0
    for key, records in by_series.items():
        one, order = known[key], orders.get((key.device, key.model))
        for record in records:
            if ranges.holds(one.folded, record.window_start_s // record.window_s):
                late += 1
                continue
            old = stored.get((record.window_start_s, one.id))
            counts = amounts(record)
            if old is not None and rank(*old) >= rank(record.seq, record.closed, counts):
                continue
            rows.append(_row(one.id, record, counts, now_s=now_s))
            for slot in _slots(record, order, one.site, joined_before_s=joined_before_s):
                changes.add(slot._replace(shape=shape_of(counts.histograms)), counts)
                if old is not None:
                    changes.remove(slot._replace(shape=shape_of(old.counts.histograms)), old.counts)
    _write(connection, rows)
    _note_last(connection, by_series, known)
    totals.change(connection, changes)
    return late


def fold(connection: Connection, *, before_s: float, most: int) -> int:
    """Forget up to `most` closed windows that began before a time, oldest first; return how many. Totals stay."""
    query = (
        select(windows.c.series, windows.c.window_start_s, series.c.window_s, series.c.folded)
        .join(series, series.c.id == windows.c.series)
        .where(windows.c.closed, windows.c.window_start_s < before_s)
        .order_by(windows.c.window_start_s)
        .limit(most)
    )
    places: dict[int, list[int]] = {}
    folded: dict[int, ranges.Ranges] = {}
    rows = connection.execute(query).all()
    for row in rows:
        places.setdefault(row.series, []).append(row.window_start_s // row.window_s)
        folded[row.series] = _ranges.decode(row.folded)
    if not rows:
        return 0
    connection.execute(
        update(series).where(series.c.id == bindparam("one")).values(folded=bindparam("after")),
        [{"one": one, "after": _encoder.encode(ranges.union(folded[one], numbers))} for one, numbers in places.items()],
    )
    gone = windows.c.series == bindparam("one"), windows.c.window_start_s == bindparam("start")
    connection.execute(delete(windows).where(*gone), [{"one": row.series, "start": row.window_start_s} for row in rows])
    return len(rows)


def windows_of(connection: Connection, *, model: str | None = None, since_s: float = 0) -> list[ObservedWindow]:
    """Return the single windows (of one model) that are still kept and begin at or after a time."""
    query = select(series, windows).join(windows, windows.c.series == series.c.id)
    query = query.where(windows.c.window_start_s >= since_s)
    if model is not None:
        query = query.where(series.c.model == model)
    return [ObservedWindow(device=row.device, record=record_of(row, row)) for row in connection.execute(query)]


def reporting(connection: Connection, bundles: Iterable[str], *, since_s: float) -> list[Reporting]:
    """Return the devices with traffic on these bundles in windows that begin at or after a time."""
    ends_s = func.max(series.c.last_start_s + series.c.window_s)
    query = (
        select(series.c.device, series.c.bundle, ends_s.label("ends_s"))
        .where(series.c.bundle.in_(list(bundles)), series.c.last_start_s >= since_s)
        .group_by(series.c.device, series.c.bundle)
    )
    return [Reporting(device=row.device, bundle=row.bundle, ends_s=row.ends_s) for row in connection.execute(query)]


def _slots(record: WindowRecord, order: _Order | None, site: str, *, joined_before_s: int) -> list[SlotKey]:
    start_s, length_s = slot_of(record, joined_before_s=joined_before_s)
    key = SlotKey(FLEET, record.bundle, start_s, length_s, shape_of(record.histograms))
    keys = [key, key._replace(cohort=cohort_of_site(site))] if site else [key]
    if order is None or record.window_start_s + record.window_s <= order.dispatched_s:
        return keys
    return [*keys, key._replace(cohort=order.cohort)]


def _orders(connection: Connection, devices: Collection[str]) -> dict[tuple[str, str], _Order]:
    """Return the orders of these devices in rollouts that are watched, by device and model."""
    query = select(rollouts.c.rollout, rollouts.c.model).where(rollouts.c.state.in_(GATED))
    model_of = {row.rollout: row.model for row in connection.execute(query)}
    if not model_of:
        return {}
    found = rows_of(connection, assignments, (assignments.c.device,), [(device,) for device in sorted(devices)])
    return {
        (row.device, model_of[row.rollout]): _Order(
            cohort_of_arm(row.rollout, row.wave, is_control=row.arm == "control"), row.dispatched_s
        )
        for row in found
        if row.rollout in model_of
    }


def _series_key(device: str, record: WindowRecord) -> _SeriesKey:
    return _SeriesKey(
        device, record.model, record.version, record.bundle, record.boot, record.incarnation, record.window_s
    )


def _series_of(
    connection: Connection, wanted: Mapping[_SeriesKey, Sequence[WindowRecord]]
) -> dict[_SeriesKey, _Series]:
    found = _find_series(connection, {(key.device, key.incarnation) for key in wanted})
    missing = [key for key in wanted if key not in found]
    if not missing:
        return found
    names = [(device,) for device in sorted({key.device for key in missing})]
    site_of = {row.device: row.site for row in rows_of(connection, devices, (devices.c.device,), names)}
    rows = [
        {
            **key._asdict(),
            "reference": wanted[key][0].reference,
            "last_start_s": 0,
            "folded": _encoder.encode(()),
            "site": site_of.get(key.device, ""),
        }
        for key in missing
    ]
    connection.execute(insert(series), rows)
    return found | _find_series(connection, {(key.device, key.incarnation) for key in missing})


def _find_series(connection: Connection, wanted: Iterable[tuple[str, str]]) -> dict[_SeriesKey, _Series]:
    key = (series.c.device, series.c.incarnation)
    return {
        _SeriesKey(*(getattr(row, name) for name in _SeriesKey._fields)): _Series(
            id=row.id, last_start_s=row.last_start_s, folded=_ranges.decode(row.folded), site=row.site
        )
        for row in rows_of(connection, series, key, sorted(wanted))
    }


def _stored(connection: Connection, places: Sequence[tuple[int, int]]) -> dict[tuple[int, int], _Stored]:
    key = (windows.c.window_start_s, windows.c.series)
    return {
        (row.window_start_s, row.series): _Stored(row.seq, row.closed, _totals.decode(row.counts))
        for row in rows_of(connection, windows, key, places)
    }


def _write(connection: Connection, rows: list[dict[str, Any]]) -> None:
    if not rows:
        return
    statement = insert(windows)
    keys = {column.name for column in windows.primary_key}
    changing = {column.name: statement.excluded[column.name] for column in windows.c if column.name not in keys}
    connection.execute(statement.on_conflict_do_update(index_elements=sorted(keys), set_=changing), rows)


def _note_last(
    connection: Connection,
    came: Mapping[_SeriesKey, Sequence[WindowRecord]],
    known: Mapping[_SeriesKey, _Series],
) -> None:
    last = {key: max(record.window_start_s for record in records) for key, records in came.items()}
    rows = [
        {"one": known[key].id, "last": start_s} for key, start_s in last.items() if start_s > known[key].last_start_s
    ]
    if rows:
        statement = update(series).where(series.c.id == bindparam("one")).values(last_start_s=bindparam("last"))
        connection.execute(statement, rows)


def _row(one: int, record: WindowRecord, counts: Totals, *, now_s: float) -> dict[str, Any]:
    return {
        "series": one,
        "window_start_s": record.window_start_s,
        "seq": record.seq,
        "closed": record.closed,
        "counts": _encoder.encode(counts),
        "received_s": now_s,
    }
