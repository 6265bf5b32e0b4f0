"""One rollout's assignments in memory, with what devices reported; reads only what changed (roster.py)."""

from __future__ import annotations

from collections.abc import KeysView, Mapping, Sequence

from sqlalchemy import Connection

from ..core.rows import Assignment
from . import order_rows

MOST_SINGLY = 5000
"""When more changed than this, and than half of all, everything is read anew, which is faster then."""


class OrderBook:
    """The assignments of one rollout. Not thread-safe."""

    def __init__(
        self, connection: Connection, rollout: str, epoch_of: Mapping[str, int], *, most_singly: int = MOST_SINGLY
    ) -> None:
        self._rollout = rollout
        self._epoch_of = epoch_of
        self._most_singly = most_singly
        self._changed = -1
        self._event = 0
        self._of_device: dict[str, Assignment] = {}
        self._of_command: dict[str, str] = {}
        self._sorted: list[Assignment] | None = None
        self._load(connection)

    @property
    def devices(self) -> KeysView[str]:
        """The devices that have a part in this rollout."""
        return self._of_device.keys()

    @property
    def assignments(self) -> Sequence[Assignment]:
        """All of them in the order of `position`; the same object as long as none changed."""
        if self._sorted is None:
            self._sorted = sorted(self._of_device.values(), key=lambda one: one.position)
        return self._sorted

    def refresh(self, connection: Connection) -> None:
        """Bring it up to date."""
        changed = {
            device
            for device, rollout in connection.exec_driver_sql(
                "SELECT device, rollout FROM assignments WHERE changed > ?", (self._changed,)
            )
            if rollout == self._rollout
        }
        for command, device in connection.exec_driver_sql(
            "SELECT command, device FROM updates WHERE rowid > ?", (self._event,)
        ):
            if self._of_command.get(command) == device:
                changed.add(device)
        if len(changed) > max(self._most_singly, len(self._of_device) // 2):
            self._load(connection)
            return
        self._note_marks(connection)
        if changed:
            self._read(connection, sorted(changed))

    def _load(self, connection: Connection) -> None:
        self._note_marks(connection)
        found = order_rows.every(connection, self._rollout, self._epoch_of)
        self._of_device = {one.device: one for one in found}
        self._of_command = {command: one.device for one in found for command in _commands(one)}
        self._sorted = found

    def _read(self, connection: Connection, devices: Sequence[str]) -> None:
        for one in order_rows.some(connection, self._rollout, devices, self._epoch_of):
            self._of_device[one.device] = one
            self._of_command.update(dict.fromkeys(_commands(one), one.device))
        self._sorted = None

    def _note_marks(self, connection: Connection) -> None:
        """Remember how far this snapshot goes."""
        self._changed = connection.exec_driver_sql("SELECT coalesce(max(changed), 0) FROM assignments").scalar_one()
        self._event = connection.exec_driver_sql("SELECT coalesce(max(rowid), 0) FROM updates").scalar_one()


def _commands(assignment: Assignment) -> tuple[str, ...]:
    back = assignment.rollback_command
    return (assignment.command,) if back is None else (assignment.command, back)
