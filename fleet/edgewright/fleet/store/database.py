"""The database file: who may write it, and how a transaction begins and ends.

Many readers, one writer: `write()` hands out one transaction at a time, begun IMMEDIATE, committed with an fsync of the
WAL (synchronous=FULL), so that what was acknowledged after a commit survives a power cut, not only a kill.
"""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, create_engine, event, insert, select, update
from sqlalchemy.engine import Engine
from sqlalchemy.exc import DatabaseError

from ..faults import FleetError, FleetUnavailable
from . import schema
from .migrations import migrate

FILE_NAME = "fleet.sqlite"
_WRITE = "edgewright_write"


class Database:
    """An open database. Readers see committed states only; `write()` serialises writers across threads."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._lock_file = _claim(directory)
        self._write_lock = threading.Lock()
        self._engine = _engine(directory / FILE_NAME)
        try:
            _prepare(self._engine, directory / FILE_NAME)
        except BaseException:
            self.close()
            raise

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """One consistent snapshot."""
        with self._engine.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """One transaction: all of it is on disk when the block ends well, none of it when it raises."""
        with self._write_lock, self._engine.connect() as connection:
            writing = connection.execution_options(**{_WRITE: True})
            with writing.begin():
                yield writing

    def close(self) -> None:
        """Give the file back; a second fleet server may then open it."""
        self._engine.dispose()
        os.close(self._lock_file)


def read_meta(connection: Connection, key: str) -> str | None:
    """Return a fact about this database, or None."""
    value = connection.execute(select(schema.meta.c.value).where(schema.meta.c.key == key)).scalar_one_or_none()
    return None if value is None else str(value)


def write_meta(connection: Connection, key: str, value: str) -> None:
    """Set a fact about this database."""
    if read_meta(connection, key) is None:
        connection.execute(insert(schema.meta).values(key=key, value=value))
    else:
        connection.execute(update(schema.meta).where(schema.meta.c.key == key).values(value=value))


def _claim(directory: Path) -> int:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        directory.chmod(0o700)
        descriptor = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise FleetUnavailable(
            f"data directory {directory}: {error.strerror or error}; give a directory that you own with --data"
        ) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise FleetUnavailable(
            f"data directory {directory} is in use by another fleet server; stop that one, or give another --data"
        ) from error
    return descriptor


def _engine(path: Path) -> Engine:
    engine = create_engine(f"sqlite:///{path}", connect_args={"timeout": 30})

    @event.listens_for(engine, "connect")
    def _configure(dbapi_connection: Any, _record: Any) -> None:
        dbapi_connection.isolation_level = None  # transactions are begun below, not by the driver's guess
        cursor = dbapi_connection.cursor()
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        kind = "BEGIN IMMEDIATE" if connection.get_execution_options().get(_WRITE) else "BEGIN"
        connection.exec_driver_sql(kind)

    return engine


def _prepare(engine: Engine, path: Path) -> None:
    try:
        with engine.connect().execution_options(**{_WRITE: True}) as connection, connection.begin():
            path.chmod(0o600)
            _migrate(connection, path)
    except DatabaseError as error:
        raise FleetError(
            f"{path} is not a fleet database ({error.orig}); give another --data, or restore the file from a backup"
        ) from error


def _migrate(connection: Connection, path: Path) -> None:
    schema.meta.create(connection, checkfirst=True)
    found = read_meta(connection, "schema_version")
    schema.metadata.create_all(connection)  # those that are not there
    if found is None:
        for trigger in schema.TRIGGERS:
            connection.exec_driver_sql(trigger)
    elif not (found.isdecimal() and migrate(connection, int(found), schema.SCHEMA_VERSION)):
        is_newer = found.isdecimal() and int(found) > schema.SCHEMA_VERSION
        way_out = ", or restore a backup from before the upgrade: there is no way down" if is_newer else ""
        raise FleetError(
            f"{path} has schema version {found}; this program reads {schema.SCHEMA_VERSION}: "
            f"use the release of edgewright that wrote it{way_out}"
        )
    write_meta(connection, "schema_version", str(schema.SCHEMA_VERSION))
