"""The page as data: what each part shows, in words and numbers. Pure; the templates only lay it out."""

from __future__ import annotations

import json
from collections import Counter

import msgspec

from ..core.rows import ENDED
from ..store import enrolment
from ..trust.audit import AuditEntry
from .alert_cards import AlertCard, alert_card
from .chip import Chip, Tone
from .drift_cards import DriftCard, drift_card
from .experiment_cards import ExperimentCard, experiment_card
from .readings import Readings
from .rollout_cards import RolloutCard, rollout_card

ONLINE_S = 180.0
"""A device heard of within this time is online."""
MOST_DEVICES = 200


class Tile(msgspec.Struct, frozen=True, kw_only=True):
    """One figure at the top."""

    label: str
    value: str
    note: str
    tone: Tone = "calm"


class DeviceRow(msgspec.Struct, frozen=True, kw_only=True):
    """One device."""

    name: str
    target: str
    emulated: bool
    chip: Chip
    models: tuple[str, ...]
    last_seen_s: float | None
    backlog: int


class ReleaseRow(msgspec.Struct, frozen=True, kw_only=True):
    """One release."""

    title: str
    created_s: float
    targets: tuple[str, ...]
    devices: int


class AuditRow(msgspec.Struct, frozen=True, kw_only=True):
    """One audit entry."""

    seq: int
    at_s: float
    actor: str
    action: str
    subject: str
    text: str


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """The whole page."""

    tenant: str
    tiles: tuple[Tile, ...]
    rollouts: tuple[RolloutCard, ...]
    alerts: tuple[AlertCard, ...]
    rules: tuple[str, ...]
    """Names of the alert rules."""
    experiments: tuple[ExperimentCard, ...]
    drift: tuple[DriftCard, ...]
    devices: tuple[DeviceRow, ...]
    hidden_devices: int
    releases: tuple[ReleaseRow, ...]
    audit: tuple[AuditRow, ...]


def build_page(readings: Readings) -> Page:
    """Return the page for these readings."""
    shown = readings.devices[:MOST_DEVICES]
    return Page(
        tenant=readings.tenant,
        tiles=_tiles(readings),
        rollouts=tuple(
            rollout_card(view, readings.now_s, is_newest=place == 0) for place, view in enumerate(readings.rollouts)
        ),
        alerts=tuple(alert_card(alert, {rule.name: rule for rule in readings.rules}) for alert in readings.alerts),
        rules=tuple(rule.name for rule in readings.rules),
        experiments=tuple(experiment_card(*each) for each in readings.experiments),
        drift=tuple(drift_card(traffic) for traffic in readings.traffic),
        devices=tuple(_device(device, readings.now_s) for device in shown),
        hidden_devices=len(readings.devices) - len(shown),
        releases=_releases(readings),
        audit=tuple(_audit(entry) for entry in readings.audit),
    )


def _tiles(readings: Readings) -> tuple[Tile, ...]:
    online = sum(_is_online(device, readings.now_s) for device in readings.devices)
    every = len(readings.devices)
    active = [view for view in readings.rollouts if view.rollout.state not in ENDED]
    drifted = [one for one in readings.traffic if one.report.verdict == "drifted"]
    requests = sum(one.live.requests for one in readings.traffic)
    failures = sum(one.live.failures for one in readings.traffic)
    stop = readings.stop
    standing = () if stop is None else (Tile(label="Emergency stop", value="STOPPED", note=stop.reason, tone="bad"),)
    return (
        *standing,
        *_alerts_up(readings),
        Tile(
            label="Devices online",
            value=f"{online} / {every}",
            note=f"{sum(device.spool_backlog or 0 for device in readings.devices)} records waiting on devices",
            tone="good" if every and online == every else "warn" if every else "calm",
        ),
        Tile(
            label="Rollouts under way",
            value=str(len(active)),
            note=", ".join(f"{view.rollout.model} {view.rollout.version}" for view in active) or "none",
            tone="busy" if active else "calm",
        ),
        Tile(
            label="Bundles that drift",
            value=str(len(drifted)),
            note=", ".join(f"{one.model} {one.version} on {one.target}" for one in drifted[:2])
            or ("no bundle drifts" if readings.traffic else "no traffic to compare"),
            tone="bad" if drifted else "good" if readings.traffic else "calm",
        ),
        Tile(
            label="Requests, 15 min",
            value=f"{requests:,}".replace(",", " "),
            note=f"{failures} failed",
            tone="warn" if failures else "calm",
        ),
        Tile(
            label="Broker",
            value="connected" if readings.broker_connected else "away",
            note="telemetry arrives" if readings.broker_connected else "devices keep their records until it is back",
            tone="good" if readings.broker_connected else "bad",
        ),
    )


def _alerts_up(readings: Readings) -> tuple[Tile, ...]:
    if not readings.alerts:
        return ()
    names = ", ".join(dict.fromkeys(alert.rule for alert in readings.alerts))
    return (Tile(label="Alerts up", value=str(len(readings.alerts)), note=names, tone="bad"),)


def _is_online(device: enrolment.Device, now_s: float) -> bool:
    return device.last_seen_s is not None and now_s - device.last_seen_s <= ONLINE_S


def _device(device: enrolment.Device, now_s: float) -> DeviceRow:
    return DeviceRow(
        name=device.device,
        target=device.target,
        emulated=device.emulated,
        chip=_device_chip(device, now_s),
        models=tuple(f"{model.model} {model.version}" for model in device.models),
        last_seen_s=device.last_seen_s,
        backlog=device.spool_backlog or 0,
    )


def _device_chip(device: enrolment.Device, now_s: float) -> Chip:
    if device.last_seen_s is None:
        return Chip(text="never seen", tone="calm")
    if not _is_online(device, now_s):
        return Chip(text="offline", tone="warn")
    busy = [model.phase for model in device.models if model.phase != "idle"]
    if busy:
        return Chip(text=busy[0], tone="busy")
    if device.server_running is False:
        return Chip(text="server down", tone="bad")
    return Chip(text="online", tone="good")


def _releases(readings: Readings) -> tuple[ReleaseRow, ...]:
    running = Counter((model.model, model.bundle) for device in readings.devices for model in device.models)
    return tuple(
        ReleaseRow(
            title=f"{release.model} {release.version}",
            created_s=release.created_s,
            targets=tuple(release.bundles),
            devices=sum(running[release.model, digest] for digest in release.bundles.values()),
        )
        for release in readings.releases
    )


def _audit(entry: AuditEntry) -> AuditRow:
    text = entry.detail.get("reason") or entry.detail.get("message")
    if not isinstance(text, str):
        text = ", ".join(f"{key} {_short(value)}" for key, value in entry.detail.items() if value not in (None, "", {}))
    return AuditRow(
        seq=entry.seq, at_s=entry.at_s, actor=entry.actor, action=entry.action, subject=entry.subject, text=text[:300]
    )


def _short(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return text if len(text) <= 60 else text[:57] + "..."
