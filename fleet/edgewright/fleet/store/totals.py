"""Running totals as rows: one for each slot of core/sums/slots.py."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, delete, select
from sqlalchemy.dialects.sqlite import insert

from ..core.rows import ENDED
from ..core.sums.slots import FLEET, HOUR_S, SITE, Changes, Slot, SlotKey, into_hours
from ..core.sums.windows import Totals
from .database import read_meta, write_meta
from .lookup import after_prefix, rows_of
from .schema import rollouts, totals

JOINED = "totals_joined_before_s"

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Totals)
_KEY = (totals.c.cohort, totals.c.bundle, totals.c.start_s, totals.c.length_s, totals.c.shape)


def joined_before_s(connection: Connection) -> int:
    """Return the moment before which slots are whole hours."""
    return int(read_meta(connection, JOINED) or 0)


def change(connection: Connection, changes: Changes) -> None:
    """Carry changes into the rows."""
    keys = changes.keys()
    before = {slot.key: slot.totals for slot in map(_slot, rows_of(connection, totals, _KEY, keys))}
    rows = [{**key._asdict(), "counts": _encoder.encode(after)} for key, after in changes.after(before).items()]
    if rows:
        statement = insert(totals)
        connection.execute(
            statement.on_conflict_do_update(index_elements=list(_KEY), set_={"counts": statement.excluded.counts}), rows
        )


def slots_of(
    connection: Connection,
    bundles: Collection[str],
    *,
    since_s: float,
    until_s: float,
    cohorts: Collection[str] = (FLEET,),
) -> list[Slot]:
    """Return the slots of these bundles and cohorts that begin at or after `since_s` and before `until_s`."""
    query = select(totals).where(
        totals.c.cohort.in_(list(cohorts)),
        totals.c.bundle.in_(list(bundles)),
        totals.c.start_s >= since_s,
        totals.c.start_s < until_s,
    )
    return [_slot(row) for row in connection.execute(query)]


def site_slots_of(connection: Connection, bundles: Collection[str], *, since_s: float, until_s: float) -> list[Slot]:
    """Return the slots of all sites with these bundles that begin at or after `since_s` and before `until_s`."""
    query = select(totals).where(
        totals.c.cohort >= SITE,
        totals.c.cohort < after_prefix(SITE),
        totals.c.bundle.in_(list(bundles)),
        totals.c.start_s >= since_s,
        totals.c.start_s < until_s,
    )
    return [_slot(row) for row in connection.execute(query)]


def drop_sites(connection: Connection, *, before_s: float) -> None:
    """Forget the sums of sites that began before a time; those of the whole fleet stay."""
    of_sites = (totals.c.cohort >= SITE, totals.c.cohort < after_prefix(SITE))
    connection.execute(delete(totals).where(*of_sites, totals.c.start_s < before_s))


def join_hours(connection: Connection, *, before_s: float) -> int:
    """Join the slots of whole hours that are over before a time; return how many slots were joined."""
    until_s = int(before_s) // HOUR_S * HOUR_S
    if until_s <= joined_before_s(connection):
        return 0
    old = (totals.c.start_s < until_s, totals.c.length_s != HOUR_S)
    slots = [_slot(row) for row in connection.execute(select(totals).where(*old))]
    connection.execute(delete(totals).where(*old))
    change(connection, into_hours(slots))
    write_meta(connection, JOINED, str(until_s))
    return len(slots)


def drop_ended(connection: Connection) -> None:
    """Remove the cohorts of rollouts that have ended: nobody asks for them again."""
    query = select(rollouts.c.rollout).where(rollouts.c.state.in_(sorted({*ENDED, "rolling_back"})))
    ended: Iterable[str] = connection.execute(query).scalars().all()
    present = connection.execute(select(totals.c.cohort).where(totals.c.cohort != FLEET).distinct()).scalars().all()
    gone = [cohort for cohort in present if cohort.partition("/")[0] in set(ended)]
    if gone:
        connection.execute(delete(totals).where(totals.c.cohort.in_(gone)))


def _slot(row: Row[Any]) -> Slot:
    key = SlotKey(row.cohort, row.bundle, row.start_s, row.length_s, row.shape)
    return Slot(key=key, totals=_decoder.decode(row.counts))
