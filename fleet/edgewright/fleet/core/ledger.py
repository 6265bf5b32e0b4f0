"""The in-memory stand-in of the store: applies commands to rows. Tests, rehearsals and the simulator run on it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from .observations import GateMemory
from .rows import (
    NOT_TAKEN_BACK,
    UNREPORTED,
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
        draft = _Draft(self)
        for command in commands:
            draft.apply(command)
        return draft.ledger()

    def report(self, device: str, **fields: Any) -> Ledger:
        """Return the ledger with these fields of one device's assignment changed."""
        draft = _Draft(self)
        draft.change(device, **fields)
        return draft.ledger()


class _Draft:
    """A ledger on which a batch is carried out, so that a large batch costs no more than its commands."""

    def __init__(self, before: Ledger) -> None:
        self._before = before
        self._rollout = before.rollout
        self._memory = before.memory
        self._rows = {one.device: one for one in before.assignments}
        self._decisions: list[Decision] = []
        self._alerts: list[Alert] = []
        self._is_out_of_order = False

    def ledger(self) -> Ledger:
        rows: Iterable[Assignment] = self._rows.values()
        if self._is_out_of_order:
            rows = sorted(rows, key=lambda one: one.position)
        return Ledger(
            rollout=self._rollout,
            assignments=tuple(rows),
            decisions=(*self._before.decisions, *self._decisions),
            alerts=(*self._before.alerts, *self._alerts),
            memory=self._memory,
        )

    def change(self, device: str, **fields: Any) -> None:
        if device in self._rows:
            self._rows[device] = msgspec.structs.replace(self._rows[device], **fields)

    def apply(self, command: Command) -> None:
        match command:
            case SaveRollout(rollout=rollout):
                if rollout.revision != self._rollout.revision + 1:
                    raise StaleRevisionError(f"row {self._rollout.revision}, batch {rollout.revision}")
                self._rollout = rollout
            case Assign(assignment=assignment):
                self._rows[assignment.device] = assignment
            case Graduate(assignment=assignment):
                self._rows[assignment.device] = assignment
                self._is_out_of_order = True
            case RollBack(device=device, command=order, version=version, bundle=bundle, at_s=at_s):
                self.change(
                    device,
                    rollback_command=order,
                    rollback_version=version,
                    rollback_bundle=bundle,
                    rolled_back_s=at_s,
                )
            case Withdraw(device=device, at_s=at_s):
                self.change(device, withdrawn_s=at_s)
            case Retry(device=device, command=order, attempt=attempt, at_s=at_s):
                self.change(device, command=order, attempt=attempt, dispatched_s=at_s, **UNREPORTED, **NOT_TAKEN_BACK)
            case SaveMemory(memory=memory):
                self._memory = memory
            case Record(decision=decision):
                self._decisions.append(decision)
            case Alert():
                self._alerts.append(command)
