"""What devices report besides traffic (sums/windows.py): update events and gaps, once each, and spool marks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, SelectBase, select
from sqlalchemy.dialects.sqlite import insert

from edgewright.runtime.telemetry.records import GapRecord, UpdateRecord

from .lookup import rows_of
from .mark import Mark
from .schema import gaps, spools, updates

_encoder = msgspec.msgpack.Encoder()
_ranges = msgspec.msgpack.Decoder(tuple[tuple[int, int], ...])


class StoredUpdate(msgspec.Struct, frozen=True, kw_only=True):
    """An update event, where it stood in the device's spool, and when it came."""

    device: str
    spool: str
    seq: int
    received_s: float
    record: UpdateRecord


_UPDATE_INSERT = insert(updates).on_conflict_do_nothing()
_GAP_INSERT = insert(gaps).on_conflict_do_nothing()


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


def updates_of(connection: Connection, commands: Sequence[str] | SelectBase) -> list[StoredUpdate]:
    """Return the events of these commands (or of those that a query finds), in the order of the devices' spools."""
    if isinstance(commands, SelectBase):
        found: Iterable[Row[Any]] = connection.execute(select(updates).where(updates.c.command.in_(commands)))
    else:
        found = rows_of(connection, updates, (updates.c.command,), [(command,) for command in commands])
    return [_stored_update(row) for row in sorted(found, key=lambda row: (row.device, row.seq))]


def gaps_of(connection: Connection, device: str) -> list[GapRecord]:
    """Return what a device reported as lost."""
    found = connection.execute(select(gaps).where(gaps.c.device == device).order_by(gaps.c.first_seq))
    return [GapRecord(first_seq=row.first_seq, last_seq=row.last_seq, at_s=row.at_s) for row in found]


def _stored_update(row: Row[Any]) -> StoredUpdate:
    values = dict(row._mapping)  # noqa: SLF001  (public in spite of its name: sqlalchemy.Row documents it)
    place = {key: values.pop(key) for key in ("device", "spool", "seq", "received_s")}
    return StoredUpdate(**place, record=UpdateRecord(**values))
