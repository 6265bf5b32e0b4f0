"""The audit log in the database: entries are only ever added, in the transaction of the change that they speak of."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, insert, select

from ..trust import audit as chain
from .schema import audit

_detail = msgspec.json.Decoder(dict[str, Any])


def append(
    connection: Connection, *, now_s: float, actor: str, action: str, subject: str, detail: dict[str, Any]
) -> chain.AuditEntry:
    """Add an entry; it becomes visible, or does not, together with the rest of the transaction."""
    entry = chain.next_entry(last(connection), at_s=now_s, actor=actor, action=action, subject=subject, detail=detail)
    row = msgspec.structs.asdict(entry)
    connection.execute(insert(audit).values(row | {"detail": chain.canonical(detail)}))
    return entry


def last(connection: Connection) -> chain.AuditEntry | None:
    """Return the newest entry."""
    row = connection.execute(select(audit).order_by(audit.c.seq.desc()).limit(1)).one_or_none()
    return None if row is None else _entry(row)


def page(
    connection: Connection, *, limit: int, before_seq: int | None = None, subject: str | None = None
) -> list[chain.AuditEntry]:
    """Return entries, newest first."""
    query = select(audit).order_by(audit.c.seq.desc()).limit(limit)
    if before_seq is not None:
        query = query.where(audit.c.seq < before_seq)
    if subject is not None:
        query = query.where(audit.c.subject == subject)
    return [_entry(row) for row in connection.execute(query)]


def about(connection: Connection, subject: str) -> Iterator[chain.AuditEntry]:
    """Yield all entries about one thing, oldest first."""
    for row in connection.execute(select(audit).where(audit.c.subject == subject).order_by(audit.c.seq)).yield_per(
        1000
    ):
        yield _entry(row)


def every(connection: Connection) -> Iterator[chain.AuditEntry]:
    """Yield all entries, oldest first."""
    for row in connection.execute(select(audit).order_by(audit.c.seq)).yield_per(1000):
        yield _entry(row)


def _entry(row: Row[Any]) -> chain.AuditEntry:
    values = dict(row._mapping)  # noqa: SLF001  (public in spite of its name: sqlalchemy.Row documents it)
    try:
        detail = _detail.decode(values["detail"])
    except msgspec.DecodeError:
        detail = {
            "unreadable": str(values["detail"])
        }  # someone changed it: the chain's check is to say so, not to fail
    return chain.AuditEntry(**values | {"detail": detail})
