"""Rollouts as data for the page: waves with a dot for each device, boards with their arms and blocks. Pure."""

from __future__ import annotations

from collections import Counter
from typing import Literal

import msgspec

from ..core.gates.status import GateStatus
from ..core.outcomes import FAILURES, outcome
from ..core.policy.policy import wave_of
from ..core.policy.sections import Wave as PlannedWave
from ..core.rollout import OPERATOR_EVENTS, TRANSITIONS
from ..core.rows import ENDED, Assignment, BoardHalt, Rollout
from ..store.order_pages import BlockCount
from ..views import RolloutView
from .chip import Chip, Tone
from .gate_cards import GateCard, gate_card

MOST_DOTS = 120
MOST_GATES = 9
WAVE_IS_DONE = frozenset({"completed", "following", "awaiting_approval"})
"""States in which the wave that came last has passed."""
STATE_TONE: dict[str, Tone] = {
    "running": "busy",
    "paused": "warn",
    "rolling_back": "bad",
    "rolled_back": "bad",
    "completed": "good",
    "aborted": "calm",
    "scheduled": "calm",
    "awaiting_approval": "warn",
    "following": "good",
    "superseded": "calm",
}
OUTCOME_TONE: dict[str, Tone] = {
    "queued": "calm",
    "in_progress": "busy",
    "succeeded": "good",
    "failed": "bad",
    "rejected": "bad",
    "timed_out": "bad",
    "control": "control",
    "recalled": "faint",
    "going back": "warn",
    "back": "bad",
}


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


class BoardRow(msgspec.Struct, frozen=True, kw_only=True):
    """One board of a rollout: its arms, its blocks, and whether it was stopped."""

    name: str
    chip: Chip
    treated: int
    control: int
    graduated: int
    blocks: str
    reason: str
    may_roll_back: bool


class RolloutCard(msgspec.Struct, frozen=True, kw_only=True):
    """One rollout."""

    id: str
    title: str
    chip: Chip
    reason: str
    created_s: float
    finished_s: float | None
    waves: tuple[Wave, ...]
    boards: tuple[BoardRow, ...]
    gates: tuple[GateCard, ...]
    """Those that stopped something first."""
    more_gates: tuple[GateCard, ...]
    """The others, for which a chip is enough."""
    events: tuple[str, ...]
    """Buttons: what an operator may do now."""


def rollout_card(view: RolloutView, now_s: float, *, is_newest: bool) -> RolloutCard:
    rollout = view.rollout
    is_watched = is_newest or rollout.state not in ENDED
    gates = [gate_card(gate) for gate in sorted(view.gates, key=_urgency)] if is_watched else []
    at_s = rollout.finished_s if rollout.finished_s is not None else now_s
    return RolloutCard(
        id=rollout.id,
        title=f"{rollout.model} {rollout.version}",
        chip=Chip(text=words(rollout.state), tone=STATE_TONE[rollout.state]),
        reason=rollout.reason or "waiting for a device of the release's targets to be online",
        created_s=rollout.created_s,
        finished_s=rollout.finished_s,
        waves=_waves(view, at_s),
        boards=_boards(view),
        gates=tuple(gates[:MOST_GATES]),
        more_gates=tuple(gates[MOST_GATES:]),
        events=tuple(event for event in OPERATOR_EVENTS if (rollout.state, event) in TRANSITIONS),
    )


def _urgency(gate: GateStatus) -> int:
    """What stopped something comes first, what nobody can tell yet next; the gates' own order stays otherwise."""
    return {"fail": 0, "inconclusive": 1}.get(gate.outcome, 2)


def _waves(view: RolloutView, at_s: float) -> tuple[Wave, ...]:
    """Return the waves of the policy, and the controls' own at the end where there are any."""
    planned = len(view.rollout.policy.waves)
    has_controls = any(one.arm != "treated" for one in view.counts)
    return tuple(_wave(view, number, at_s) for number in range(planned + has_controls))


def _boards(view: RolloutView) -> tuple[BoardRow, ...]:
    """Return what each board had of the draw. A rollout of one board without controls has nothing to tell here."""
    rollout = view.rollout
    arms: Counter[tuple[str, str]] = Counter()
    for one in view.counts:
        arms[one.target, one.arm] += one.orders
    if len(rollout.bundles) < 2 and not any(arm != "treated" for _, arm in arms) and not rollout.halted:
        return ()
    halt_of = {halt.target: halt for halt in rollout.halted}
    may_halt = rollout.state not in {*ENDED, "rolling_back"} and len(rollout.bundles) > 1
    rows = []
    for target in sorted(bundle.target for bundle in rollout.bundles):
        halt = halt_of.get(target)
        blocks = view.blocks.get(target, BlockCount(drawn=0, observed=0))
        rows.append(
            BoardRow(
                name=target,
                chip=_unhalted(rollout) if halt is None else _halted(halt),
                treated=arms[target, "treated"],
                control=arms[target, "control"],
                graduated=arms[target, "graduated"],
                blocks=f"{blocks.observed} of {blocks.drawn}",
                reason="" if halt is None else halt.reason.removeprefix(f"{target}: "),
                may_roll_back=may_halt and (halt is None or halt.action != "ROLLBACK"),
            )
        )
    return tuple(rows)


def _unhalted(rollout: Rollout) -> Chip:
    """Say of a board that was not stopped what the whole rollout does."""
    if rollout.state in {*ENDED, "rolling_back"}:
        return Chip(text=words(rollout.state), tone=STATE_TONE[rollout.state])
    return Chip(text="goes on", tone="good")


def _halted(halt: BoardHalt) -> Chip:
    text = {"PAUSE": "halted", "CANCEL": "cancelled", "ROLLBACK": "going back"}[halt.action]
    if halt.returned_s is not None:
        return Chip(text="back", tone="calm")
    return Chip(text=text, tone="bad" if halt.action == "ROLLBACK" else "warn")


def _wave(view: RolloutView, number: int, at_s: float) -> Wave:
    rollout = view.rollout
    orders = [one for one in view.assignments if one.wave == number][:MOST_DOTS]
    states: Counter[str] = Counter()
    for each in view.counts:
        if each.wave == number:
            states[each.state] += each.orders
    is_last = number >= len(rollout.policy.waves)
    return Wave(
        number=number + 1,
        plan="the controls" if is_last else _planned(wave_of(rollout.policy, number)),
        state=_wave_state(view, number),
        summary=", ".join(_counted(state, count) for state, count in states.items()) or "not started",
        dots=tuple(_dot(one, view, at_s) for one in orders),
        hidden=states.total() - len(orders),
    )


def _counted(state: str, count: int) -> str:
    if state == "control":
        return f"{count} control{'' if count == 1 else 's'}"
    return f"{count} {words(state)}"


def _wave_state(view: RolloutView, number: int) -> Literal["past", "now", "stopped", "ahead"]:
    rollout = view.rollout
    if number > rollout.wave:
        return "ahead"
    if number < rollout.wave or rollout.state in WAVE_IS_DONE:
        return "past"
    return "now" if rollout.state == "running" else "stopped"


def _planned(wave: PlannedWave) -> str:
    among = [*wave.boards, *wave.sites, *([wave.where] if wave.where else [])]
    text = _plan(wave.add) + (f" ({', '.join(among)})" if among else "")
    return text + (", with approval" if wave.require_approval else "")


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
    if order.arm == "control":
        return Dot(title=f"{order.device}, {order.target}: waits as a control in block {order.block}", tone=tone)
    return Dot(title=f"{order.device}, {order.target}: {words(state)}{came}{why}", tone=tone)


def words(text: str) -> str:
    return text.replace("_", " ")
