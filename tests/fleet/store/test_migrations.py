"""A database of schema version 2, as version 2 wrote it, opens and keeps everything."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from edgewright.fleet.faults import FleetError
from edgewright.fleet.store import enrolment, releases, rollouts, windows
from edgewright.fleet.store.database import Database, read_meta
from edgewright.fleet.store.roster import Roster
from tests.fleet.house import House

DUMP = Path(__file__).parent / "schema_2.sql"
"""Three devices on release 1; release 2 is being rolled out, with an alpha of the failure gate's own; one token."""
KEPT = (
    "tokens",
    "devices",
    "bundles",
    "releases",
    "rollouts",
    "assignments",
    "desired",
    "windows",
    "totals",
    "updates",
)


def old(directory: Path) -> Path:
    directory.mkdir(mode=0o700)
    path = directory / "fleet.sqlite"
    connection = sqlite3.connect(path)
    connection.executescript(DUMP.read_text())
    connection.close()
    return directory


def rows(directory: Path, table: str, columns: str = "*") -> list[tuple[Any, ...]]:
    connection = sqlite3.connect(directory / "fleet.sqlite")
    try:
        return sorted(connection.execute(f"SELECT {columns} FROM {table}").fetchall(), key=repr)  # noqa: S608
    finally:
        connection.close()


def test_nothing_is_lost(tmp_path: Path) -> None:
    directory = old(tmp_path / "data")
    before = {table: rows(directory, table) for table in (*KEPT, "updates", "audit", "spools")}
    Database(directory).close()
    for table, had in before.items():
        names = columns_of(untouched(tmp_path), table)
        chosen = [name for name in names if (table, name) != ("rollouts", "row")]
        places = [names.index(name) for name in chosen]
        has = rows(directory, table, ", ".join(f'"{name}"' for name in chosen))
        assert has == sorted((tuple(row[place] for place in places) for row in had), key=repr), table


def untouched(tmp_path: Path) -> Path:
    directory = tmp_path / "untouched"
    return directory if directory.exists() else old(directory)


def columns_of(directory: Path, table: str) -> list[str]:
    connection = sqlite3.connect(directory / "fleet.sqlite")
    try:
        return [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
    finally:
        connection.close()


def test_it_reads_as_a_fleet(tmp_path: Path) -> None:
    database = Database(old(tmp_path / "data"))
    with database.read() as connection:
        assert read_meta(connection, "schema_version") == "4"
        first, second = reversed(rollouts.every(connection))
        assert (first.state, second.state) == ("completed", "running")
        assert second.policy.alpha == 0.01, "what was the failure gate's is now all gates'"
        assert second.policy.control.fractions == (0.0,), "a rollout that began without controls ends without them"
        assert [one.arm for one in rollouts.assignments_of(connection, first.id)] == ["treated"] * 3
        assert all(one.phase == "confirmed" for one in rollouts.assignments_of(connection, first.id))
        assert [(one.site, one.time_zone, one.labels) for one in enrolment.every(connection)] == [("", "UTC", {})] * 3
        assert len(releases.every_release(connection)) == 2
        assert windows.windows_of(connection)
        roster = Roster()
        roster.refresh(connection, [second], now_s=second.created_s + 60)
        assert {one.id: one.orders_last_day for one in roster.devices_for(second)} == {
            "dev-0": 1,
            "dev-1": 2,
            "dev-2": 1,
        }, "the orders of the last day are known"
    database.close()


def test_the_schema_is_that_of_a_new_database(tmp_path: Path) -> None:
    Database(old(tmp_path / "data")).close()
    Database(tmp_path / "new").close()
    query = 'name, type, "notnull", dflt_value, pk'
    names = [name for (name,) in rows(tmp_path / "new", "sqlite_master", "name") if not name.startswith("sqlite_")]
    assert names == [n for (n,) in rows(tmp_path / "data", "sqlite_master", "name") if not n.startswith("sqlite_")]
    for name in names:
        was, now = (rows(tmp_path / one, f"pragma_table_info('{name}')", query) for one in ("data", "new"))
        assert was == now, name
        was, now = (rows(tmp_path / one, f"pragma_index_info('{name}')", "name") for one in ("data", "new"))
        assert was == now, name
    triggers = [rows(tmp_path / one, "sqlite_master WHERE type = 'trigger'", "name, sql") for one in ("data", "new")]
    assert triggers[0] == triggers[1]


def test_version_3_gets_the_triggers_of_4(tmp_path: Path) -> None:
    Database(tmp_path / "new").close()
    Database(tmp_path / "data").close()
    connection = sqlite3.connect(tmp_path / "data" / "fleet.sqlite")
    for table in ("devices", "assignments"):
        connection.execute(f"DROP TRIGGER {table}_insert_changed")
        connection.execute(f"CREATE TRIGGER {table}_insert_changed AFTER INSERT ON {table} BEGIN SELECT 1; END")
    connection.execute("UPDATE meta SET value = '3' WHERE key = 'schema_version'")
    connection.commit()
    connection.close()
    Database(tmp_path / "data").close()
    triggers = [rows(tmp_path / one, "sqlite_master WHERE type = 'trigger'", "name, sql") for one in ("data", "new")]
    assert triggers[0] == triggers[1]


def test_a_migration_that_fails_changes_nothing(tmp_path: Path) -> None:
    directory = old(tmp_path / "data")
    connection = sqlite3.connect(directory / "fleet.sqlite")
    connection.execute("UPDATE rollouts SET row = 'not JSON'")
    connection.commit()
    connection.close()
    with pytest.raises(FleetError, match="cannot be read"):
        Database(directory)
    assert rows(directory, "meta WHERE key = 'schema_version'", "value") == [("2",)]
    assert "site" not in columns_of(directory, "devices")


def test_the_rollout_goes_on_where_it_was(tmp_path: Path) -> None:
    old(tmp_path / "data")
    house = House(tmp_path / "data")
    try:
        running = house.fleet.rollouts()[0]
        house.clock.now_s = running.created_s + 30
        house.reconciler.step(house.clock.now_s)
        view = house.fleet.rollout(running.id)
        assert view.rollout.state == "running"
        assert len(view.assignments) == 1, "the wave of one device that runs gets no second one"
        assert house.fleet.verify_audit().intact
    finally:
        house.close()


@pytest.mark.parametrize(("version", "says"), [("5", "no way down"), ("1", "release of edgewright that wrote it$")])
def test_a_file_of_another_age_is_refused_and_left_alone(tmp_path: Path, version: str, says: str) -> None:
    directory = old(tmp_path / "data")
    connection = sqlite3.connect(directory / "fleet.sqlite")
    connection.execute("UPDATE meta SET value = ? WHERE key = 'schema_version'", (version,))
    connection.commit()
    connection.close()
    before = rows(directory, "sqlite_master", "name")
    with pytest.raises(FleetError, match=says):
        Database(directory)
    assert rows(directory, "sqlite_master", "name") == before
    assert rows(directory, "meta WHERE key = 'schema_version'", "value") == [(version,)]
