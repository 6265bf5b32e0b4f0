"""Brings a database of an earlier schema to the present one, in the transaction that opens it: all of it, or nothing.

Each step is written against the schema of its time and never changes again. Tables that are new as a whole are made
before (database.py).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from sqlalchemy import Connection

from ..faults import FleetError

OPEN_IN_2 = ("running", "paused")


def migrate(connection: Connection, found: int, wanted: int) -> bool:
    """Bring a database from one version to another; returns False where there is no way between them."""
    if not all(version in _STEPS for version in range(found, wanted)) or found > wanted:
        return False
    for version in range(found, wanted):
        _STEPS[version](connection)
    return True


def _from_2_to_3(connection: Connection) -> None:
    for statement in _STATEMENTS_3:
        connection.exec_driver_sql(statement)
    for row in connection.exec_driver_sql("SELECT rollout, state, row FROM rollouts").all():
        try:
            changed = _rollout_3(json.loads(row.row), row.state)
        except (ValueError, KeyError, TypeError) as error:
            raise FleetError(f"rollout {row.rollout} cannot be read ({error!r}); restore a backup") from error
        text = json.dumps(changed, ensure_ascii=False).encode()
        connection.exec_driver_sql("UPDATE rollouts SET row = ? WHERE rollout = ?", (text, row.rollout))


def _rollout_3(row: dict[str, Any], state: str) -> dict[str, Any]:
    """One alpha for all gates; and a rollout that began without controls ends without them."""
    policy = row["policy"]
    alpha = policy.get("failureGate", {}).pop("alpha", None)
    if alpha is not None:
        policy["alpha"] = alpha
    if state in OPEN_IN_2:
        policy["control"] = {"fractions": [0.0]}
    return row


_PLACE = (
    "site VARCHAR DEFAULT '' NOT NULL",
    "time_zone VARCHAR DEFAULT 'UTC' NOT NULL",
    "labels TEXT DEFAULT '{}' NOT NULL",
)
_CHANGED = "changed BIGINT DEFAULT '0' NOT NULL"
_NEW_COLUMNS_3 = {
    "tokens": _PLACE,
    "devices": (*_PLACE, _CHANGED),
    "rollouts": ("memory BLOB DEFAULT x'' NOT NULL",),
    "assignments": (
        "arm VARCHAR DEFAULT 'treated' NOT NULL",
        "block BIGINT DEFAULT '-1' NOT NULL",
        "site VARCHAR DEFAULT '' NOT NULL",
        "drawn_s FLOAT",
        "attempt INTEGER DEFAULT '1' NOT NULL",
        "rollback_version VARCHAR",
        "rollback_bundle VARCHAR",
        _CHANGED,
    ),
    "series": ("site VARCHAR DEFAULT '' NOT NULL",),
    "desired": ("settled BOOLEAN DEFAULT '0' NOT NULL",),
}
_STATEMENTS_3 = (
    *(f"ALTER TABLE {table} ADD COLUMN {column}" for table, columns in _NEW_COLUMNS_3.items() for column in columns),
    "UPDATE devices SET changed = rowid",
    "UPDATE assignments SET changed = rowid",
    """UPDATE assignments SET rollback_version = previous_version, rollback_bundle = previous_bundle
        WHERE rollback_command IS NOT NULL""",
    "UPDATE desired SET settled = 1 WHERE command IN (SELECT command FROM updates)",
    """INSERT INTO orders (device, model, at_s)
        SELECT device, model, dispatched_s FROM assignments JOIN rollouts USING (rollout)
        UNION ALL
        SELECT device, model, rolled_back_s FROM assignments JOIN rollouts USING (rollout)
        WHERE rolled_back_s IS NOT NULL ORDER BY 3""",
    "CREATE INDEX devices_by_changed ON devices (changed)",
    "CREATE INDEX assignments_by_changed ON assignments (changed)",
    "CREATE INDEX desired_unsettled ON desired (device) WHERE settled = 0",
    *(
        f"""CREATE TRIGGER {table}_{when.lower()}_changed AFTER {when} ON {table} {condition}BEGIN
        UPDATE {table} SET changed = (SELECT coalesce(max(changed), 0) + 1 FROM {table}) WHERE rowid = NEW.rowid;
        END"""  # noqa: S608  (constants)
        for table in ("devices", "assignments")
        for when, condition in (("INSERT", ""), ("UPDATE", "WHEN NEW.changed = OLD.changed "))
    ),
    """CREATE TRIGGER updates_settle AFTER INSERT ON updates BEGIN
        UPDATE desired SET settled = 1 WHERE device = NEW.device AND command = NEW.command;
        END""",
)


def _from_3_to_4(connection: Connection) -> None:
    """Rows may come with the number of their change."""
    for table in ("devices", "assignments"):
        connection.exec_driver_sql(f"DROP TRIGGER {table}_insert_changed")
        connection.exec_driver_sql(
            f"""CREATE TRIGGER {table}_insert_changed AFTER INSERT ON {table} WHEN NEW.changed = 0 BEGIN
        UPDATE {table} SET changed = (SELECT coalesce(max(changed), 0) + 1 FROM {table}) WHERE rowid = NEW.rowid;
        END"""  # noqa: S608  (constants)
        )


_STEPS: Mapping[int, Callable[[Connection], None]] = MappingProxyType({2: _from_2_to_3, 3: _from_3_to_4})
