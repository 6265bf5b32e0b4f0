"""What came of an order, derived from what the device reported and from the clock. Nothing here is stored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from edgewright.runtime.telemetry.records import UpdatePhase

from .policy.policy import Policy
from .rows import Assignment, Device, Rollout

Outcome = Literal["control", "queued", "in_progress", "succeeded", "failed", "rejected", "timed_out", "recalled"]
"""Execution states as in AWS IoT Jobs, and two of our own. `control`: no order was given. `recalled`: the order was
taken back before it had a result; for every count it is neither a success nor a failure (an e-process over the
dispatch order takes it as a success, like one that is pending)."""

FAILURES: frozenset[Outcome] = frozenset({"failed", "rejected", "timed_out"})
PENDING: frozenset[Outcome] = frozenset({"queued", "in_progress"})
EXECUTED: frozenset[Outcome] = FAILURES | {"succeeded"}
"""What has a result: the denominator of a share."""

ENDING_PHASES: dict[UpdatePhase, Outcome] = {
    "confirmed": "succeeded",
    "failed": "failed",
    "rolled_back": "failed",
    "refused": "rejected",
}


def outcomes_of(rollout: Rollout, assignments: Sequence[Assignment], now_s: float) -> list[Outcome]:
    """Return the outcome of each assignment, in the same order. A tick computes this once for all that need it."""
    policy = rollout.policy
    return [outcome(assignment, policy, now_s) for assignment in assignments]


def outcome(assignment: Assignment, policy: Policy, now_s: float) -> Outcome:
    """Return the state of an order. Silence at the deadline is a failure, and stays one if a result comes later.

    A failure after which the policy tries again counts as pending until it was tried, or for one more horizon.
    """
    if assignment.arm == "control":
        return "control"
    result, at_s = _result(assignment, policy, now_s)
    taken_back_s = assignment.rolled_back_s if assignment.rolled_back_s is not None else assignment.withdrawn_s
    if taken_back_s is not None:
        return "recalled" if result is None or at_s > taken_back_s else result
    if result is None:
        return "queued" if assignment.started_s is None else "in_progress"
    return "queued" if _has_another_attempt(assignment, result, at_s, policy, now_s) else result


def is_retry_due(assignment: Assignment, policy: Policy, now_s: float) -> bool:
    """Tell whether this order came to nothing and the policy leaves another attempt, which was not given yet."""
    if assignment.arm == "control" or assignment.rolled_back_s is not None or assignment.withdrawn_s is not None:
        return False
    result, at_s = _result(assignment, policy, now_s)
    return result is not None and _has_another_attempt(assignment, result, at_s, policy, now_s)


def was_unheard(assignment: Assignment) -> bool:
    """Tell whether an order was taken back before its device had heard of it, as the emergency stop does."""
    is_back = assignment.rolled_back_s is not None or assignment.withdrawn_s is not None
    return is_back and assignment.started_s is None and assignment.phase is None


def _result(assignment: Assignment, policy: Policy, now_s: float) -> tuple[Outcome | None, float]:
    """Return what the newest attempt came to, None while it is open, and when that was."""
    ended = ENDING_PHASES.get(assignment.phase) if assignment.phase is not None else None
    deadline = deadline_s(assignment, policy)
    if ended is not None and (assignment.ended_s is None or assignment.ended_s <= deadline):
        return ended, deadline if assignment.ended_s is None else assignment.ended_s
    return "timed_out" if now_s >= deadline else None, deadline


def _has_another_attempt(assignment: Assignment, result: Outcome, at_s: float, policy: Policy, now_s: float) -> bool:
    if result not in {"failed", "timed_out"} or now_s >= at_s + policy.horizon_seconds:
        return False
    kinds = {result.upper(), "ALL"}
    return any(
        criterion.failure_type in kinds and assignment.attempt <= criterion.number_of_retries
        for criterion in policy.job_executions_retry_config.criteria_list
    )


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
        and device.bundle == (assignment.rollback_bundle or assignment.previous_bundle)
    )
