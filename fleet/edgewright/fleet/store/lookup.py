"""Finds many rows by their keys at once, by the index: SQLite reads the whole table for `(a, b) IN (VALUES …)`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Select, Table, and_, bindparam, func, select

AT_ONCE = 10_000


def after_prefix(prefix: str) -> str:
    """Return the first text behind all that begin with a prefix."""
    return prefix[:-1] + chr(ord(prefix[-1]) + 1)


def rows_of(
    connection: Connection, table: Table, key: Sequence[ColumnElement[Any]], wanted: Sequence[tuple[Any, ...]]
) -> Iterator[Row[Any]]:
    """Yield the rows whose columns `key` have one of the wanted values (texts, integers), each of which is given once.

    The values travel as one JSON text, so that the statement is the same for any number of them and compiled once.
    """
    if not wanted:
        return
    statement = _statement(table, tuple(key))
    for first in range(0, len(wanted), AT_ONCE):
        keys = json.dumps(wanted[first : first + AT_ONCE])
        yield from connection.execute(statement, {"wanted_keys": keys})


@lru_cache(maxsize=64)
def _statement(table: Table, key: tuple[ColumnElement[Any], ...]) -> Select[Any]:
    given = func.json_each(bindparam("wanted_keys")).table_valued("value", name="wanted")
    same = and_(*(each == func.json_extract(given.c.value, f"$[{place}]") for place, each in enumerate(key)))
    return select(table).select_from(given.join(table, same))
