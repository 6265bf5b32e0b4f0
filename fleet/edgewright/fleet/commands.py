"""Carries out what the core decided: rows, desired states and audit entries, all in the caller's transaction."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from itertools import groupby
from typing import Any

import msgspec
from sqlalchemy import Connection

from .core.rows import (
    NOT_TAKEN_BACK,
    Alert,
    Assign,
    Assignment,
    Command,
    Graduate,
    Number,
    Record,
    Retry,
    RollBack,
    Rollout,
    SaveMemory,
    SaveRollout,
    Withdraw,
)
from .core.sums.slots import cohort_of_arm
from .store import audit_log, desired, rollouts, spans

log = logging.getLogger(__name__)


def carry_out(connection: Connection, rollout: Rollout, commands: Sequence[Command], *, now_s: float) -> None:
    """Apply all commands of one decision about `rollout`; those of one kind that stand together go in one statement.

    Raises:
        StaleRolloutError: the rollout was changed since it was read, or another one took a device of it; roll the
            transaction back and decide anew.
    """
    for kind, some in groupby(commands, key=type):
        given: Any = list(some)
        if kind is Assign:
            _assign(connection, rollout, [each.assignment for each in given], now_s=now_s)
        elif kind is Graduate:
            _graduate(connection, rollout, [each.assignment for each in given], now_s=now_s)
        elif kind is Retry:
            _retry(connection, rollout, given, now_s=now_s)
        elif kind is RollBack:
            _roll_back(connection, rollout, given, now_s=now_s)
        elif kind is Withdraw:
            _withdraw(connection, rollout, given)
        else:
            for command in given:
                _carry_out(connection, rollout, command, now_s=now_s)


def _carry_out(connection: Connection, rollout: Rollout, command: Command, *, now_s: float) -> None:
    match command:
        case SaveRollout():
            rollouts.save(connection, command.rollout)
        case SaveMemory():
            _save_memory(connection, rollout, command, now_s=now_s)
        case Record():
            _record(connection, command)
        case Alert():
            _alert(connection, rollout, command, now_s=now_s)


def _assign(connection: Connection, rollout: Rollout, given: Sequence[Assignment], *, now_s: float) -> None:
    """Add the rows; who is a control gets no order."""
    rollouts.refuse_if_taken(connection, rollout, [one.device for one in given])
    rollouts.add_assignments(connection, rollout.id, given)
    _join_cohorts(connection, rollout, given)
    ordered = [_order(rollout, one) for one in given if one.arm != "control"]
    desired.assign(connection, ordered, now_s=now_s)


def _graduate(connection: Connection, rollout: Rollout, given: Sequence[Assignment], *, now_s: float) -> None:
    rollouts.replace_assignments(connection, rollout.id, given)
    _join_cohorts(connection, rollout, given)
    desired.assign(connection, [_order(rollout, one) for one in given], now_s=now_s)


def _retry(connection: Connection, rollout: Rollout, given: Sequence[Retry], *, now_s: float) -> None:
    rollouts.change_assignments(
        connection,
        rollout.id,
        {one.device: _another_attempt(one) for one in given},
    )
    digest_of = {bundle.target: bundle.digest for bundle in rollout.bundles}
    target_of = rollouts.targets_of(connection, rollout.id, [one.device for one in given])
    again = [
        desired.Assignment(
            device=one.device,
            model=rollout.model,
            version=rollout.version,
            bundle=digest_of[target_of[one.device]],
            command=one.command,
            probation_s=rollout.policy.probation_seconds,
            rollback=False,
            rollout=rollout.id,
        )
        for one in given
    ]
    desired.assign(connection, again, now_s=now_s)


def _another_attempt(given: Retry) -> dict[str, Any]:
    """Return the columns that change; what devices reported stands elsewhere, under the command."""
    not_taken_back = {name: value for name, value in NOT_TAKEN_BACK.items() if name != "rollback_phase"}
    return {"command": given.command, "attempt": given.attempt, "dispatched_s": given.at_s, **not_taken_back}


def _roll_back(connection: Connection, rollout: Rollout, given: Sequence[RollBack], *, now_s: float) -> None:
    orders = [
        desired.Assignment(
            device=one.device,
            model=rollout.model,
            version=one.version,
            bundle=one.bundle,
            command=one.command,
            probation_s=rollout.policy.probation_seconds,
            rollback=True,
            rollout=rollout.id,
        )
        for one in given
    ]
    desired.assign(connection, orders, now_s=now_s)
    changed = {
        one.device: {
            "rollback_command": one.command,
            "rollback_version": one.version,
            "rollback_bundle": one.bundle,
            "rolled_back_s": one.at_s,
        }
        for one in given
    }
    rollouts.change_assignments(connection, rollout.id, changed)


def _withdraw(connection: Connection, rollout: Rollout, given: Sequence[Withdraw]) -> None:
    desired.withdraw(connection, [one.device for one in given], rollout.model)
    rollouts.change_assignments(connection, rollout.id, {one.device: {"withdrawn_s": one.at_s} for one in given})


def _order(rollout: Rollout, given: Assignment) -> desired.Assignment:
    return desired.Assignment(
        device=given.device,
        model=rollout.model,
        version=given.version,
        bundle=given.bundle,
        command=given.command,
        probation_s=rollout.policy.probation_seconds,
        rollback=False,
        rollout=rollout.id,
    )


def _join_cohorts(connection: Connection, rollout: Rollout, given: Sequence[Assignment]) -> None:
    cohorts: dict[str, dict[str, float]] = {}
    for one in given:
        cohort = cohort_of_arm(rollout.id, one.wave, is_control=one.arm == "control")
        cohorts.setdefault(cohort, {})[one.device] = one.dispatched_s
    for cohort, since_s in cohorts.items():
        spans.join_cohort(connection, cohort, rollout.model, since_s)


def _save_memory(connection: Connection, rollout: Rollout, command: SaveMemory, *, now_s: float) -> None:
    """Keep what was learnt, and from which observations, so that anyone can compute it again from the log alone."""
    rollouts.save_memory(connection, rollout.id, command.memory)
    if command.learnt:
        audit_log.append(
            connection,
            now_s=now_s,
            actor="gate",
            action="rollout.evidence",
            subject=f"rollout:{rollout.id}",
            detail={"blocks": msgspec.to_builtins(command.learnt), "next_block": command.memory.next_block},
        )


def _record(connection: Connection, command: Record) -> None:
    decision = command.decision
    audit_log.append(
        connection,
        now_s=decision.at_s,
        actor=decision.actor,
        action=f"rollout.{decision.action}",
        subject=f"rollout:{decision.rollout}",
        detail={"wave": decision.wave, "reason": decision.reason, "numbers": _finite(decision.numbers)},
    )


def _alert(connection: Connection, rollout: Rollout, command: Alert, *, now_s: float) -> None:
    log.warning("%s: %s", rollout.model, command.message)
    audit_log.append(
        connection,
        now_s=now_s,
        actor="fleet",
        action="alert.raised",
        subject=f"rollout:{rollout.id}",
        detail={
            "key": command.key,
            "target": command.target,
            "message": command.message,
            "numbers": _finite(command.numbers),
        },
    )


def _finite(numbers: dict[str, Number]) -> dict[str, Number]:
    """JSON has no infinity; an e-value can be one."""
    return {
        key: str(value) if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in numbers.items()
    }
