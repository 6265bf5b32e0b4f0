"""What the page is made of, read from the store in one go."""

from __future__ import annotations

import msgspec
from sqlalchemy import Connection

from edgewright.bundle.reference import Reference

from ..core.drift.alert_rules import AlertRule
from ..core.drift.report import DriftReport, Totals, drift_report
from ..core.experiment import Experiment, Memory
from ..core.policy.sections import DriftGate
from ..core.rows import Rollout
from ..service import Fleet
from ..store import alerts, audit_log, enrolment, experiments, floors, order_pages, releases, rollouts
from ..traffic import traffic_of
from ..trust.audit import AuditEntry
from ..views import RolloutView, rollout_view
from .rollout_cards import MOST_DOTS

DRIFT_SPAN_S = 900.0
"""Traffic of this last stretch of time is compared with the references."""
SHOWN_ROLLOUTS = 5
SHOWN_AUDIT = 25
SHOWN_ALERTS = 50
SHOWN_EXPERIMENTS = 3


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
    stop: floors.Stop | None = None
    rules: tuple[AlertRule, ...] = ()
    alerts: tuple[alerts.Alert, ...] = ()
    """Those that are up."""
    experiments: tuple[tuple[Experiment, Memory], ...] = ()


def read(fleet: Fleet, *, broker_connected: bool) -> Readings:
    """Read the store."""
    now_s = fleet.now()
    with fleet.database.read() as connection:
        shown = rollouts.every(connection, limit=SHOWN_ROLLOUTS)
        views = tuple(_view(connection, rollout) for rollout in shown)
        return Readings(
            now_s=now_s,
            tenant=fleet.tenant,
            broker_connected=broker_connected,
            devices=tuple(enrolment.every(connection)),
            releases=tuple(releases.every_release(connection)),
            rollouts=views,
            traffic=_traffic(connection, now_s=now_s),
            audit=tuple(audit_log.page(connection, limit=SHOWN_AUDIT)),
            stop=floors.stop_of(connection),
            rules=tuple(stored.rule for stored in alerts.every_rule(connection)),
            alerts=tuple(alerts.every_alert(connection, limit=SHOWN_ALERTS, open_only=True)),
            experiments=tuple(experiments.every(connection)[:SHOWN_EXPERIMENTS]),
        )


def _view(connection: Connection, rollout: Rollout) -> RolloutView:
    """Return a rollout with the first orders of each wave, as many as are drawn."""
    view = rollout_view(connection, rollout, rollouts.get(connection, rollout.id)[1])
    epochs = releases.epochs(connection)
    drawn = [
        order_pages.page(connection, rollout.id, epochs, limit=MOST_DOTS, of=order_pages.Wanted(wave=wave))
        for wave in sorted({each.wave for each in view.counts})
    ]
    return msgspec.structs.replace(view, assignments=tuple(one for wave in drawn for one in wave))


def _traffic(connection: Connection, *, now_s: float) -> tuple[Traffic, ...]:
    return tuple(
        Traffic(
            model=each.bundle.model,
            version=each.bundle.version,
            target=each.bundle.target,
            bundle=each.bundle.digest,
            live=each.live,
            reference=each.reference,
            report=drift_report(each.reference, each.live, DriftGate()),
        )
        for each in traffic_of(connection, now_s=now_s, span_s=DRIFT_SPAN_S)
        if each.live.rows
    )
