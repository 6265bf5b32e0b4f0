"""What must be true of a fleet at every moment, checked on each transaction before it is committed.

Each check says what it saw when it is broken. None of them asks the code that it checks: rows are read with SQL of
their own, and devices are asked what they did.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import msgspec
from sqlalchemy import Connection

from ..core.rows import ENDED
from ..core.sums.windows import Totals
from ..core.transitions import TRANSITIONS
from ..store import rollouts
from ..store.roster import Roster
from .device import VirtualDevice
from .meter import sums_of
from .promises import BrokenPromiseError, Orders, promise

_ENDED = ", ".join(f"'{state}'" for state in sorted(ENDED))
_STEPS = frozenset((before, after) for (before, _event), after in TRANSITIONS.items())
_ENDING = frozenset({"refused", "confirmed", "failed", "rolled_back"})
_counts = msgspec.msgpack.Decoder(Totals)


class History:
    """The committed past, as far as the promises speak of it."""

    def __init__(self, devices: dict[str, VirtualDevice]) -> None:
        self._devices = devices
        self._rollouts: dict[str, tuple[int, str]] = {}
        self._orders: dict[str, tuple[int, frozenset[tuple[str, str]]]] = {}
        self._ever: dict[tuple[str, int], frozenset[tuple[str, str]]] = {}
        self._bundle_of: dict[str, str] = {}
        self._arms: dict[tuple[str, str], str] = {}
        self._floor = 0
        self._new_orders = Orders()
        self.transactions = 0

    def look(self, connection: Connection) -> None:
        """Check a transaction that is about to be committed, and remember it.

        Raises:
            BrokenPromiseError: a promise is broken.
        """
        self.transactions += 1
        self._look_at_the_floor(connection)
        self._look_at_rollouts(connection)
        self._look_at_assignments(connection)
        self._look_at_orders(connection)
        self._new_orders.look(connection)
        self.look_at_counts(connection, exact=False)

    def _look_at_the_floor(self, connection: Connection) -> None:
        for (floor,) in _rows(connection, "SELECT coalesce(max(security_epoch), 0) FROM floors"):
            promise(floor >= self._floor, f"the security floor fell from {self._floor} to {floor}")
            self._floor = floor

    def _look_at_rollouts(self, connection: Connection) -> None:
        for rollout, revision, state in _rows(connection, "SELECT rollout, revision, state FROM rollouts"):
            before = self._rollouts.get(rollout)
            if before is not None:
                promise(revision >= before[0], f"revision of {rollout} fell from {before[0]} to {revision}")
                promise(revision <= before[0] + 1, f"revision of {rollout} went from {before[0]} to {revision}")
                is_step = before[1] == state or (before[1], state) in _STEPS
                promise(is_step, f"{rollout} went from {before[1]} to {state}: not in the table")
                promise(before[1] == state or revision > before[0], f"{rollout} changed its state, not its revision")
            self._rollouts[rollout] = (revision, state)

    def _look_at_assignments(self, connection: Connection) -> None:
        twice = _rows(
            connection,
            "SELECT a.device, r.model, group_concat(r.rollout) FROM assignments a JOIN rollouts r USING (rollout) "  # noqa: S608  (our own words)
            f"WHERE r.state NOT IN ({_ENDED}) AND a.withdrawn_s IS NULL "
            "AND NOT (a.arm = 'control' AND r.state = 'rolling_back') "  # it gets no order any more
            "GROUP BY 1, 2 HAVING count(*) > 1",
        )
        for device, model, several in twice:
            raise BrokenPromiseError(f"{device} has orders of several active rollouts of {model}: {several}")
        for rollout, position, count in _rows(
            connection, "SELECT rollout, position, count(*) FROM assignments GROUP BY 1, 2 HAVING count(*) > 1"
        ):
            raise BrokenPromiseError(f"{count} devices stand at position {position} of {rollout}")
        for rollout, device, arm in _rows(connection, "SELECT rollout, device, arm FROM assignments"):
            before = self._arms.get((rollout, device), arm)
            promise(
                before == arm or (before, arm) == ("control", "graduated"),
                f"{device} of {rollout} went from arm {before} to {arm}",
            )
            self._arms[rollout, device] = arm

    def _look_at_orders(self, connection: Connection) -> None:
        wanted: dict[str, set[tuple[str, str]]] = {}
        query = (
            "SELECT d.device, d.command, d.bundle, b.security_epoch "
            "FROM desired d JOIN bundles b ON b.digest = d.bundle"
        )
        for device, command, bundle, epoch in _rows(connection, query):
            wanted.setdefault(device, set()).add((command, bundle))
            known = self._bundle_of.setdefault(command, bundle)
            promise(known == bundle, f"command {command} named {known}, then {bundle}")
            if (command, bundle) not in self._orders.get(device, (0, frozenset()))[1]:
                promise(epoch >= self._floor, f"{command} orders security epoch {epoch}, the floor is {self._floor}")
        for device, epoch in _rows(connection, "SELECT device, desired_epoch FROM devices"):
            now = frozenset(wanted.get(device, ()))
            before = self._orders.get(device)
            if before is not None:
                promise(epoch >= before[0], f"epoch of {device} fell from {before[0]} to {epoch}")
                promise(epoch > before[0] or now == before[1], f"orders of {device} changed under epoch {epoch}")
            self._orders[device] = (epoch, now)
            self._ever[device, epoch] = now

    def look_at_counts(self, connection: Connection, *, exact: bool) -> None:
        """Compare the fleet's sums with the devices' own: never more than they counted, and in the end the same."""
        found: dict[str, Counter[str]] = {}
        for bundle, counts in _rows(connection, "SELECT bundle, counts FROM totals WHERE cohort = ''"):
            found.setdefault(bundle, Counter()).update(sums_of(_counts.decode(counts)))
        own: dict[str, Counter[str]] = {}
        for device in self._devices.values():
            for bundle, counted in device.meter.counted.items():
                own.setdefault(bundle, Counter()).update(counted)
        for bundle in {*found, *own}:
            fleet, devices = found.get(bundle, Counter()), own.get(bundle, Counter())
            for name in {*fleet, *devices}:
                fits = fleet[name] == devices[name] if exact else fleet[name] <= devices[name]
                promise(fits, f"{bundle}: the fleet counts {fleet[name]} {name}, the devices {devices[name]}")

    def look_at_devices(self) -> None:
        """Check what the devices did with what they were told."""
        for name, device in self._devices.items():
            newest = 0
            for applied in device.applied:
                promise(
                    applied.epoch >= newest, f"{name} applied {applied.command} of epoch {applied.epoch} after {newest}"
                )
                newest = applied.epoch
                promise(
                    (applied.command, applied.bundle) in self._ever.get((name, applied.epoch), frozenset()),
                    f"{name} applied {applied.command}, which epoch {applied.epoch} never said",
                )
            ended = Counter(record.command for record in device.reported if record.phase in _ENDING)
            for command, times in ended.items():
                promise(times == 1, f"{name} ended {command} {times} times")

    def look_at_the_end(self, connection: Connection) -> None:
        """Check, after all that was on its way has arrived, that nothing is lost, doubled or open."""
        self.look_at_counts(connection, exact=True)
        self.look_at_devices()
        for name, device in self._devices.items():
            query = "SELECT command, phase FROM updates WHERE device = ? ORDER BY seq"
            told = [tuple(row) for row in _rows(connection, query, name)]
            promise(
                told == [(one.command, one.phase) for one in device.reported],
                f"{name} reported {len(device.reported)} steps of updates, the fleet has {len(told)} or others",
            )
            promise(device.backlog == 0, f"{name} still keeps {device.backlog} records that were never acknowledged")
            promise(
                device.epoch == self._orders[name][0],
                f"{name} knows epoch {device.epoch}, the fleet is at {self._orders[name][0]}",
            )


def look_on(onlooker: Roster, connection: Connection, *, now_s: float) -> None:
    """Check that a reader who reads only what changed sees what one sees who reads everything.

    Raises:
        BrokenPromiseError: they differ.
    """
    going = rollouts.unfinished(connection)
    fresh = Roster()
    for reader in (onlooker, fresh):
        reader.refresh(connection, going, now_s=now_s)
    for rollout in going:
        promise(
            list(onlooker.devices_for(rollout)) == list(fresh.devices_for(rollout)),
            f"a reader of changes sees other devices of {rollout.id} than one who reads everything",
        )
        promise(
            list(onlooker.assignments_of(rollout.id)) == list(fresh.assignments_of(rollout.id)),
            f"a reader of changes sees other orders of {rollout.id} than one who reads everything",
        )


def _rows(connection: Connection, query: str, *values: Any) -> Iterable[Any]:
    return connection.exec_driver_sql(query, values)
