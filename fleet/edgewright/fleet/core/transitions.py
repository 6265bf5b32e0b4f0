"""The states of a rollout and the events that lead from one to another. What is not in the table is not possible."""

from __future__ import annotations

from typing import Literal

from .rows import RolloutState

Event = Literal[
    "start",
    "await_approval",
    "approve",
    "pause",
    "resume",
    "abort",
    "rollback",
    "finish",
    "follow",
    "supersede",
    "returned",
]
OPERATOR_EVENTS: tuple[Event, ...] = ("approve", "pause", "resume", "abort", "rollback")

TRANSITIONS: dict[tuple[RolloutState, Event], RolloutState] = {
    ("scheduled", "start"): "running",
    ("scheduled", "abort"): "aborted",
    ("scheduled", "supersede"): "superseded",
    ("running", "pause"): "paused",
    ("running", "abort"): "aborted",
    ("running", "rollback"): "rolling_back",
    ("running", "finish"): "completed",
    ("running", "follow"): "following",
    ("running", "await_approval"): "awaiting_approval",
    ("running", "supersede"): "superseded",
    ("awaiting_approval", "approve"): "running",
    ("awaiting_approval", "pause"): "paused",
    ("awaiting_approval", "abort"): "aborted",
    ("awaiting_approval", "rollback"): "rolling_back",
    ("awaiting_approval", "supersede"): "superseded",
    ("paused", "resume"): "running",
    ("paused", "abort"): "aborted",
    ("paused", "rollback"): "rolling_back",
    ("paused", "supersede"): "superseded",
    ("following", "pause"): "paused",
    ("following", "abort"): "aborted",
    ("following", "rollback"): "rolling_back",
    ("following", "supersede"): "superseded",
    ("following", "finish"): "completed",
    ("rolling_back", "returned"): "rolled_back",
    ("completed", "rollback"): "rolling_back",
    ("aborted", "rollback"): "rolling_back",
    ("superseded", "rollback"): "rolling_back",
}
