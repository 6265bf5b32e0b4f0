"""What the clock alone does to a rollout: it starts at its start time and ends at its end time."""

from __future__ import annotations

from typing import Literal

from ..back import take_back
from ..outcomes import PENDING
from ..rows import Command, RolloutState
from ..turn import Turn
from .schedule import is_after_end, is_before_start, time_s

Due = Literal["start", "abort", "finish", "wait"]
"""`wait`: the end time has come, no order goes out any more, and results are still to come."""
OVER_AT_END: frozenset[RolloutState] = frozenset({"running", "following", "awaiting_approval"})


def due(turn: Turn) -> Due | None:
    """Return what the clock asks for; None is nothing.

    At the end time, `STOP_ROLLOUT` waits for the results of what was ordered; `CANCEL` aborts, which takes back what no
    device has heard; `FORCE_CANCEL` first takes back what is under way (`taken_back_at_end`). A rollout that a person
    paused is left to the person, unless it is cancelled.
    """
    rollout = turn.rollout
    config = rollout.policy.scheduling_config
    if rollout.state == "scheduled":
        if is_after_end(config, turn.now_s):
            return "abort"
        return None if is_before_start(config, turn.now_s) else "start"
    if not is_after_end(config, turn.now_s):
        return None
    is_pending = any(result in PENDING for result in turn.outcomes)
    if config.end_behavior == "FORCE_CANCEL" and is_pending:
        return "wait"
    if config.end_behavior != "STOP_ROLLOUT":
        return "abort"
    if rollout.state not in OVER_AT_END:
        return None
    if is_pending:
        return "wait"
    return "abort" if rollout.state == "awaiting_approval" else "finish"


def taken_back_at_end(turn: Turn) -> list[Command]:
    """Return the orders back for devices that have no result at the end time of a rollout with `FORCE_CANCEL`."""
    config = turn.rollout.policy.scheduling_config
    if config.end_behavior != "FORCE_CANCEL" or config.end_time is None:
        return []
    pairs = zip(turn.seen.assignments, turn.outcomes, strict=True)
    pending = [one for one, result in pairs if result in PENDING]
    return take_back(turn.seen, pending, since_s=time_s(config.end_time))
