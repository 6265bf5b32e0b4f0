"""Carries out what the core decided: rows, desired states and audit entries, all in the caller's transaction."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence

from sqlalchemy import Connection

from .core.rows import Alert, Assign, Command, Number, Record, RollBack, Rollout, SaveRollout, Withdraw
from .store import audit_log, desired, rollouts, windows

log = logging.getLogger(__name__)


def carry_out(connection: Connection, rollout: Rollout, commands: Sequence[Command], *, now_s: float) -> None:
    """Apply all commands of one decision about `rollout`.

    Raises:
        StaleRolloutError: the rollout was changed since it was read; roll the transaction back and decide anew.
    """
    for command in commands:
        match command:
            case SaveRollout():
                rollouts.save(connection, command.rollout)
            case Assign():
                _assign(connection, rollout, command, now_s=now_s)
            case RollBack():
                _roll_back(connection, rollout, command, now_s=now_s)
            case Withdraw():
                desired.withdraw(connection, command.device, rollout.model)
                rollouts.change_assignment(connection, rollout.id, command.device, withdrawn_s=command.at_s)
            case Record():
                _record(connection, command)
            case Alert():
                _alert(connection, rollout, command, now_s=now_s)


def _assign(connection: Connection, rollout: Rollout, command: Assign, *, now_s: float) -> None:
    given = command.assignment
    rollouts.add_assignment(connection, rollout.id, given)
    windows.join_cohort(connection, rollout.id, given.wave, given.device, rollout.model, since_s=given.dispatched_s)
    order = desired.Assignment(
        device=given.device,
        model=rollout.model,
        version=given.version,
        bundle=given.bundle,
        command=given.command,
        probation_s=rollout.policy.probation_seconds,
        rollback=False,
        rollout=rollout.id,
    )
    desired.assign(connection, order, now_s=now_s)


def _roll_back(connection: Connection, rollout: Rollout, command: RollBack, *, now_s: float) -> None:
    order = desired.Assignment(
        device=command.device,
        model=rollout.model,
        version=command.version,
        bundle=command.bundle,
        command=command.command,
        probation_s=rollout.policy.probation_seconds,
        rollback=True,
        rollout=rollout.id,
    )
    desired.assign(connection, order, now_s=now_s)
    rollouts.change_assignment(
        connection, rollout.id, command.device, rollback_command=command.command, rolled_back_s=command.at_s
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
