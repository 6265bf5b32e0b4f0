"""What must be true of every order at the moment that it is given, whatever happened meanwhile.

An order is new where its command was not there before. What its rollout, policy and device are is read from the rows
of the same transaction; how much is allowed is worked out here, not asked of the code that gave the order.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
from sqlalchemy import Connection

from edgewright.runtime.telemetry.wire import ModelState

from ..core.policy.policy import wave_of
from ..core.rows import Rollout
from .drawn_policy import WINDOW_MINUTES, WINDOW_PERIOD_MINUTES

_rollout = msgspec.json.Decoder(Rollout)
_models = msgspec.msgpack.Decoder(tuple[ModelState, ...])
MINUTE_S = 60.0
_PLACES = "SELECT device, site, time_zone FROM devices"
_NEW = """SELECT d.device, d.command, d.rollback, d.rollout, d.set_s, a.wave, a.attempt, a.target, a.command AS ordered
    FROM desired d LEFT JOIN assignments a ON a.rollout = d.rollout AND a.device = d.device"""
_UNPROVEN = """SELECT count(*) FROM assignments a JOIN devices d USING (device)
    WHERE a.rollout = ? AND d.site = ? AND a.arm != 'control' AND a.withdrawn_s IS NULL AND NOT EXISTS (
        SELECT 1 FROM updates u WHERE u.device = a.device AND u.phase = 'confirmed'
        AND u.command = coalesce(a.rollback_command, a.command))"""
_BESIDE = """SELECT a.device, a.rollout, x.experiment FROM assignments a JOIN rollouts r USING (rollout)
    JOIN experiment_units u ON u.device = a.device
    JOIN experiments x ON x.experiment = u.experiment AND x.model = r.model
    WHERE x.state = 'running' AND r.state NOT IN ('completed', 'aborted', 'superseded', 'rolled_back')"""
_CONTROLS = """SELECT a.device, a.target, d.last_seen_s FROM assignments a JOIN devices d USING (device)
    WHERE a.rollout = ? AND a.arm = 'control'"""
_ENDING = """SELECT action, detail FROM audit WHERE subject = ? AND action IN
    ('rollout.completed', 'rollout.following') ORDER BY seq DESC LIMIT 1"""


class BrokenPromiseError(Exception):
    """Something that must be true of every history is not true of this one."""


def promise(kept: bool, broken: str) -> None:
    """Raise where a promise is not kept.

    Raises:
        BrokenPromiseError: it is not.
    """
    if not kept:
        raise BrokenPromiseError(broken)


class Orders:
    """Every order so far, and the rollouts that gave them."""

    def __init__(self) -> None:
        self._given: set[str] = set()
        self._times: defaultdict[str, list[float]] = defaultdict(list)
        self._rollouts: dict[str, Rollout] = {}
        self._places: dict[str, tuple[str, str]] = {}
        self._had_moved = False

    def look(self, connection: Connection) -> None:
        """Check the orders that a transaction adds.

        Raises:
            BrokenPromiseError: one must not have been given.
        """
        places = {device: (site, zone) for device, site, zone in _rows(connection, _PLACES)}
        # who was moved between a look and its order got the order where the look saw it
        has_moved = any(places[device] != before for device, before in self._places.items())
        self._places = places
        self._read_rollouts(connection)
        for row in _rows(connection, _NEW):
            if row.command not in self._given:
                self._given.add(row.command)
                self._look_at(connection, row, has_moved=has_moved or self._had_moved)
        self._had_moved = has_moved
        for device, rollout, experiment in _rows(connection, _BESIDE):
            raise BrokenPromiseError(f"{device} is in rollout {rollout} and in experiment {experiment}")

    def _read_rollouts(self, connection: Connection) -> None:
        for name, revision, state in _rows(connection, "SELECT rollout, revision, state FROM rollouts"):
            known = self._rollouts.get(name)
            if known is not None and known.revision == revision:
                continue
            [(row,)] = _rows(connection, "SELECT row FROM rollouts WHERE rollout = ?", name)
            self._rollouts[name] = after = _rollout.decode(row)
            promise(after.state == state, f"{name} is {state}, its row says {after.state}")
            if known is not None and known.state != after.state and after.state in {"completed", "following"}:
                _look_at_controls(connection, after)

    def _look_at(self, connection: Connection, row: Any, *, has_moved: bool) -> None:
        if row.rollback:
            if row.rollout is not None:
                self._look_at_return(connection, row)
            return
        [(stops,)] = _rows(connection, "SELECT count(*) FROM meta WHERE key = 'emergency_stop'")
        promise(not stops, f"{row.command} was ordered while the fleet is stopped")
        if row.rollout is None:
            return  # of an experiment
        rollout = self._rollouts[row.rollout]
        promise(rollout.state in {"running", "following"}, f"{row.command} was ordered by a {rollout.state} rollout")
        halted = {halt.target for halt in rollout.halted}
        promise(row.target not in halted, f"{row.command} was ordered to {row.target}, which is halted")
        _look_at_approval(rollout, row)
        retries = rollout.policy.job_executions_retry_config.criteria_list
        during = "SELECT count(*) FROM audit WHERE action = 'fleet.stopped' AND at_s >= ?"
        [(stopped,)] = _rows(connection, during, rollout.created_s)
        # what an emergency stop took back is given again, whatever the policy says of retries
        most = 1 + max((one.number_of_retries for one in retries), default=0) + stopped
        promise(row.attempt <= most, f"{row.command} is attempt {row.attempt} of {most}")
        self._look_at_pace(rollout, row)
        if not has_moved:
            _look_at_window(rollout, row, self._places[row.device][1])
            _look_at_blast(connection, rollout, row, self._places[row.device][0])

    def _look_at_return(self, connection: Connection, row: Any) -> None:
        """Check that who is taken back is so by a way back, or had not begun when the order was cancelled."""
        rollout = self._rollouts[row.rollout]
        boards = {halt.target for halt in rollout.halted if halt.action == "ROLLBACK"}
        if rollout.state == "rolling_back" or row.target in boards:
            return
        [(heard,)] = _rows(connection, "SELECT count(*) FROM updates WHERE command = ?", row.ordered)
        is_forced = rollout.policy.scheduling_config.end_behavior == "FORCE_CANCEL"
        promise(not heard or is_forced, f"{row.command} takes {row.device} back, but {rollout.id} is {rollout.state}")

    def _look_at_pace(self, rollout: Rollout, row: Any) -> None:
        most = rollout.policy.job_executions_rollout_config.maximum_per_minute
        times = self._times[rollout.id]
        times.append(row.set_s)
        in_minute = sum(row.set_s - MINUTE_S < at_s <= row.set_s for at_s in times)
        promise(most is None or in_minute <= most, f"{rollout.id} gave {in_minute} orders in a minute, at most {most}")


def _look_at_approval(rollout: Rollout, row: Any) -> None:
    if row.wave < len(rollout.policy.waves) and wave_of(rollout.policy, row.wave).require_approval:
        approved = {approval.wave for approval in rollout.approvals}
        promise(row.wave in approved, f"{row.command} is of wave {row.wave}, which nobody approved of: {approved}")


def _look_at_window(rollout: Rollout, row: Any, zone: str) -> None:
    if not rollout.policy.scheduling_config.maintenance_windows:
        return
    local = datetime.fromtimestamp(row.set_s, UTC).astimezone(ZoneInfo(zone))
    is_open = local.minute % WINDOW_PERIOD_MINUTES < WINDOW_MINUTES
    promise(is_open, f"{row.command} was ordered at {local:%H:%M:%S} {zone}, outside the maintenance windows")


def _look_at_blast(connection: Connection, rollout: Rollout, row: Any, site: str) -> None:
    most = rollout.policy.blast_radius.max_devices_per_site
    if most is None or not site or row.attempt > 1:
        return  # a retry takes no place: its device counted already
    [(unproven,)] = _rows(connection, _UNPROVEN, rollout.id, site)
    promise(unproven <= most, f"{row.command}: {unproven} devices of {site} are unproven, at most {most}")


def _look_at_controls(connection: Connection, rollout: Rollout) -> None:
    """Check that who still waits when all is over is counted in the log, and waits for a reason."""
    controls = list(_rows(connection, _CONTROLS, rollout.id))
    [(action, detail)] = _rows(connection, _ENDING, f"rollout:{rollout.id}")
    named = msgspec.json.decode(detail)["numbers"]["controls"]
    promise(named == len(controls), f"{rollout.id} {action} names {named} controls; there are {len(controls)}")
    policy = rollout.policy
    if policy.blast_radius.max_devices_per_site is not None or policy.scheduling_config.end_time is not None:
        return  # a site that is full, or an end that comes first, may leave a control as it is
    halted = {halt.target for halt in rollout.halted}
    at_s = rollout.finished_s
    for device, target, seen_s in controls:
        is_kept = target in halted or at_s is None or seen_s is None or at_s - seen_s > policy.offline_after_seconds
        promise(
            is_kept or _has_reason(connection, rollout, device, target), f"{device} was left a control of {rollout.id}"
        )


def _has_reason(connection: Connection, rollout: Rollout, device: str, target: str) -> bool:
    """Tell whether a control may keep what it runs: the release, a higher epoch, or too many orders today."""
    digest = next(bundle.digest for bundle in rollout.bundles if bundle.target == target)
    [(models,)] = _rows(connection, "SELECT models FROM devices WHERE device = ?", device)
    runs = [one.bundle for one in _models.decode(models)] if models else []
    epochs = dict(tuple(row) for row in _rows(connection, "SELECT digest, security_epoch FROM bundles"))
    [(orders,)] = _rows(connection, "SELECT count(*) FROM orders WHERE device = ?", device)
    too_many = orders >= rollout.policy.rollback.max_orders_per_device_per_day
    return digest in runs or too_many or any(epochs[one] > epochs[digest] for one in runs)


def _rows(connection: Connection, query: str, *values: Any) -> Iterable[Any]:
    return connection.exec_driver_sql(query, values)
