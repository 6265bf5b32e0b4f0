"""What devices report: windows (the highest `seq` of a key stays), update events and gaps (once each), spool marks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, SelectBase, select
from sqlalchemy.dialects.sqlite import Insert as SqliteInsert
from sqlalchemy.dialects.sqlite import insert

from edgewright.runtime.telemetry.records import GapRecord, UpdateRecord, WindowRecord

from ..core.drift import ObservedWindow
from .mark import Mark
from .schema import gaps, spools, updates, windows

_encoder = msgspec.msgpack.Encoder()
_counts = msgspec.msgpack.Decoder(tuple[int, ...])
_histograms = msgspec.msgpack.Decoder(tuple[tuple[int, ...], ...])
_ranges = msgspec.msgpack.Decoder(tuple[tuple[int, int], ...])


class StoredUpdate(msgspec.Struct, frozen=True, kw_only=True):
    """An update event, where it stood in the device's spool, and when it came."""

    device: str
    spool: str
    seq: int
    received_s: float
    record: UpdateRecord


def _window_upsert() -> SqliteInsert:
    statement = insert(windows)
    keys = [column.name for column in windows.primary_key]
    changing = {column.name: statement.excluded[column.name] for column in windows.c if column.name not in keys}
    return statement.on_conflict_do_update(
        index_elements=keys, set_=changing, where=statement.excluded.seq > windows.c.seq
    )


_WINDOW_UPSERT = _window_upsert()
_UPDATE_INSERT = insert(updates).on_conflict_do_nothing()
_GAP_INSERT = insert(gaps).on_conflict_do_nothing()


def put_windows(connection: Connection, found: Iterable[tuple[str, WindowRecord]], *, now_s: float) -> None:
    """Store windows of devices; one that is older than what is stored of its key changes nothing."""
    rows = [_window_row(device, record) | {"received_s": now_s} for device, record in found]
    if rows:
        connection.execute(_WINDOW_UPSERT, rows)


def put_updates(connection: Connection, found: Sequence[StoredUpdate]) -> None:
    """Store update events; one that is stored already is left as it is."""
    rows = [
        msgspec.structs.asdict(event.record)
        | {"device": event.device, "spool": event.spool, "seq": event.seq, "received_s": event.received_s}
        for event in found
    ]
    if rows:
        connection.execute(_UPDATE_INSERT, rows)


def put_gaps(connection: Connection, found: Iterable[tuple[str, str, int, GapRecord]]) -> None:
    """Store gaps of (device, spool, seq)."""
    rows = [
        msgspec.structs.asdict(record) | {"device": device, "spool": spool, "seq": seq}
        for device, spool, seq, record in found
    ]
    if rows:
        connection.execute(_GAP_INSERT, rows)


def mark_of(connection: Connection, device: str, spool: str) -> Mark:
    """Return how far a spool has arrived."""
    row = connection.execute(select(spools).where(spools.c.device == device, spools.c.spool == spool)).one_or_none()
    return Mark() if row is None else Mark(upto=row.mark, ahead=_ranges.decode(row.ahead))


def put_mark(connection: Connection, device: str, spool: str, mark: Mark) -> None:
    """Store how far a spool has arrived."""
    values = {"mark": mark.upto, "ahead": _encoder.encode(mark.ahead)}
    connection.execute(
        insert(spools)
        .values(device=device, spool=spool, **values)
        .on_conflict_do_update(index_elements=["device", "spool"], set_=values)
    )


def windows_of(
    connection: Connection, *, model: str | None = None, since_s: float = 0, until_s: float | None = None
) -> list[ObservedWindow]:
    """Return the windows (of one model) that begin in a span of time."""
    query = select(windows).where(windows.c.window_start_s >= since_s)
    if model is not None:
        query = query.where(windows.c.model == model)
    if until_s is not None:
        query = query.where(windows.c.window_start_s < until_s)
    return [_observed(row) for row in connection.execute(query)]


def updates_of(connection: Connection, commands: Sequence[str] | SelectBase) -> list[StoredUpdate]:
    """Return the events of these commands (or of those that a query finds), in the order of the devices' spools."""
    query = select(updates).where(updates.c.command.in_(commands))
    return [_stored_update(row) for row in connection.execute(query.order_by(updates.c.device, updates.c.seq))]


def gaps_of(connection: Connection, device: str) -> list[GapRecord]:
    """Return what a device reported as lost."""
    found = connection.execute(select(gaps).where(gaps.c.device == device).order_by(gaps.c.first_seq))
    return [GapRecord(first_seq=row.first_seq, last_seq=row.last_seq, at_s=row.at_s) for row in found]


def _window_row(device: str, record: WindowRecord) -> dict[str, Any]:
    return msgspec.structs.asdict(record) | {
        "device": device,
        "latency": _encoder.encode(record.latency),
        "histograms": _encoder.encode(record.histograms),
    }


def _observed(row: Row[Any]) -> ObservedWindow:
    values = dict(row._mapping)  # noqa: SLF001  (public in spite of its name: sqlalchemy.Row documents it)
    del values["received_s"]
    device = values.pop("device")
    values["latency"] = _counts.decode(values["latency"])
    values["histograms"] = _histograms.decode(values["histograms"])
    return ObservedWindow(device=device, record=WindowRecord(**values))


def _stored_update(row: Row[Any]) -> StoredUpdate:
    values = dict(row._mapping)  # noqa: SLF001  (public in spite of its name: sqlalchemy.Row documents it)
    place = {key: values.pop(key) for key in ("device", "spool", "seq", "received_s")}
    return StoredUpdate(**place, record=UpdateRecord(**values))
