"""Tells people of devices whose time zone nobody knows, where maintenance windows depend on it."""

from __future__ import annotations

from collections.abc import Sequence

from ..rows import Alert, Device, Rollout
from .schedule import unknown_zones

MOST_NAMED = 5
LONGEST_NAME = 64


def zone_alert(rollout: Rollout, devices: Sequence[Device]) -> Alert | None:
    """Return the alert that a rollout still owes; None where all zones are known, or it was raised before.

    It is one for all zones and devices: a fleet that makes up names cannot flood its people.
    """
    key = f"unknown-zone/{rollout.id}"
    if not rollout.policy.scheduling_config.maintenance_windows or key in rollout.alerts:
        return None
    targets = {bundle.target for bundle in rollout.bundles}
    unknown = set(unknown_zones({device.time_zone for device in devices if device.target in targets}))
    if not unknown:
        return None
    stray = sorted(device.id for device in devices if device.time_zone in unknown and device.target in targets)
    named = ", ".join(repr(zone[:LONGEST_NAME]) for zone in sorted(unknown)[:MOST_NAMED])
    message = (
        f"{len(stray)} of {len(devices)} devices are in a time zone that the database does not have ({named}), "
        f"{stray[0]} among them: their maintenance windows are in UTC. Mend it with "
        f"`edgewright fleet device set {stray[0]} --time-zone Europe/Paris`"
    )
    numbers = {"devices": len(stray), "zones": len(unknown)}
    return Alert(key=key, target="", message=message, numbers=dict(numbers))
