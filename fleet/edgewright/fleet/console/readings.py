"""What the page is made of, read from the store in one go."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from edgewright.bundle.reference import Reference

from ..core.drift import DriftReport, ObservedWindow, Totals, drift_report, latest, total
from ..core.policy import DriftGate
from ..references import references_of
from ..service import Fleet, RolloutView
from ..store import audit_log, enrolment, releases, rollouts, telemetry
from ..trust.audit import AuditEntry

DRIFT_SPAN_S = 900.0
"""Traffic of this last stretch of time is compared with the references."""
SHOWN_ROLLOUTS = 5
SHOWN_AUDIT = 25


class Traffic(msgspec.Struct, frozen=True, kw_only=True):
    """Recent traffic of one bundle beside its reference."""

    model: str
    version: str
    target: str
    bundle: str
    live: Totals
    reference: Reference
    report: DriftReport


class Readings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that the page shows."""

    now_s: float
    tenant: str
    broker_connected: bool
    devices: tuple[enrolment.Device, ...]
    releases: tuple[releases.Release, ...]
    rollouts: tuple[RolloutView, ...]
    traffic: tuple[Traffic, ...]
    audit: tuple[AuditEntry, ...]


def read(fleet: Fleet, *, broker_connected: bool) -> Readings:
    """Read the store."""
    now_s = fleet.now()
    with fleet.database.read() as connection:
        shown = rollouts.every(connection, limit=SHOWN_ROLLOUTS)
        views = tuple(
            RolloutView(
                rollout=rollout,
                gates=rollouts.get(connection, rollout.id)[1],
                assignments=tuple(rollouts.assignments_of(connection, rollout.id)),
            )
            for rollout in shown
        )
        return Readings(
            now_s=now_s,
            tenant=fleet.tenant,
            broker_connected=broker_connected,
            devices=tuple(enrolment.every(connection)),
            releases=tuple(releases.every_release(connection)),
            rollouts=views,
            traffic=_traffic(
                releases.every_bundle(connection),
                references_of(connection),
                telemetry.windows_of(connection, since_s=now_s - DRIFT_SPAN_S),
            ),
            audit=tuple(audit_log.page(connection, limit=SHOWN_AUDIT)),
        )


def _traffic(
    bundles: list[releases.StoredBundle], references: Mapping[str, Reference], windows: list[ObservedWindow]
) -> tuple[Traffic, ...]:
    by_bundle: dict[str, list[ObservedWindow]] = {}
    for window in windows:
        by_bundle.setdefault(window.record.bundle, []).append(window)
    found = []
    for bundle in bundles:
        reference = references[bundle.digest]
        live = total(latest(by_bundle.get(bundle.digest, [])))
        if live.rows:
            found.append(
                Traffic(
                    model=bundle.model,
                    version=bundle.version,
                    target=bundle.target,
                    bundle=bundle.digest,
                    live=live,
                    reference=reference,
                    report=drift_report(reference, live, DriftGate()),
                )
            )
    return tuple(found)
