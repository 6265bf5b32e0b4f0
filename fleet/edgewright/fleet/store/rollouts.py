"""Rollouts and their assignments as rows. What devices reported is joined in when the rows are read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, bindparam, func, insert, or_, select, update

from ..core.gates.status import GateStatus
from ..core.observations import GateMemory
from ..core.rows import ENDED, Assignment, Rollout
from ..faults import ConflictError, NotFoundError
from . import floors, order_rows, releases
from .changes import next_change
from .lookup import rows_of
from .schema import assignments, rollouts

_encoder = msgspec.json.Encoder()
_rollout = msgspec.json.Decoder(Rollout)
_memory = msgspec.json.Decoder(GateMemory)
_STORED = [column.name for column in assignments.c if column.name not in {"rollout", "changed"}]
_stored = attrgetter(*_STORED)
_by_device = attrgetter("device")
_ADD = (
    f"INSERT INTO assignments (rollout, changed, {', '.join(_STORED)}) "  # noqa: S608  (names of columns)
    f"VALUES (?, ?{', ?' * len(_STORED)})"
)
_gates = msgspec.json.Decoder(tuple[GateStatus, ...])

_NO_CLAIM = sorted({*ENDED, "rolling_back"})
"""States in which a rollout's controls are free: none of them gets an order any more, and nothing is compared."""


class StaleRolloutError(ConflictError):
    """The rollout changed after it was read; read it again and decide anew."""


def version_of_all(connection: Connection) -> tuple[int, int]:
    """Return numbers that differ when any rollout was added or changed."""
    query = select(func.count(), func.coalesce(func.sum(rollouts.c.revision), 0)).select_from(rollouts)
    count, revisions = connection.execute(query).one()
    return count, revisions


def add(connection: Connection, rollout: Rollout) -> None:
    """Add a rollout."""
    connection.execute(
        insert(rollouts).values(rollout=rollout.id, created_s=rollout.created_s, gates=b"[]", **_columns(rollout))
    )


def refuse_if_superseded(connection: Connection, rollout: Rollout) -> None:
    """Refuse to go back behind a later rollout.

    Raises:
        ConflictError: a later one of the same model has moved some of its devices on, and has not been rolled back.
    """
    mine, theirs = assignments.alias(), assignments.alias()
    query = (
        select(rollouts.c.rollout, rollouts.c.version, mine.c.device)
        .join(theirs, theirs.c.rollout == rollouts.c.rollout)
        .join(mine, mine.c.device == theirs.c.device)
        .where(mine.c.rollout == rollout.id, rollouts.c.rollout != rollout.id, rollouts.c.model == rollout.model)
        .where(rollouts.c.created_s > rollout.created_s, rollouts.c.state != "rolled_back")
        .where(mine.c.arm != "control", or_(theirs.c.arm != "control", rollouts.c.state.not_in(_NO_CLAIM)))
        .limit(1)
    )
    later = connection.execute(query).one_or_none()
    if later is not None:
        raise ConflictError(
            f"rollout {later.rollout} ({rollout.model} {later.version}) came after {rollout.id}, to {later.device} "
            "among others; roll that one back first"
        )


def refuse_if_taken(connection: Connection, rollout: Rollout, devices: Iterable[str]) -> None:
    """Refuse devices that another open rollout of the model has taken since the decision was made.

    Raises:
        StaleRolloutError: it has; roll the transaction back and decide anew.
    """
    wanted = [(device,) for device in devices]
    beside = {
        row.rollout: row.state not in ENDED
        for row in connection.execute(
            select(rollouts.c.rollout, rollouts.c.state).where(rollouts.c.model == rollout.model)
        )
        if row.rollout != rollout.id
    }
    both = (
        sorted(
            row.device
            for row in rows_of(connection, assignments, (assignments.c.device,), wanted)
            if beside.get(row.rollout)
        )
        if any(beside.values())
        else []
    )
    if both:
        raise StaleRolloutError(f"another rollout took {both[0]} at the same time")


def save(connection: Connection, rollout: Rollout) -> None:
    """Replace a rollout's row by its next version.

    Raises:
        StaleRolloutError: the stored one is not the version before, or the model's security floor rose since it was
            read: what was decided under the lower one may order devices below it.
    """
    if floors.every(connection).get(rollout.model, 0) > rollout.security_floor:
        raise StaleRolloutError(f"the security floor of {rollout.model} was raised at the same time; try again")
    changed = connection.execute(
        update(rollouts)
        .where(rollouts.c.rollout == rollout.id, rollouts.c.revision == rollout.revision - 1)
        .values(**_columns(rollout))
    )
    if changed.rowcount != 1:
        raise StaleRolloutError(f"rollout {rollout.id} was changed at the same time; try again")


def save_gates(connection: Connection, rollout: str, gates: Sequence[GateStatus]) -> None:
    """Keep what the gates said, for people to look at."""
    connection.execute(update(rollouts).where(rollouts.c.rollout == rollout).values(gates=_encoder.encode(gates)))


def get(connection: Connection, rollout: str) -> tuple[Rollout, tuple[GateStatus, ...]]:
    """Return a rollout and what its gates said last.

    Raises:
        NotFoundError: there is none of that id.
    """
    row = connection.execute(select(rollouts).where(rollouts.c.rollout == rollout)).one_or_none()
    if row is None:
        raise NotFoundError(f"no rollout {rollout!r}; `edgewright fleet rollout status` shows those there are")
    return _read(row, floors.every(connection)), _gates.decode(row.gates)


def every(connection: Connection, *, limit: int = 1000) -> list[Rollout]:
    """Return rollouts, newest first."""
    query = select(rollouts).order_by(rollouts.c.created_s.desc(), rollouts.c.rollout).limit(limit)
    lowest = floors.every(connection)
    return [_read(row, lowest) for row in connection.execute(query)]


def unfinished(connection: Connection) -> list[Rollout]:
    """Return rollouts that have not ended, oldest first."""
    query = select(rollouts).where(rollouts.c.state.not_in(sorted(ENDED))).order_by(rollouts.c.created_s)
    lowest = floors.every(connection)
    return [_read(row, lowest) for row in connection.execute(query)]


def memory_of(connection: Connection, rollout: str) -> GateMemory:
    """Return what the control gates of a rollout have learnt."""
    found = connection.execute(select(rollouts.c.memory).where(rollouts.c.rollout == rollout)).scalar_one_or_none()
    return _memory.decode(found) if found else GateMemory()


def save_memory(connection: Connection, rollout: str, memory: GateMemory) -> None:
    """Keep what the control gates have learnt."""
    connection.execute(update(rollouts).where(rollouts.c.rollout == rollout).values(memory=_encoder.encode(memory)))


def add_assignments(connection: Connection, rollout: str, given: Sequence[Assignment]) -> None:
    """Add orders, each to another device, and controls that wait beside them.

    Thousands at a time: plain tuples, in the order of the indices, which are walked instead of searched.
    """
    if given:
        head = (rollout, next_change(connection, "assignments"))
        connection.exec_driver_sql(_ADD, [head + _stored(one) for one in sorted(given, key=_by_device)])


def replace_assignments(connection: Connection, rollout: str, given: Sequence[Assignment]) -> None:
    """Write assignments anew: a control has become an order."""
    change_assignments(connection, rollout, {one.device: _row(one) for one in given})


def change_assignments(connection: Connection, rollout: str, values: Mapping[str, Mapping[str, Any]]) -> None:
    """Set some columns, the same ones for each of these devices."""
    columns = {name for each in values.values() for name in each if name != "device"}
    where = (assignments.c.rollout == rollout, assignments.c.device == bindparam("of_device"))
    statement = update(assignments).where(*where).values({name: bindparam(f"to_{name}") for name in columns})
    rows = [
        {"of_device": device} | {f"to_{name}": value for name, value in each.items() if name != "device"}
        for device, each in sorted(values.items())
    ]
    if rows:
        connection.execute(statement, rows)


def assignments_of(connection: Connection, rollout: str) -> list[Assignment]:
    """Return a rollout's orders in their dispatch order, with what the devices reported about them."""
    return order_rows.every(connection, rollout, releases.epochs(connection))


def targets_of(connection: Connection, rollout: str, names: Sequence[str]) -> dict[str, str]:
    """Return the targets of some devices, as they were when they were drawn."""
    key = (assignments.c.rollout, assignments.c.device)
    found = rows_of(connection, assignments, key, [(rollout, name) for name in names])
    return {row.device: row.target for row in found}


def taken_back(connection: Connection, model: str, *, but: str) -> frozenset[str]:
    """Return the bundles of a model that a rollout (other than `but`) took back and that none brought out again."""
    found: dict[str, bool] = {}
    for rollout in reversed(every(connection)):
        if rollout.model != model or rollout.id == but:
            continue
        is_back = rollout.state in {"rolling_back", "rolled_back"}
        halted = {halt.target for halt in rollout.halted if halt.action == "ROLLBACK"}
        for bundle in rollout.bundles:
            found[bundle.digest] = is_back or bundle.target in halted
    return frozenset(digest for digest, is_back in found.items() if is_back)


def _row(assignment: Assignment) -> dict[str, Any]:
    return {name: getattr(assignment, name) for name in _STORED}


def _read(row: Row[Any], lowest: Mapping[str, int]) -> Rollout:
    """Return a rollout under the model's floor as it is now: it may have been raised since the row was written."""
    rollout = _rollout.decode(row.row)
    floor = lowest.get(rollout.model, 0)
    return rollout if floor <= rollout.security_floor else msgspec.structs.replace(rollout, security_floor=floor)


def _columns(rollout: Rollout) -> dict[str, Any]:
    return {
        "model": rollout.model,
        "version": rollout.version,
        "state": rollout.state,
        "revision": rollout.revision,
        "row": _encoder.encode(rollout),
    }
