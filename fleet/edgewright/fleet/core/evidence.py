"""Which telemetry speaks for the new release, and which for the old."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import msgspec

from edgewright.bundle.reference import Reference

from .rows import Assignment, Device, ReleaseBundle, Rollout
from .windows import ObservedWindow, Totals, latest, total

ControlKind = Literal["concurrent", "before", "none"]


class TargetEvidence(msgspec.Struct, frozen=True, kw_only=True):
    """One target's traffic in the current wave: the devices on the new release, and what they are compared with."""

    target: str
    treated: Totals
    treated_reference: Reference
    control: Totals
    control_kind: ControlKind
    """`concurrent`: devices on the old release in the same windows. `before`: the same devices before their order,
    where no device is left on the old release. `none`: nothing ran before."""
    control_reference: Reference | None


def gather(
    rollout: Rollout,
    devices: Sequence[Device],
    assignments: Sequence[Assignment],
    windows: Iterable[ObservedWindow],
    references: Mapping[str, Reference],
) -> tuple[TargetEvidence, ...]:
    """Return one row for each target of the current wave whose new bundle has a known reference.

    Args:
        rollout: the rollout.
        devices: all enrolled devices.
        assignments: all of this rollout.
        windows: of this model, from one horizon before the rollout was made until now, all versions.
        references: by bundle digest, for every bundle that occurs in the windows or in the release.
    """
    order_of = {assignment.device: assignment for assignment in assignments}
    target_of = {device.id: device.target for device in devices}
    by_target: dict[str, list[ObservedWindow]] = {}
    for window in latest(one for one in windows if one.record.model == rollout.model).values():
        by_target.setdefault(target_of.get(window.device, ""), []).append(window)
    in_wave = {assignment.target for assignment in assignments if assignment.wave == rollout.wave}
    return tuple(
        _target_evidence(bundle, rollout.wave, by_target.get(bundle.target, []), order_of, references)
        for bundle in rollout.bundles
        if bundle.target in in_wave and bundle.digest in references
    )


def _target_evidence(
    release: ReleaseBundle,
    wave: int,
    windows: Sequence[ObservedWindow],
    order_of: Mapping[str, Assignment],
    references: Mapping[str, Reference],
) -> TargetEvidence:
    target, bundle = release.target, release.digest
    in_wave = {device for device, order in order_of.items() if order.wave == wave}
    treated = [
        one
        for one in windows
        if one.device in in_wave and one.record.bundle == bundle and _ends_after(one, order_of[one.device].dispatched_s)
    ]
    old = [one for one in windows if one.record.bundle != bundle and one.record.bundle in references]
    slots = {one.record.window_start_s for one in treated}
    concurrent = [one for one in old if one.record.window_start_s in slots and one.device not in in_wave]
    before = [one for one in old if one.device in in_wave]
    control, kind = _choose_control(concurrent, before, treated)
    control_bundle = control[0].record.bundle if control else None
    return TargetEvidence(
        target=target,
        treated=total(latest(treated)),
        treated_reference=references[bundle],
        control=total(latest(control)),
        control_kind=kind,
        control_reference=references[control_bundle] if control_bundle is not None else None,
    )


def _choose_control(
    concurrent: Sequence[ObservedWindow], before: Sequence[ObservedWindow], treated: Sequence[ObservedWindow]
) -> tuple[list[ObservedWindow], ControlKind]:
    """Take the concurrent devices unless they saw too little to compare with: a quarter of the treated traffic."""
    now, earlier = _of_one_bundle(concurrent), _of_one_bundle(before)
    enough = sum(one.record.rows for one in treated) / 4
    if now and (sum(one.record.rows for one in now) >= enough or not earlier):
        return now, "concurrent"
    return (earlier, "before") if earlier else ([], "none")


def _of_one_bundle(windows: Sequence[ObservedWindow]) -> list[ObservedWindow]:
    """Keep the bundle with the most traffic: only histograms of one reference can be added."""
    rows: Counter[str] = Counter()
    for window in windows:
        rows[window.record.bundle] += window.record.rows
    if not rows.total():
        return []
    most = max(sorted(rows), key=lambda bundle: rows[bundle])
    return [window for window in windows if window.record.bundle == most]


def _ends_after(window: ObservedWindow, moment_s: float) -> bool:
    return window.record.window_start_s + window.record.window_s > moment_s
