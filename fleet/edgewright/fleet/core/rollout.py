"""Rollouts: a transition table, and a tick that looks at rows and returns commands.

How the server uses this, every second or so and after each batch of telemetry, for each rollout that has not ended:

    evidence = gather(rollout, assignments, slots, reporting, bundles)
    commands = tick(Situation(rollout=rollout, now_s=now_s, devices=devices, assignments=assignments, …))
    # apply all of them in one transaction, or none if the stored revision is not rollout.revision

and when a person presses a button:

    commands = fire(rollout, "pause", now_s, assignments, actor="admin", reason="lunch")    # may raise RolloutConflict

A tick with the same rows gives the same commands. Once they are applied, ticks at the same time come to a standstill:
no device gets a second order, no decision is recorded twice.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from edgewright.targets.faults import UserFault

from .attribution import drift_gate
from .back import go_back, take_back_unheard
from .batch import batch, record
from .evidence import TargetEvidence
from .forward import go_on, has_wave_ended, wave_horizon_s
from .gates import GateStatus, abort_gates, failure_gate
from .outcomes import PENDING, outcome
from .policy_sections import Action
from .rows import ENDED, Alert, Assignment, Command, Number, Rollout
from .situation import Situation
from .storms import needs_a_person
from .transitions import OPERATOR_EVENTS, TRANSITIONS, Event

__all__ = ["OPERATOR_EVENTS", "TRANSITIONS", "Event", "RolloutConflict", "fire", "gate_status", "tick"]

EVENT_OF_ACTION: dict[Action, Event] = {"PAUSE": "pause", "CANCEL": "abort", "ROLLBACK": "rollback"}
SEVERITY: dict[Action, int] = {"PAUSE": 1, "CANCEL": 2, "ROLLBACK": 3}
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


class RolloutConflict(UserFault):
    """The event is not possible in the rollout's state; the message says which are."""


def tick(seen: Situation) -> tuple[Command, ...]:
    """Return what is to be done now. Empty when there is nothing to do, and for a rollout that has ended."""
    rollout, now_s, assignments = seen.rollout, seen.now_s, seen.assignments
    if rollout.state in ENDED:
        return ()
    if rollout.state == "rolling_back":
        return go_back(seen)
    gates = gate_status(rollout, now_s, assignments, seen.evidence)
    stop = _strongest(rollout, _passed_by_a_person(seen, gates))
    if stop is not None and stop.action is not None:
        return _move(
            rollout, EVENT_OF_ACTION[stop.action], now_s, assignments, actor="gate", reason=stop.reason, gate=stop
        )
    rollout, alerts = _alerts(rollout, gates)
    if rollout.state == "paused":
        return batch(rollout, alerts)
    return go_on(rollout, now_s, seen.devices, assignments, gates, alerts)


def fire(
    rollout: Rollout, event: Event, now_s: float, assignments: Sequence[Assignment], *, actor: str, reason: str
) -> tuple[Command, ...]:
    """Return the commands of an operator's event.

    Raises:
        RolloutConflict: the table has no such transition, or the event is not an operator's.
    """
    if event not in OPERATOR_EVENTS:
        raise RolloutConflict(f"{event!r} is not for operators; they have {', '.join(OPERATOR_EVENTS)}")
    return _move(rollout, event, now_s, assignments, actor=actor, reason=reason)


def gate_status(
    rollout: Rollout, now_s: float, assignments: Sequence[Assignment], evidence: Sequence[TargetEvidence]
) -> tuple[GateStatus, ...]:
    """Return what each gate says now, with its numbers, for the tick, the console and `rollout status`."""
    in_wave = [one for one in assignments if one.wave == rollout.wave]
    if not in_wave:
        return ()
    policy = rollout.policy
    wave_ended = has_wave_ended(rollout, now_s, in_wave)
    wave_over = wave_ended and now_s >= wave_horizon_s(rollout, in_wave)
    gates = list(abort_gates(rollout, now_s, assignments))
    if policy.failure_gate.enabled:
        gates.append(failure_gate(rollout, now_s, assignments, wave_ended=wave_ended))
    if policy.drift_gate.enabled:
        of_target = {one.target: one for one in evidence}
        gates += [
            drift_gate(target, of_target.get(target), policy.drift_gate, wave_over=wave_over)
            for target in sorted({one.target for one in in_wave if _runs_new(rollout, now_s, one)})
        ]
    return tuple(gates)


def _runs_new(rollout: Rollout, now_s: float, assignment: Assignment) -> bool:
    """Tell whether traffic on the new bundle can still be expected from this device."""
    return outcome(assignment, rollout.policy, now_s) in {*PENDING, "succeeded"}


def _passed_by_a_person(seen: Situation, gates: Sequence[GateStatus]) -> list[GateStatus]:
    """Turn a gate's rollback into a pause where the way back leads only to what was itself rolled back."""
    if not any(gate.action == "ROLLBACK" for gate in gates):
        return list(gates)
    why = needs_a_person(seen)
    if why is None:
        return list(gates)
    return [
        msgspec.structs.replace(gate, action="PAUSE", reason=f"{gate.reason}; {why}")
        if gate.action == "ROLLBACK"
        else gate
        for gate in gates
    ]


def _strongest(rollout: Rollout, gates: Sequence[GateStatus]) -> GateStatus | None:
    """Return the gate that stops the rollout. One that only pauses is passed by where an operator accepted the wave."""
    may_pause = rollout.state == "running" and rollout.accepted_wave != rollout.wave
    stopping = [gate for gate in gates if gate.action is not None and (gate.action != "PAUSE" or may_pause)]
    return max(stopping, key=lambda gate: SEVERITY[gate.action] if gate.action else 0, default=None)


def _move(
    rollout: Rollout,
    event: Event,
    now_s: float,
    assignments: Sequence[Assignment],
    *,
    actor: str,
    reason: str,
    gate: GateStatus | None = None,
) -> tuple[Command, ...]:
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
    )
    numbers: dict[str, Number] = {} if gate is None else {"gate": gate.gate, "target": gate.target, **gate.numbers}
    commands: list[Command] = [record(moved, now_s, ACTION_WORD[event], reason, actor, numbers)]
    if event == "abort":
        commands += take_back_unheard(rollout, now_s, assignments)
    return batch(moved, commands)


def _alerts(rollout: Rollout, gates: Sequence[GateStatus]) -> tuple[Rollout, list[Command]]:
    """Raise data drift once for each target."""
    alerts: list[Command] = []
    for gate in gates:
        key = f"data-drift/{rollout.id}/{gate.target}"
        if not gate.data_drift or gate.target is None or key in rollout.alerts:
            continue
        message = (
            f"{rollout.model} on {gate.target}: the inputs left the reference on all devices. "
            "The data changed; the release is not to blame and is not rolled back"
        )
        alerts.append(Alert(key=key, target=gate.target, message=message, numbers=gate.numbers))
        rollout = msgspec.structs.replace(rollout, alerts=(*rollout.alerts, key))
    return rollout, alerts
