"""Rollouts as data for the page: waves with a dot for each device, gates with their numbers. Pure."""

from __future__ import annotations

from collections import Counter
from typing import Literal

import msgspec

from ..core.gates import GateStatus
from ..core.outcomes import FAILURES, outcome
from ..core.policy import wave_of
from ..core.rollout import OPERATOR_EVENTS, TRANSITIONS
from ..core.rows import ENDED, Assignment, Number
from ..service import RolloutView
from .chip import Chip, Tone

MOST_DOTS = 120
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
GATE_NAME = {"failure": "Failures", "drift": "Drift", "abort_config": "Threshold"}


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


def rollout_card(view: RolloutView, now_s: float, *, is_newest: bool) -> RolloutCard:
    rollout = view.rollout
    at_s = rollout.finished_s if rollout.finished_s is not None else now_s
    return RolloutCard(
        id=rollout.id,
        title=f"{rollout.model} {rollout.version}",
        chip=Chip(text=words(rollout.state), tone=STATE_TONE[rollout.state]),
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
    plan = wave_of(rollout.policy, number).add
    return Wave(
        number=number + 1,
        plan=_plan(plan),
        state=_wave_state(view, number),
        summary=", ".join(f"{count} {words(state)}" for state, count in states.items()) or "not started",
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
    came = f" (was {words(first)})" if state != first else ""
    tone = OUTCOME_TONE["failed"] if first in FAILURES else OUTCOME_TONE[state]
    return Dot(title=f"{order.device}, {order.target}: {words(state)}{came}{why}", tone=tone)


def _gate(gate: GateStatus) -> GateCard:
    name = GATE_NAME[gate.gate] + (f" on {gate.target}" if gate.target else "")
    return GateCard(
        name=name,
        chip=Chip(text=gate.outcome, tone=GATE_TONE[gate.outcome]),
        reason=gate.reason.removeprefix(f"{gate.target}: "),
        facts=_facts(gate),
    )


def words(text: str) -> str:
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
        limit = f"{_number(numbers['percentage'])} %, stops at {_number(numbers['threshold_percentage'])} %"
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
