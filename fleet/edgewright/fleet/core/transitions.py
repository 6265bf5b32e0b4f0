"""The states of a rollout and the events that lead from one to another. What is not in the table is not possible."""

from __future__ import annotations

from typing import Literal

from .rows import RolloutState

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
