"""What came of an order, derived from what the device reported and from the clock. Nothing here is stored."""

from __future__ import annotations

from typing import Literal

from edgewright.runtime.telemetry.records import UpdatePhase

from .policy import Policy
from .rows import Assignment, Device

Outcome = Literal["queued", "in_progress", "succeeded", "failed", "rejected", "timed_out"]
"""Execution states as in AWS IoT Jobs."""

FAILURES: frozenset[Outcome] = frozenset({"failed", "rejected", "timed_out"})
PENDING: frozenset[Outcome] = frozenset({"queued", "in_progress"})

ENDING_PHASES: dict[UpdatePhase, Outcome] = {
    "confirmed": "succeeded",
    "failed": "failed",
    "rolled_back": "failed",
    "refused": "rejected",
}


def outcome(assignment: Assignment, policy: Policy, now_s: float) -> Outcome:
    """Return the state of an order. Silence at the deadline is a failure, and stays one if a result comes later."""
    ended = ENDING_PHASES.get(assignment.phase) if assignment.phase is not None else None
    deadline = deadline_s(assignment, policy)
    if ended is not None and (assignment.ended_s is None or assignment.ended_s <= deadline):
        return ended
    if now_s >= deadline:
        return "timed_out"
    return "queued" if assignment.started_s is None else "in_progress"


def deadline_s(assignment: Assignment, policy: Policy) -> float:
    """Return when this order counts as failed if nothing more is heard."""
    horizon = assignment.dispatched_s + policy.horizon_seconds
    timeouts = policy.timeout_config
    queued_min, running_min = timeouts.queued_timeout_in_minutes, timeouts.in_progress_timeout_in_minutes
    queued_end = assignment.dispatched_s + queued_min * 60 if queued_min is not None else horizon
    if assignment.started_s is None or assignment.started_s > queued_end:
        return min(horizon, queued_end)
    return min(horizon, assignment.started_s + running_min * 60) if running_min is not None else horizon


def has_returned(assignment: Assignment, device: Device | None) -> bool:
    """Tell whether a device that was ordered back has settled, one way or the other."""
    if assignment.rollback_command is None or assignment.rollback_phase in ENDING_PHASES:
        return True
    return (
        device is not None
        and assignment.rolled_back_s is not None
        and device.reported_s is not None
        and device.reported_s > assignment.rolled_back_s
        and device.idle
        and device.bundle == assignment.previous_bundle
    )
