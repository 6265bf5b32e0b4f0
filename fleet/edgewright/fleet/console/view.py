"""The page as data: what each part shows, in words and numbers. Pure; the templates only lay it out."""

from __future__ import annotations

import json
from collections import Counter
from typing import Literal

import msgspec

from ..core.drift import FeatureDrift
from ..core.gates import GateStatus
from ..core.outcomes import FAILURES, outcome
from ..core.rollout import OPERATOR_EVENTS, TRANSITIONS
from ..core.rows import ENDED, Assignment, Number
from ..service import RolloutView
from ..store import enrolment
from ..trust.audit import AuditEntry
from .pictures import Picture, draw
from .readings import Readings, Traffic

ONLINE_S = 180.0
"""A device heard of within this time is online."""
MOST_DOTS = 120
MOST_FEATURES = 8
MOST_DEVICES = 200

Tone = Literal["good", "busy", "warn", "bad", "calm"]

STATE_TONE: dict[str, Tone] = {
    "running": "busy",
    "paused": "warn",
    "rolling_back": "bad",
    "rolled_back": "bad",
    "completed": "good",
    "aborted": "calm",
}
OUTCOME_TONE: dict[str, Tone] = {
    "queued": "calm",
    "in_progress": "busy",
    "succeeded": "good",
    "failed": "bad",
    "rejected": "bad",
    "timed_out": "bad",
    "going back": "warn",
    "back": "calm",
}
GATE_TONE: dict[str, Tone] = {"pass": "good", "wait": "busy", "inconclusive": "warn", "fail": "bad"}
VERDICT_TONE: dict[str, Tone] = {"stable": "good", "drifted": "bad", "inconclusive": "calm"}
GATE_NAME = {"failure": "Failures", "drift": "Drift", "abort_config": "Threshold"}


class Chip(msgspec.Struct, frozen=True, kw_only=True):
    """A word with a colour."""

    text: str
    tone: Tone


class Tile(msgspec.Struct, frozen=True, kw_only=True):
    """One figure at the top."""

    label: str
    value: str
    note: str
    tone: Tone = "calm"


class Dot(msgspec.Struct, frozen=True, kw_only=True):
    """One device in a wave."""

    title: str
    tone: Tone


class Wave(msgspec.Struct, frozen=True, kw_only=True):
    """One wave on the time line."""

    number: int
    plan: str
    state: Literal["past", "now", "stopped", "ahead"]
    summary: str
    dots: tuple[Dot, ...] = ()
    hidden: int = 0


class GateCard(msgspec.Struct, frozen=True, kw_only=True):
    """What one gate says."""

    name: str
    chip: Chip
    reason: str
    facts: tuple[tuple[str, str], ...]


class RolloutCard(msgspec.Struct, frozen=True, kw_only=True):
    """One rollout."""

    id: str
    title: str
    chip: Chip
    reason: str
    created_s: float
    finished_s: float | None
    waves: tuple[Wave, ...]
    gates: tuple[GateCard, ...]
    events: tuple[str, ...]
    """Buttons: what an operator may do now."""


class FeatureCard(msgspec.Struct, frozen=True, kw_only=True):
    """One feature: its picture and its verdict."""

    name: str
    role: str
    chip: Chip
    facts: str
    picture: Picture


class DriftCard(msgspec.Struct, frozen=True, kw_only=True):
    """One bundle's recent traffic."""

    title: str
    target: str
    chip: Chip
    message: str
    accuracy: str
    features: tuple[FeatureCard, ...]
    hidden: int


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
            _rollout(view, readings.now_s, is_newest=place == 0) for place, view in enumerate(readings.rollouts)
        ),
        drift=tuple(_drift(traffic) for traffic in readings.traffic),
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
    return (
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


def _rollout(view: RolloutView, now_s: float, *, is_newest: bool) -> RolloutCard:
    rollout = view.rollout
    at_s = rollout.finished_s if rollout.finished_s is not None else now_s
    return RolloutCard(
        id=rollout.id,
        title=f"{rollout.model} {rollout.version}",
        chip=Chip(text=_words(rollout.state), tone=STATE_TONE[rollout.state]),
        reason=rollout.reason or "waiting for a device of the release's targets to be online",
        created_s=rollout.created_s,
        finished_s=rollout.finished_s,
        waves=tuple(_wave(view, number, at_s) for number in range(len(rollout.policy.waves))),
        gates=tuple(_gate(gate) for gate in view.gates) if is_newest or rollout.state not in ENDED else (),
        events=tuple(event for event in OPERATOR_EVENTS if (rollout.state, event) in TRANSITIONS),
    )


def _wave(view: RolloutView, number: int, at_s: float) -> Wave:
    rollout = view.rollout
    orders = [one for one in view.assignments if one.wave == number]
    states = Counter(_order_state(one, view, at_s) for one in orders)
    plan = rollout.policy.waves[number]
    return Wave(
        number=number + 1,
        plan=_plan(plan),
        state=_wave_state(view, number),
        summary=", ".join(f"{count} {_words(state)}" for state, count in states.items()) or "not started",
        dots=tuple(_dot(one, view, at_s) for one in orders[:MOST_DOTS]),
        hidden=max(0, len(orders) - MOST_DOTS),
    )


def _wave_state(view: RolloutView, number: int) -> Literal["past", "now", "stopped", "ahead"]:
    rollout = view.rollout
    if number > rollout.wave:
        return "ahead"
    if number < rollout.wave or rollout.state == "completed":
        return "past"
    return "now" if rollout.state == "running" else "stopped"


def _plan(wave: int | str) -> str:
    if isinstance(wave, int):
        return f"{wave} device{'' if wave == 1 else 's'}"
    return "all the others" if wave == "rest" else f"{wave} of the fleet"


def _order_state(order: Assignment, view: RolloutView, at_s: float) -> str:
    if order.rollback_command is not None and view.rollout.state in {"rolling_back", "rolled_back", "aborted"}:
        return "back" if order.rollback_phase == "confirmed" or view.rollout.state == "rolled_back" else "going back"
    return outcome(order, view.rollout.policy, at_s)


def _dot(order: Assignment, view: RolloutView, at_s: float) -> Dot:
    state = _order_state(order, view, at_s)
    first = outcome(order, view.rollout.policy, at_s)
    why = f": {order.phase_reason}" if order.phase_reason else ""
    came = f" (was {_words(first)})" if state != first else ""
    tone = OUTCOME_TONE["failed"] if first in FAILURES else OUTCOME_TONE[state]
    return Dot(title=f"{order.device}, {order.target}: {_words(state)}{came}{why}", tone=tone)


def _gate(gate: GateStatus) -> GateCard:
    name = GATE_NAME[gate.gate] + (f" on {gate.target}" if gate.target else "")
    return GateCard(
        name=name,
        chip=Chip(text=gate.outcome, tone=GATE_TONE[gate.outcome]),
        reason=gate.reason.removeprefix(f"{gate.target}: "),
        facts=_facts(gate),
    )


def _drift(traffic: Traffic) -> DriftCard:
    report = traffic.report
    order = {"drifted": 0, "inconclusive": 1, "stable": 2}
    places = {(one.role, one.name): place for place, one in enumerate(traffic.reference.histograms)}
    ranked = sorted(report.features, key=lambda one: (order[one.verdict], one.role == "input", -one.psi))
    shown = ranked[:MOST_FEATURES]
    return DriftCard(
        title=f"{traffic.model} {traffic.version}",
        target=traffic.target,
        chip=Chip(text=report.verdict, tone=VERDICT_TONE[report.verdict]),
        message=report.message,
        accuracy=_accuracy(traffic),
        features=tuple(_feature(one, traffic, places[one.role, one.name]) for one in shown),
        hidden=len(ranked) - len(shown),
    )


def _accuracy(traffic: Traffic) -> str:
    report = traffic.report
    if report.estimated_accuracy is None or report.reference_accuracy is None:
        return ""
    return (
        f"{100 * report.estimated_accuracy:.1f} % estimated from confidence "
        f"({100 * report.reference_accuracy:.1f} % on calibration data)"
    )


def _feature(feature: FeatureDrift, traffic: Traffic, place: int) -> FeatureCard:
    ks = "" if feature.ks is None else f", KS {feature.ks:.2f}"
    return FeatureCard(
        name=feature.name,
        role=feature.role,
        chip=Chip(text=feature.verdict, tone=VERDICT_TONE[feature.verdict]),
        facts=f"PSI {feature.psi:.2f}{ks}",
        picture=draw(traffic.reference.histograms[place], traffic.live.histograms[place]),
    )


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


def _words(text: str) -> str:
    return text.replace("_", " ")


def _facts(gate: GateStatus) -> tuple[tuple[str, str], ...]:
    """Return the few numbers that decide; `edgewright fleet rollout status` and the audit log have all of them."""
    numbers = gate.numbers
    if gate.gate == "failure":
        return (
            ("failed", f"{_number(numbers['failures'])} of {_number(numbers['dispatched'])}"),
            ("not finished", _number(numbers["pending"])),
            ("E-value", f"{_number(numbers['e_value'])}, stops at {_number(numbers['e_threshold'])}"),
        )
    if gate.gate == "abort_config":
        limit = f"{_number(numbers['percentage'])} %, stops above {_number(numbers['threshold_percentage'])} %"
        return (("failed", limit),)
    beside = f"{_number(numbers['samples'])} beside {_number(numbers.get('control_samples', 0))}"
    facts = [("samples, new beside old", beside)]
    if gate.features:
        worst = max((one for one in gate.features), key=lambda one: (one.role == "output", one.psi))
        facts.append((f"PSI of {worst.name}", f"{worst.psi:.2f}, limit {_number(numbers['max_psi'])}"))
    if "estimated_accuracy" in numbers:
        old = numbers.get("control_estimated_accuracy")
        before = "" if old is None else f", was {_percent(old)}"
        facts.append(("estimated accuracy", _percent(numbers["estimated_accuracy"]) + before))
    return tuple(facts)


def _percent(share: Number) -> str:
    return f"{100 * float(share):.1f} %" if isinstance(share, int | float) else str(share)


def _number(value: Number) -> str:
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return str(value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)
