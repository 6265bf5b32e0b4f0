"""Finds many rows by their keys at once.

SQLite reads the whole table for `(a, b) IN (VALUES …)`, and uses the index for a join.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Table, and_, column, select, values

AT_ONCE = 1000
"""SQLite takes a limited number of values in one statement."""


def after_prefix(prefix: str) -> str:
    """Return the first text behind all that begin with a prefix."""
    return prefix[:-1] + chr(ord(prefix[-1]) + 1)


def rows_of(
    connection: Connection, table: Table, key: Sequence[ColumnElement[Any]], wanted: Sequence[tuple[Any, ...]]
) -> Iterator[Row[Any]]:
    """Yield the rows whose columns `key` have one of the wanted values, each of which is given once."""
    names = [f"key_{place}" for place in range(len(key))]
    for first in range(0, len(wanted), AT_ONCE):
        columns = [column(name, each.type) for name, each in zip(names, key, strict=True)]
        found = values(*columns, name="wanted").data(list(wanted[first : first + AT_ONCE])).cte("wanted")
        same = and_(*(each == found.c[name] for name, each in zip(names, key, strict=True)))
        yield from connection.execute(select(table).select_from(found.join(table, same)))
