"""The in-memory stand-in of the store: applies commands to rows. Tests, rehearsals and the simulator run on it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from .observations import GateMemory
from .rows import (
    Alert,
    Assign,
    Assignment,
    Command,
    Decision,
    Graduate,
    Record,
    Retry,
    RollBack,
    Rollout,
    SaveMemory,
    SaveRollout,
    Withdraw,
)


class StaleRevisionError(Exception):
    """The rollout's row was changed by someone else since it was read; nothing was applied."""


class Ledger(msgspec.Struct, frozen=True, kw_only=True):
    """One rollout with everything that hangs on it."""

    rollout: Rollout
    assignments: tuple[Assignment, ...] = ()
    decisions: tuple[Decision, ...] = ()
    alerts: tuple[Alert, ...] = ()
    memory: GateMemory = GateMemory()

    def apply(self, commands: Iterable[Command]) -> Ledger:
        """Return the ledger after the commands, all of them.

        Raises:
            StaleRevisionError: they were decided on another revision of the rollout.
        """
        after = self
        for command in commands:
            after = after._apply(command)
        return after

    def _apply(self, command: Command) -> Ledger:
        match command:
            case SaveRollout(rollout=rollout):
                if rollout.revision != self.rollout.revision + 1:
                    raise StaleRevisionError(f"row {self.rollout.revision}, batch {rollout.revision}")
                return msgspec.structs.replace(self, rollout=rollout)
            case Assign(assignment=assignment):
                return msgspec.structs.replace(self, assignments=(*self.assignments, assignment))
            case RollBack(device=device, command=order, version=version, bundle=bundle, at_s=at_s):
                return self.report(
                    device,
                    rollback_command=order,
                    rollback_version=version,
                    rollback_bundle=bundle,
                    rolled_back_s=at_s,
                )
            case Withdraw(device=device, at_s=at_s):
                return self.report(device, withdrawn_s=at_s)
            case Graduate(assignment=assignment):
                return self.report(assignment.device, **msgspec.structs.asdict(assignment))
            case Retry(device=device, command=order, attempt=attempt, at_s=at_s):
                return self.report(
                    device, command=order, attempt=attempt, dispatched_s=at_s, phase=None, started_s=None, ended_s=None
                )
            case SaveMemory(memory=memory):
                return msgspec.structs.replace(self, memory=memory)
            case Record(decision=decision):
                return msgspec.structs.replace(self, decisions=(*self.decisions, decision))
            case Alert():
                return msgspec.structs.replace(self, alerts=(*self.alerts, command))

    def report(self, device: str, **fields: Any) -> Ledger:
        """Return the ledger with these fields of one device's assignment changed."""
        changed = tuple(
            msgspec.structs.replace(one, **fields) if one.device == device else one for one in self.assignments
        )
        return msgspec.structs.replace(self, assignments=changed)
