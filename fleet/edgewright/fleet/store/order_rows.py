"""Reads assignments with what devices reported about them: a hundred thousand in about a second.

Plain rows of the driver, and each text that many rows have in common (board, bundle, site, arm) is kept once: besides
memory this saves the ticks, which compare those texts of every device, a wait for memory at each of them.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Any, NamedTuple

from sqlalchemy import Connection

from ..core.rows import Assignment
from .lookup import after_prefix

ENDING_PHASES = frozenset({"refused", "confirmed", "failed", "rolled_back"})

_COLUMNS = (
    "device, target, wave, position, version, bundle, previous_version, previous_bundle, command, dispatched_s, "
    "rollback_command, rollback_version, rollback_bundle, rolled_back_s, withdrawn_s, arm, block, site, drawn_s, "
    "attempt"
)
_ALL = f"SELECT {_COLUMNS} FROM assignments WHERE rollout = ?"  # noqa: S608  (constants, here and below)
_SOME = (
    f"SELECT {_COLUMNS} FROM json_each(?) AS wanted "  # noqa: S608
    "CROSS JOIN assignments ON device = wanted.value AND rollout = ?"  # CROSS: in this order, by the index
)
_EVENTS = "SELECT updates.device, updates.command, phase, reason, received_s FROM"
_ALL_EVENTS = f"{_EVENTS} updates WHERE command >= ? AND command < ? ORDER BY seq, rowid"
"""The ids of a rollout's commands begin with its own and a dot (core/orders/arms.py, orders.py; core/back.py)."""
_SOME_EVENTS = (
    f"{_EVENTS} json_each(?) AS wanted CROSS JOIN updates ON command = wanted.value ORDER BY seq, updates.rowid"
)


class Shared(dict[str | None, Any]):
    """Gives for each text the one copy of it that is kept; None stays None."""

    def __missing__(self, text: str | None) -> str | None:
        kept = self[text] = None if text is None else sys.intern(text)
        return kept


class _Reported(NamedTuple):
    """What a device said about one command."""

    phase: Any
    """The first that ends the update, else the newest."""
    reason: str
    started_s: float
    ended_s: float | None


_NOTHING = (None, "", None, None)


def every(connection: Connection, rollout: str, epoch_of: Mapping[str, int]) -> list[Assignment]:
    """Return a rollout's assignments in their dispatch order; `epoch_of` has every bundle that was ever uploaded."""
    first = f"{rollout}."
    events = connection.exec_driver_sql(_ALL_EVENTS, (first, after_prefix(first)))
    reported = _fold(events.cursor.fetchall())
    rows = connection.exec_driver_sql(_ALL, (rollout,)).cursor.fetchall()
    return sorted(_assignments(rows, reported, epoch_of), key=attrgetter("position"))


def some(connection: Connection, rollout: str, devices: Sequence[str], epoch_of: Mapping[str, int]) -> list[Assignment]:
    """Return the assignments of some devices, in no order."""
    rows = connection.exec_driver_sql(_SOME, (json.dumps(devices), rollout)).cursor.fetchall()
    commands = [command for row in rows for command in (row[8], row[10]) if command is not None]
    reported = _fold(connection.exec_driver_sql(_SOME_EVENTS, (json.dumps(commands),)).cursor.fetchall())
    return _assignments(rows, reported, epoch_of)


def _fold(events: Iterable[tuple[str, str, str, str, float]]) -> dict[tuple[str, str], _Reported]:
    """Return what each device said about each command, of events in the order in which it said them."""
    found: dict[tuple[str, str], _Reported] = {}
    shared = Shared()
    for device, command, phase, reason, received_s in events:
        before = found.get((device, command))
        started_s = received_s if before is None else min(before.started_s, received_s)
        if before is not None and before.ended_s is not None:
            if started_s != before.started_s:
                found[device, command] = before._replace(started_s=started_s)
            continue
        ended_s = received_s if phase in ENDING_PHASES else None
        found[device, command] = _Reported(shared[phase], reason, started_s, ended_s)
    return found


def _assignments(
    rows: Iterable[tuple[Any, ...]], reported: Mapping[tuple[str, str], _Reported], epoch_of: Mapping[str, int]
) -> list[Assignment]:
    shared = Shared()
    found = []
    for (
        device,
        target,
        wave,
        position,
        version,
        bundle,
        previous_version,
        previous_bundle,
        command,
        dispatched_s,
        rollback_command,
        rollback_version,
        rollback_bundle,
        rolled_back_s,
        withdrawn_s,
        arm,
        block,
        site,
        drawn_s,
        attempt,
    ) in rows:
        phase, reason, started_s, ended_s = reported.get((device, command), _NOTHING)
        back = None if rollback_command is None else reported.get((device, rollback_command))
        found.append(
            Assignment(
                device=device,
                target=shared[target],
                wave=wave,
                position=position,
                version=shared[version],
                bundle=shared[bundle],
                previous_version=shared[previous_version],
                previous_bundle=shared[previous_bundle],
                previous_known=previous_bundle is None or previous_bundle in epoch_of,
                previous_epoch=epoch_of.get(previous_bundle, 0),
                command=command,
                dispatched_s=dispatched_s,
                phase=phase,
                phase_reason=reason,
                started_s=started_s,
                ended_s=ended_s,
                rollback_command=rollback_command,
                rollback_version=shared[rollback_version],
                rollback_bundle=shared[rollback_bundle],
                rolled_back_s=rolled_back_s,
                rollback_phase=None if back is None else back.phase,
                withdrawn_s=withdrawn_s,
                arm=shared[arm],
                block=block,
                site=shared[site],
                drawn_s=drawn_s,
                attempt=attempt,
            )
        )
    return found
