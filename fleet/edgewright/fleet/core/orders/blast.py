"""How many devices of one site may be unproven at one time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from ..outcomes import Outcome
from ..policy.sections import BlastRadius
from ..rows import Assignment, Device, Rollout


class BlastLimit:
    """Lets devices of a site through until as many of them are unproven as the policy allows.

    Unproven is a device that was ordered and has not succeeded, failed ones among them, and one that was ordered back
    and has not arrived. Controls are not: they keep what they run. A device without a site is a site of its own, which
    no limit touches. A retry takes no place: its device counts already.
    """

    def __init__(
        self,
        rollout: Rollout,
        devices: Sequence[Device],
        assignments: Sequence[Assignment],
        outcomes: Sequence[Outcome],
    ) -> None:
        self._radius = rollout.policy.blast_radius
        self._is_limited = self._radius != BlastRadius()
        self._left: dict[str, int] = self._places(rollout, devices, assignments, outcomes) if self._is_limited else {}

    def take(self, device: Device) -> bool:
        """Tell whether this device may get an order now, and count it if so."""
        if not self._is_limited or not device.site:
            return True
        left = self._left.get(device.site, 0)
        if left <= 0:
            return False
        self._left[device.site] = left - 1
        return True

    def _places(
        self,
        rollout: Rollout,
        devices: Sequence[Device],
        assignments: Sequence[Assignment],
        outcomes: Sequence[Outcome],
    ) -> dict[str, int]:
        targets = {bundle.target for bundle in rollout.bundles}
        members = Counter([device.site for device in devices if device.target in targets])
        # where it stands now, not where it was drawn: a control that has moved graduates at its new place
        site_of = {device.id: device.site for device in devices}
        unproven = Counter(
            [
                site_of.get(one.device, one.site)
                for one, came in zip(assignments, outcomes, strict=True)
                if _is_unproven(one, came)
            ]
        )
        return {site: self._most(count) - unproven[site] for site, count in members.items()}

    def _most(self, members: int) -> int:
        radius = self._radius
        most = members if radius.max_devices_per_site is None else radius.max_devices_per_site
        if radius.max_percentage_per_site is not None:
            most = min(most, max(1, int(radius.max_percentage_per_site * members // 100)))
        return most


def _is_unproven(assignment: Assignment, outcome: Outcome) -> bool:
    if outcome == "control":
        return False
    if assignment.rollback_command is not None:
        return assignment.rollback_phase != "confirmed"
    return outcome != "succeeded" and assignment.withdrawn_s is None
