"""Rollouts: a transition table, and a tick that looks at rows and returns commands.

How the server uses this, every second or so and after each batch of telemetry, for each rollout that has not ended:

    evidence = gather(rollout, devices, assignments, windows, references)
    commands = tick(rollout, now_s, devices, assignments, evidence)
    # apply all of them in one transaction, or none if the stored revision is not rollout.revision

and when a person presses a button:

    commands = fire(rollout, "pause", now_s, assignments, actor="admin", reason="lunch")    # RolloutConflict if not possible

A tick with the same rows gives the same commands; once they are applied, a further tick at the same time gives none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from edgewright.targets.faults import UserFault

from .evidence import TargetEvidence
from .gates import GateStatus
from .rows import Assignment, Command, Device, Rollout, RolloutState

Event = Literal["pause", "resume", "abort", "rollback", "finish", "returned"]
OPERATOR_EVENTS: tuple[Event, ...] = ("pause", "resume", "abort", "rollback")

TRANSITIONS: dict[tuple[RolloutState, Event], RolloutState] = {
    ("running", "pause"): "paused",
    ("running", "abort"): "aborted",
    ("running", "rollback"): "rolling_back",
    ("running", "finish"): "completed",
    ("paused", "resume"): "running",
    ("paused", "abort"): "aborted",
    ("paused", "rollback"): "rolling_back",
    ("rolling_back", "returned"): "rolled_back",
    ("completed", "rollback"): "rolling_back",
    ("aborted", "rollback"): "rolling_back",
}


class RolloutConflict(UserFault):
    """The event is not possible in the rollout's state; the message says which are."""


def tick(
    rollout: Rollout,
    now_s: float,
    devices: Sequence[Device],
    assignments: Sequence[Assignment],
    evidence: Sequence[TargetEvidence],
) -> tuple[Command, ...]:
    """Return what is to be done now. Empty when there is nothing to do, and for a rollout that has ended."""
    raise NotImplementedError


def fire(
    rollout: Rollout, event: Event, now_s: float, assignments: Sequence[Assignment], *, actor: str, reason: str
) -> tuple[Command, ...]:
    """Return the commands of an operator's event.

    Raises:
        RolloutConflict: the table has no such transition.
    """
    raise NotImplementedError


def gate_status(
    rollout: Rollout, now_s: float, assignments: Sequence[Assignment], evidence: Sequence[TargetEvidence]
) -> tuple[GateStatus, ...]:
    """Return what each gate says now, with its numbers: for the console, `rollout status` and the stored `gates` column."""
    raise NotImplementedError
