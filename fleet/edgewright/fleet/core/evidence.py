"""Which telemetry speaks for the new release, and which for the old."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from .drift import ObservedWindow, ReferenceSummary, Totals
from .rows import Assignment, Device, Rollout


class TargetEvidence(msgspec.Struct, frozen=True, kw_only=True):
    """One target's traffic: devices on the new release, and devices on the old one in the same windows."""

    target: str
    treated: Totals
    treated_reference: ReferenceSummary
    control: Totals | None
    """None where there is nothing to compare with."""
    control_kind: str
    """`concurrent` (devices on the old release), `before` (the same devices before the order), or `none`."""
    control_reference: ReferenceSummary | None


def gather(
    rollout: Rollout,
    devices: Sequence[Device],
    assignments: Sequence[Assignment],
    windows: Iterable[ObservedWindow],
    references: Mapping[str, ReferenceSummary],
) -> tuple[TargetEvidence, ...]:
    """Return one row for each target of the release that has traffic on the new bundle.

    Args:
        rollout: the rollout.
        devices: all enrolled devices.
        assignments: all of this rollout.
        windows: of this model, from one horizon before the rollout was made until now, all versions.
        references: by bundle digest, for every bundle that occurs in the windows.
    """
    raise NotImplementedError
