"""The lowest security epoch of each model, and the whole fleet's emergency stop: what stands above all rollouts."""

from __future__ import annotations

import msgspec
from sqlalchemy import Connection, delete, select
from sqlalchemy.dialects.sqlite import insert

from ..faults import ConflictError
from .database import read_meta, write_meta
from .schema import floors, meta

STOP = "emergency_stop"


class Stop(msgspec.Struct, frozen=True, kw_only=True):
    """An emergency stop that stands."""

    reason: str
    by: str
    at_s: float


def every(connection: Connection) -> dict[str, int]:
    """Return the floor of each model that has one."""
    return {row.model: row.security_epoch for row in connection.execute(select(floors))}


def raise_to(connection: Connection, model: str, security_epoch: int, *, now_s: float) -> int:
    """Raise a model's floor and return what it was.

    Raises:
        ConflictError: it is higher already. A floor never falls: below it lie releases with known holes.
    """
    before = every(connection).get(model, 0)
    if security_epoch < before:
        raise ConflictError(f"the security floor of {model} is {before} and is never lowered; got {security_epoch}")
    values = {"model": model, "security_epoch": security_epoch, "raised_s": now_s}
    connection.execute(insert(floors).values(values).on_conflict_do_update(index_elements=["model"], set_=values))
    return before


def stop_of(connection: Connection) -> Stop | None:
    """Return the emergency stop that stands, or None."""
    found = read_meta(connection, STOP)
    return None if found is None else msgspec.json.decode(found, type=Stop)


def put_stop(connection: Connection, stop: Stop) -> None:
    """Have an emergency stop stand."""
    write_meta(connection, STOP, msgspec.json.encode(stop).decode())


def lift_stop(connection: Connection) -> None:
    """Take the emergency stop away."""
    connection.execute(delete(meta).where(meta.c.key == STOP))
