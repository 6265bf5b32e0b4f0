"""Rollouts: a transition table, and a tick that looks at rows and returns commands.

How the server uses this, every second or so and after each batch of telemetry, for each rollout that has not ended:

    seen = Situation(rollout=rollout, now_s=now_s, devices=devices, assignments=assignments, …)
    commands, gates = look(seen)
    # apply all of them in one transaction, or none if the stored revision is not rollout.revision

and when a person presses a button:

    commands = fire(rollout, "pause", now_s, assignments, actor="admin", reason="lunch")    # may raise RolloutConflict

A tick with the same rows gives the same commands. Once they are applied, ticks at the same time come to a standstill:
no device gets a second order, no decision is recorded twice. Each tick does one kind of thing, in this order: stop,
halt boards, end by the clock, go on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from edgewright.targets.faults import UserFault

from .back import boards_go_back, go_back, take_back_unheard, with_halt
from .batch import batch, record
from .ending import end
from .forward import go_on
from .gates.status import GateStatus
from .gates.verdict import Verdict, decide
from .orders.timetable import Due, due, taken_back_at_end
from .orders.zone_alert import zone_alert
from .policy.sections import Action
from .rows import ENDED, Alert, Approval, Assignment, BoardHalt, Command, Number, Rollout, RolloutState, SaveMemory
from .situation import Situation
from .transitions import OPERATOR_EVENTS, TRANSITIONS, Event
from .turn import Turn
from .watch import Watched, watch

__all__ = [
    "OPERATOR_EVENTS",
    "TRANSITIONS",
    "Event",
    "Look",
    "RolloutConflict",
    "fire",
    "gate_status",
    "look",
    "supersede",
    "tick",
]

EVENT_OF_ACTION: dict[Action, Event] = {"PAUSE": "pause", "CANCEL": "abort", "ROLLBACK": "rollback"}
ACTION_WORD: dict[Event, str] = {
    "start": "started",
    "await_approval": "awaiting_approval",
    "approve": "approved",
    "follow": "following",
    "supersede": "superseded",
    "pause": "paused",
    "resume": "resumed",
    "abort": "aborted",
    "rollback": "rolling_back",
    "finish": "completed",
    "returned": "rolled_back",
}
GOES_ON: frozenset[RolloutState] = frozenset({"running", "following"})


class RolloutConflict(UserFault):
    """The event is not possible in the rollout's state; the message says which are."""


class Look(NamedTuple):
    """What a tick decides, and what the gates said, for people."""

    commands: tuple[Command, ...]
    gates: tuple[GateStatus, ...] = ()


def tick(seen: Situation) -> tuple[Command, ...]:
    """Return what is to be done now. Empty when there is nothing to do, and for a rollout that has ended."""
    return look(seen).commands


def look(seen: Situation) -> Look:
    """Return what is to be done now, and what each gate says."""
    if seen.rollout.state in ENDED:
        return Look(())
    if seen.rollout.state == "rolling_back":
        return Look(go_back(seen))
    turn = Turn(seen)
    watched = watch(turn)
    rollout, commands = _step(turn, watched)
    if watched.learnt:
        commands = [SaveMemory(memory=watched.memory, learnt=watched.learnt), *commands]
    return Look(batch(rollout, commands), watched.gates)


def gate_status(seen: Situation) -> tuple[GateStatus, ...]:
    """Return what each gate says now, with its numbers."""
    return watch(Turn(seen)).gates


def fire(
    rollout: Rollout, event: Event, now_s: float, assignments: Sequence[Assignment], *, actor: str, reason: str
) -> tuple[Command, ...]:
    """Return the commands of an operator's event.

    Raises:
        RolloutConflict: the table has no such transition, or the event is not an operator's.
    """
    if event not in OPERATOR_EVENTS:
        raise RolloutConflict(f"{event!r} is not for operators; they have {', '.join(OPERATOR_EVENTS)}")
    return batch(*_move(rollout, event, now_s, assignments, actor=actor, reason=reason))


def supersede(
    rollout: Rollout, now_s: float, assignments: Sequence[Assignment], *, by: Rollout, actor: str
) -> tuple[Command, ...]:
    """Return the commands that let another rollout take this one's place (orders/conflicts.py says when).

    Orders that no device has heard are taken back, so that nobody installs unwatched what is already out of date;
    devices that have the release keep it until the order of the new one comes.

    Raises:
        RolloutConflict: this rollout has ended or is rolling back.
    """
    reason = f"{by.model} {by.version} took its place (rollout {by.id})"
    return batch(*_move(rollout, "supersede", now_s, assignments, actor=actor, reason=reason))


def _step(turn: Turn, watched: Watched) -> tuple[Rollout, list[Command]]:
    rollout = turn.rollout
    verdict = decide(rollout, watched.gates)
    if verdict.whole is not None or verdict.boards:
        return _stop(turn, verdict)
    rollout, commands = _alerts(rollout, watched.gates)
    astray = zone_alert(rollout, turn.seen.devices)
    if astray is not None:
        rollout = msgspec.structs.replace(rollout, alerts=(*rollout.alerts, astray.key))
        commands.append(astray)
    if rollout.halted:
        after, returns = boards_go_back(turn.seen)
        rollout = msgspec.structs.replace(after, alerts=rollout.alerts)
        commands += returns
    asked = due(turn)
    if asked is not None:
        rollout, more = _by_the_clock(turn, rollout, asked)
        return rollout, [*commands, *more]
    if turn.seen.is_stopped or rollout.state not in GOES_ON:
        return rollout, commands
    rollout, more = go_on(turn, rollout, watched.gates)
    return rollout, [*commands, *more]


def _stop(turn: Turn, verdict: Verdict) -> tuple[Rollout, list[Command]]:
    """Halt boards, then the whole rollout, as the gates ask for."""
    rollout, commands = turn.rollout, list[Command]()
    for gate in verdict.boards:
        if gate.target is None or gate.action is None:
            continue
        halt = BoardHalt(target=gate.target, action=gate.action, reason=gate.reason, at_s=turn.now_s)
        rollout = with_halt(rollout, halt)
        numbers = {"gate": gate.gate, "target": gate.target, "action": gate.action, **gate.numbers}
        commands.append(record(rollout, turn.now_s, "board_halted", gate.reason, "gate", numbers))
    stop = verdict.whole
    if stop is None or stop.action is None:
        return rollout, commands
    event = EVENT_OF_ACTION[stop.action]
    rollout, moved = _move(
        rollout, event, turn.now_s, turn.seen.assignments, actor="gate", reason=stop.reason, gate=stop
    )
    return rollout, [*commands, *moved]


def _by_the_clock(turn: Turn, rollout: Rollout, asked: Due) -> tuple[Rollout, list[Command]]:
    when = rollout.policy.scheduling_config
    if asked == "wait":
        return rollout, taken_back_at_end(turn)
    if asked == "finish":
        return end(turn, rollout, {}, why=f"the end time {when.end_time} has come")
    text = (
        f"the start time {when.start_time} has come" if asked == "start" else f"the end time {when.end_time} has come"
    )
    if asked == "start" and when.start_time is None:
        text = "no start time is set"
    return _move(rollout, asked, turn.now_s, turn.seen.assignments, actor="fleet", reason=text)


def _move(
    rollout: Rollout,
    event: Event,
    now_s: float,
    assignments: Sequence[Assignment],
    *,
    actor: str,
    reason: str,
    gate: GateStatus | None = None,
) -> tuple[Rollout, list[Command]]:
    """Take one step in the table, with what it means for the devices."""
    state = TRANSITIONS.get((rollout.state, event))
    if state is None:
        possible = [name for (source, name) in TRANSITIONS if source == rollout.state and name in OPERATOR_EVENTS]
        raise RolloutConflict(
            f"rollout {rollout.id} is {rollout.state}: {event} is not possible; "
            + (f"possible now: {', '.join(possible)}" if possible else "it has ended, make a new rollout")
        )
    moved = msgspec.structs.replace(
        rollout,
        state=state,
        reason=reason,
        accepted_wave=rollout.wave if event == "resume" and rollout.paused_by_gate else rollout.accepted_wave,
        paused_by_gate=event == "pause" and gate is not None,
        returning_since_s=now_s if event == "rollback" else rollout.returning_since_s,
        is_return_approved=rollout.is_return_approved or (event == "rollback" and gate is None),
        finished_s=now_s if state in ENDED else None,
        halted=_kept_halts(rollout, event),
        approvals=(*rollout.approvals, *_approvals(rollout, event, now_s, actor)),
    )
    numbers: dict[str, Number] = {} if gate is None else {"gate": gate.gate, "target": gate.target, **gate.numbers}
    commands: list[Command] = [record(moved, now_s, ACTION_WORD[event], reason, actor, numbers)]
    if event in {"abort", "supersede"}:
        commands += take_back_unheard(rollout, now_s, assignments)
    return moved, commands


def _kept_halts(rollout: Rollout, event: Event) -> tuple[BoardHalt, ...]:
    """Let paused boards go on with a rollout that a person resumes; a gate that still finds them bad says so again."""
    return tuple(halt for halt in rollout.halted if event != "resume" or halt.action != "PAUSE")


def _approvals(rollout: Rollout, event: Event, now_s: float, actor: str) -> tuple[Approval, ...]:
    if event != "approve" or rollout.awaited_wave is None:
        return ()
    return (Approval(wave=rollout.awaited_wave, by=actor, at_s=now_s),)


def _alerts(rollout: Rollout, gates: Sequence[GateStatus]) -> tuple[Rollout, list[Command]]:
    """Raise data drift once for each target, and once for each site of it."""
    alerts: list[Command] = []
    for gate in gates:
        where = {gate.target: "on all devices"} if gate.data_drift else {}
        where |= {
            f"{gate.target}/{site}": f"at site {site}, on the new and the old release" for site in gate.drifted_sites
        }
        for place, text in where.items():
            key = f"data-drift/{rollout.id}/{place}"
            if gate.target is None or key in rollout.alerts:
                continue
            message = (
                f"{rollout.model} on {gate.target}: the inputs left the reference {text}. "
                "The data changed; the release is not to blame and is not rolled back"
            )
            alerts.append(Alert(key=key, target=gate.target, message=message, numbers=gate.numbers))
            rollout = msgspec.structs.replace(rollout, alerts=(*rollout.alerts, key))
    return rollout, alerts
