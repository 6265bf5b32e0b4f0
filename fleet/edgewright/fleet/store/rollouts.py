"""Rollouts and their assignments as rows. What devices reported is joined in when the rows are read."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, insert, select, update

from ..core.gates import GateStatus
from ..core.rows import ENDED, Assignment, Device, Rollout
from ..faults import ConflictError, NotFoundError
from . import enrolment, telemetry
from .schema import assignments, bundles, rollouts

_encoder = msgspec.json.Encoder()
_rollout = msgspec.json.Decoder(Rollout)
_gates = msgspec.json.Decoder(tuple[GateStatus, ...])
ENDING_PHASES = frozenset({"refused", "confirmed", "failed", "rolled_back"})


class StaleRolloutError(ConflictError):
    """The rollout changed after it was read; read it again and decide anew."""


def add(connection: Connection, rollout: Rollout) -> None:
    """Add a rollout.

    Raises:
        ConflictError: a rollout of that model has not ended.
    """
    for other in unfinished(connection):
        if other.model == rollout.model:
            raise ConflictError(
                f"rollout {other.id} of {other.model} {other.version} is {other.state}; abort it or let it end first"
            )
    connection.execute(
        insert(rollouts).values(rollout=rollout.id, created_s=rollout.created_s, gates=b"[]", **_columns(rollout))
    )


def refuse_if_superseded(connection: Connection, rollout: Rollout) -> None:
    """Refuse to go back behind a later rollout.

    Raises:
        ConflictError: a later rollout of the same model has moved devices on, and has not been rolled back itself.
    """
    for later in every(connection):
        if later.model == rollout.model and later.created_s > rollout.created_s and later.state != "rolled_back":
            raise ConflictError(
                f"rollout {later.id} ({later.model} {later.version}) came after {rollout.id}; roll that one back first"
            )


def save(connection: Connection, rollout: Rollout) -> None:
    """Replace a rollout's row by its next version.

    Raises:
        StaleRolloutError: the stored one is not the version before.
    """
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
    return _rollout.decode(row.row), _gates.decode(row.gates)


def every(connection: Connection, *, limit: int = 1000) -> list[Rollout]:
    """Return rollouts, newest first."""
    query = select(rollouts).order_by(rollouts.c.created_s.desc(), rollouts.c.rollout).limit(limit)
    return [_rollout.decode(row.row) for row in connection.execute(query)]


def unfinished(connection: Connection) -> list[Rollout]:
    """Return rollouts that have not ended, oldest first."""
    query = select(rollouts).where(rollouts.c.state.not_in(sorted(ENDED))).order_by(rollouts.c.created_s)
    return [_rollout.decode(row.row) for row in connection.execute(query)]


def add_assignment(connection: Connection, rollout: str, assignment: Assignment) -> None:
    """Add the order to one device."""
    values = {column.name: getattr(assignment, column.name) for column in assignments.c if column.name != "rollout"}
    connection.execute(insert(assignments).values(values | {"rollout": rollout}))


def change_assignment(connection: Connection, rollout: str, device: str, **values: str | float) -> None:
    """Note on an order that it was taken back."""
    where = (assignments.c.rollout == rollout, assignments.c.device == device)
    connection.execute(update(assignments).where(*where).values(**values))


def assignments_of(connection: Connection, rollout: str) -> list[Assignment]:
    """Return a rollout's orders in their dispatch order, with what the devices reported about them."""
    query = select(assignments).where(assignments.c.rollout == rollout).order_by(assignments.c.position)
    rows = connection.execute(query).all()
    own = select(assignments.c.command).where(assignments.c.rollout == rollout)
    back = select(assignments.c.rollback_command).where(
        assignments.c.rollout == rollout, assignments.c.rollback_command.is_not(None)
    )
    reported = _by_command(telemetry.updates_of(connection, own.union_all(back)))
    known = set(connection.execute(select(bundles.c.digest)).scalars())
    return [_assignment(row, reported, known) for row in rows]


def devices_for(connection: Connection, rollout: Rollout) -> list[Device]:
    """Return every device as a rollout sees it."""
    query = (
        select(assignments.c.device)
        .join(rollouts, rollouts.c.rollout == assignments.c.rollout)
        .where(
            rollouts.c.model == rollout.model,
            rollouts.c.rollout != rollout.id,
            rollouts.c.state.not_in(sorted(ENDED)),
        )
    )
    taken = set(connection.execute(query).scalars())
    return [_device(device, rollout.model, device.device in taken) for device in enrolment.every(connection)]


def _device(device: enrolment.Device, model: str, taken: bool) -> Device:
    state = next((each for each in device.models if each.model == model), None)
    return Device(
        id=device.device,
        target=device.target,
        last_seen_s=device.last_seen_s,
        version=state.version if state else None,
        bundle=state.bundle if state else None,
        idle=state is None or state.phase == "idle",
        reported_s=device.models_s,
        taken=taken,
    )


def _by_command(events: Iterable[telemetry.StoredUpdate]) -> dict[str, list[telemetry.StoredUpdate]]:
    found: dict[str, list[telemetry.StoredUpdate]] = {}
    for event in events:
        found.setdefault(f"{event.device}/{event.record.command}", []).append(event)
    return found


def _assignment(
    row: Row[Any], reported: Mapping[str, list[telemetry.StoredUpdate]], known: Collection[str]
) -> Assignment:
    values = dict(row._mapping)  # noqa: SLF001  (public in spite of its name: sqlalchemy.Row documents it)
    del values["rollout"]
    events = reported.get(f"{row.device}/{row.command}", [])
    ended = next((event for event in events if event.record.phase in ENDING_PHASES), None)
    latest = ended or (events[-1] if events else None)
    back = reported.get(f"{row.device}/{row.rollback_command}", [])
    back_latest = next((event for event in back if event.record.phase in ENDING_PHASES), back[-1] if back else None)
    return Assignment(
        **values,
        previous_known=row.previous_bundle is None or row.previous_bundle in known,
        phase=latest.record.phase if latest else None,
        phase_reason=latest.record.reason if latest else "",
        started_s=min((event.received_s for event in events), default=None),
        ended_s=ended.received_s if ended else None,
        rollback_phase=back_latest.record.phase if back_latest else None,
    )


def _columns(rollout: Rollout) -> dict[str, Any]:
    return {
        "model": rollout.model,
        "version": rollout.version,
        "state": rollout.state,
        "revision": rollout.revision,
        "row": _encoder.encode(rollout),
    }
