"""Which telemetry speaks for the new release, and which for the old.

Sums are by slot (sums/slots.py), so what this costs grows with the time that a rollout takes and not with its devices.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Literal

import msgspec

from edgewright.bundle.reference import Reference

from ..rows import Assignment, ReleaseBundle, Rollout
from ..sums.slots import FLEET, SITE, Reporting, Slot, cohort_of, control_cohort_of, shape_of_reference
from ..sums.windows import Totals, difference, sum_of
from .site_drift import SiteTraffic, drifted_sites

ControlKind = Literal["drawn", "concurrent", "before", "none"]


class KnownBundle(msgspec.Struct, frozen=True, kw_only=True):
    """A bundle of the rollout's model that was uploaded."""

    digest: str
    target: str
    reference: Reference


class TargetEvidence(msgspec.Struct, frozen=True, kw_only=True):
    """One target's traffic in the current wave: the devices on the new release, and what they are compared with."""

    target: str
    treated: Totals
    treated_reference: Reference
    control: Totals
    control_kind: ControlKind
    """`drawn`: the wave's controls. Without any, `concurrent`: devices on the old release in the same windows, until
    their own order comes. `before`: the target's devices before the wave, where too few are left on the old release.
    `none`: nothing ran before."""
    control_reference: Reference | None
    drifted_sites: tuple[str, ...] = ()
    """Where the inputs changed on all releases, while they did not elsewhere (site_drift.py)."""


def gather(
    rollout: Rollout,
    assignments: Sequence[Assignment],
    slots: Iterable[Slot],
    reporting: Iterable[Reporting],
    bundles: Collection[KnownBundle],
) -> tuple[TargetEvidence, ...]:
    """Return one row for each target of the current wave whose new bundle has a known reference.

    Args:
        rollout: the rollout.
        assignments: all of this rollout.
        slots: of the whole fleet, of the cohorts of the current wave's arms and of the sites, from one horizon before
            the rollout was made.
        reporting: the devices with traffic on these bundles in that time.
        bundles: those of the model.
    """
    in_wave = [one for one in assignments if one.wave == rollout.wave]
    targets = {one.target for one in in_wave}
    known = {bundle.digest: bundle for bundle in bundles}
    shapes = {bundle.digest: shape_of_reference(bundle.reference) for bundle in bundles}
    fitting = [slot for slot in slots if shapes.get(slot.key.bundle) == slot.key.shape]
    seen = list(reporting)
    return tuple(
        _target_evidence(rollout, bundle, in_wave, known, fitting, seen)
        for bundle in rollout.bundles
        if bundle.target in targets and bundle.digest in known
    )


def _target_evidence(
    rollout: Rollout,
    release: ReleaseBundle,
    in_wave: Sequence[Assignment],
    known: Mapping[str, KnownBundle],
    slots: Sequence[Slot],
    reporting: Sequence[Reporting],
) -> TargetEvidence:
    arms = [one for one in in_wave if one.target == release.target]
    order_of = {one.device: one for one in arms if one.arm != "control"}
    first_order_s = min(one.dispatched_s for one in arms)
    since_s = rollout.created_s - rollout.policy.horizon_seconds
    wave = cohort_of(rollout.id, rollout.wave)
    treated = [slot for slot in slots if slot.key.cohort == wave and slot.key.bundle == release.digest]
    times = {_time(slot) for slot in treated}
    old = {one.digest for one in known.values() if one.target == release.target and one.digest != release.digest}
    elsewhere = [slot for slot in slots if slot.key.bundle in old]
    concurrent = _busiest(old, lambda digest: _without_cohort(elsewhere, digest, wave, times))
    before = _busiest(old, lambda digest: _ended(elsewhere, digest, since_s, first_order_s))
    drawn_cohort = control_cohort_of(rollout.id, rollout.wave)
    drawn = _busiest(old, lambda digest: _of_cohort(elsewhere, digest, drawn_cohort, times))
    treated_sum = sum_of(slot.totals for slot in treated)
    bundle, control, kind = _choose_control(drawn, concurrent, before, treated_sum)
    control_since_s = since_s if kind == "before" else min((start_s for start_s, _ in times), default=0)
    control_devices = {one.device for one in arms if one.arm == "control"} if kind == "drawn" else None
    new_reference = known[release.digest].reference
    old_reference = known[bundle].reference if bundle is not None else None
    sites = _by_site(slots, release.digest, bundle, times)
    return TargetEvidence(
        target=release.target,
        treated=_with_devices(
            treated_sum,
            (
                one.device
                for one in reporting
                if one.bundle == release.digest
                and one.device in order_of
                and one.ends_s > order_of[one.device].dispatched_s
            ),
        ),
        treated_reference=new_reference,
        control=_with_devices(
            control,
            (
                one.device
                for one in reporting
                if one.bundle == bundle
                and one.ends_s > control_since_s
                and (control_devices is None or one.device in control_devices)
            ),
        ),
        control_kind=kind,
        control_reference=old_reference,
        drifted_sites=drifted_sites(sites, new_reference, old_reference, rollout.policy.drift_gate),
    )


def _by_site(slots: Sequence[Slot], new: str, old: str | None, times: Collection[tuple[int, int]]) -> list[SiteTraffic]:
    """Return what each site did on both releases while the wave's devices ran the new one."""
    parts: dict[tuple[str, str], list[Totals]] = {}
    for slot in slots:
        key = slot.key
        if key.cohort.startswith(SITE) and key.bundle in {new, old} and _time(slot) in times:
            parts.setdefault((key.cohort.removeprefix(SITE), key.bundle), []).append(slot.totals)
    return [
        SiteTraffic(
            site=site, treated=sum_of(parts.get((site, new), [])), control=sum_of(parts.get((site, old or ""), []))
        )
        for site in sorted({site for site, _ in parts})
    ]


def _of_cohort(slots: Sequence[Slot], digest: str, cohort: str, times: Collection[tuple[int, int]]) -> Totals:
    return sum_of(
        slot.totals
        for slot in slots
        if slot.key.bundle == digest and slot.key.cohort == cohort and _time(slot) in times
    )


def _without_cohort(slots: Sequence[Slot], digest: str, wave: str, times: Collection[tuple[int, int]]) -> Totals:
    """Return the fleet's traffic on a bundle at these times, less that of the wave's devices after their orders."""
    found = [slot for slot in slots if slot.key.bundle == digest and _time(slot) in times]
    return difference(
        sum_of(slot.totals for slot in found if slot.key.cohort == FLEET),
        sum_of(slot.totals for slot in found if slot.key.cohort == wave),
    )


def _ended(slots: Sequence[Slot], digest: str, since_s: float, until_s: float) -> Totals:
    return sum_of(
        slot.totals
        for slot in slots
        if slot.key.bundle == digest
        and slot.key.cohort == FLEET
        and slot.key.start_s >= since_s
        and slot.key.start_s + slot.key.length_s <= until_s
    )


def _choose_control(
    drawn: tuple[str | None, Totals],
    concurrent: tuple[str | None, Totals],
    before: tuple[str | None, Totals],
    treated: Totals,
) -> tuple[str | None, Totals, ControlKind]:
    """Take the wave's controls, since a coin chose them; else the concurrent devices, unless they saw too little.

    That is less than a quarter of the treated traffic.
    """
    if drawn[1].rows:
        return *drawn, "drawn"
    if concurrent[1].rows and (concurrent[1].rows >= treated.rows / 4 or not before[1].rows):
        return *concurrent, "concurrent"
    return (*before, "before") if before[1].rows else (None, Totals(), "none")


def _busiest(digests: Iterable[str], traffic_of: Callable[[str], Totals]) -> tuple[str | None, Totals]:
    """Return the bundle with the most traffic: only histograms of one reference can be added."""
    found = [(digest, traffic_of(digest)) for digest in sorted(digests)]
    return max(found, key=lambda each: each[1].rows, default=(None, Totals()))


def _with_devices(totals: Totals, devices: Iterable[str]) -> Totals:
    return msgspec.structs.replace(totals, devices=len(set(devices))) if totals.windows else totals


def _time(slot: Slot) -> tuple[int, int]:
    return slot.key.start_s, slot.key.length_s
