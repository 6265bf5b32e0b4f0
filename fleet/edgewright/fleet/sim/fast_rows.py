"""Rows of the core for devices that are only numbers."""

from __future__ import annotations

from typing import Any

import msgspec

from ..core.rows import Assignment, Device
from .starting import STARTED_S

LISTENING_S = 1e15
"""`last_seen_s` of a device that can be reached: it is heard all the time."""


def device_row(name: str, board: str, site: str, time_zone: str, labels: dict[str, str], version: str) -> Device:
    """Return a device that is idle and listens."""
    return Device(
        id=name,
        target=board,
        last_seen_s=LISTENING_S,
        version=version or None,
        bundle=f"{version}/{board}" if version else None,
        idle=True,
        reported_s=STARTED_S,
        site=site,
        time_zone=time_zone,
        labels=labels,
    )


def reported(one: Assignment, told: dict[str, Any]) -> Assignment:
    """Return an assignment with what the device said since the last tick."""
    fields = {key: value for key, value in told.items() if key != "of"}
    if told.get("of", one.command) != one.command:  # of an attempt before this one
        fields = {key: value for key, value in fields.items() if key == "rollback_phase"}
    if one.started_s is not None:
        fields.pop("started_s", None)
    return msgspec.structs.replace(one, **fields)
