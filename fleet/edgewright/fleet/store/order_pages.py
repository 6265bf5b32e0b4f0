"""One rollout's orders for people: how many are in which state, and some of them at a time. SQLite counts, not Python.

A state is what the store holds about an order, for all policies and at all times the same; what a policy makes of it
(a deadline that has passed, a retry that is due) is an outcome (core/outcomes.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from operator import attrgetter
from typing import Any, Literal

import msgspec
from sqlalchemy import Connection

from ..core.rows import Arm, Assignment
from . import order_rows

LAST_POSITION = 2**63 - 1
"""The largest that a row can have."""

State = Literal[
    "control",
    "ordered",
    "fetching",
    "installing",
    "trial",
    "activating",
    "probation",
    "confirmed",
    "refused",
    "failed",
    "rolled_back",
    "withdrawn",
    "going_back",
    "went_back",
]
"""`control`: waits beside the others. `ordered`: nothing was heard of it yet. `withdrawn`: taken back, with nothing to
go back to. `going_back`, `went_back`: ordered back by the fleet. All others are phases of the device's report
(`rolled_back`: it went back by itself)."""

_ENDS = f"phase IN ({', '.join(repr(phase) for phase in sorted(order_rows.ENDING_PHASES))})"
_PHASE = (
    "(SELECT phase FROM updates WHERE updates.command = assignments.command AND updates.device = assignments.device "  # noqa: S608  (constants, here and below)
    f"ORDER BY {_ENDS} DESC, iif({_ENDS}, seq, -seq), iif({_ENDS}, updates.rowid, -updates.rowid) LIMIT 1)"
)
_IS_BACK = (
    "EXISTS (SELECT 1 FROM updates WHERE updates.command = rollback_command AND updates.device = assignments.device "
    "AND phase = 'confirmed')"
)
_STATE = (
    "CASE WHEN arm = 'control' THEN 'control' WHEN withdrawn_s IS NOT NULL THEN 'withdrawn' "
    f"WHEN rollback_command IS NOT NULL THEN iif({_IS_BACK}, 'went_back', 'going_back') "
    f"ELSE coalesce({_PHASE}, 'ordered') END"
)
_COUNTS = (
    f"SELECT wave, target, arm, {_STATE} AS state, count(*) FROM assignments WHERE rollout = ? "  # noqa: S608
    "GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4"
)
_BLOCKS = (
    "SELECT target, count(DISTINCT block), count(DISTINCT iif(block < ?, block, NULL)) FROM assignments "
    "WHERE rollout = ? AND block >= 0 GROUP BY target"
)


class OrderCount(msgspec.Struct, frozen=True, kw_only=True):
    """How many orders of one wave, board and arm are in one state."""

    wave: int
    target: str
    arm: Arm
    state: State
    orders: int


class BlockCount(msgspec.Struct, frozen=True, kw_only=True):
    """How many blocks were drawn on a board, and how many of them have entered the control gates."""

    drawn: int
    observed: int


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """Which orders a page shows; None is any."""

    state: State | None = None
    board: str | None = None
    site: str | None = None
    wave: int | None = None


ANY = Wanted()


def counts(connection: Connection, rollout: str) -> tuple[OrderCount, ...]:
    """Return how many orders there are of each kind."""
    found = connection.exec_driver_sql(_COUNTS, (rollout,)).cursor.fetchall()
    return tuple(
        OrderCount(wave=wave, target=target, arm=arm, state=state, orders=orders)
        for wave, target, arm, state, orders in found
    )


def blocks(connection: Connection, rollout: str, *, next_block: int) -> dict[str, BlockCount]:
    """Return the blocks of each board that has some; those before `next_block` were observed."""
    found = connection.exec_driver_sql(_BLOCKS, (next_block, rollout)).cursor.fetchall()
    return {target: BlockCount(drawn=drawn, observed=observed) for target, drawn, observed in found}


def page(
    connection: Connection, rollout: str, epoch_of: Mapping[str, int], *, limit: int, after: int = -1, of: Wanted = ANY
) -> tuple[Assignment, ...]:
    """Return the first `limit` orders behind the position `after`, in the order in which they were given."""
    columns = {"target": of.board, "site": of.site, "wave": of.wave, _STATE: of.state}
    given: dict[str, Any] = {column: value for column, value in columns.items() if value is not None}
    query = (
        "SELECT device FROM assignments WHERE rollout = ? AND position > ? "  # noqa: S608
        + "".join(f"AND {column} = ? " for column in given)
        + "ORDER BY position LIMIT ?"
    )
    found = connection.exec_driver_sql(query, (rollout, after, *given.values(), limit)).cursor.fetchall()
    chosen = order_rows.some(connection, rollout, [device for (device,) in found], epoch_of)
    return tuple(sorted(chosen, key=attrgetter("position")))
