"""Numbers for the column `changed` of many rows at once (schema.TRIGGERS)."""

from __future__ import annotations

from typing import Literal

from sqlalchemy import Connection


def next_change(connection: Connection, table: Literal["devices", "assignments"]) -> int:
    """Return the number of a table's next change. All rows of one transaction may have the same one."""
    query = f"SELECT coalesce(max(changed), 0) + 1 FROM {table}"  # noqa: S608  (constants)
    return int(connection.exec_driver_sql(query).scalar_one())
