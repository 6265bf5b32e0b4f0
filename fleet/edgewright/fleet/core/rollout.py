"""Rollouts: a transition table, and a tick that looks at rows and returns commands.

How the server uses this, every second or so and after each batch of telemetry, for each rollout that has not ended:

    evidence = gather(rollout, devices, assignments, windows, references)
    commands = tick(rollout, now_s, devices, assignments, evidence)
    # apply all of them in one transaction, or none if the stored revision is not rollout.revision

and when a person presses a button:

    commands = fire(rollout, "pause", now_s, assignments, actor="admin", reason="lunch")    # may raise RolloutConflict

A tick with the same rows gives the same commands. Once they are applied, ticks at the same time come to a standstill:
no device gets a second order, no decision is recorded twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

import msgspec

from edgewright.targets.faults import UserFault

from .attribution import drift_gate
from .evidence import TargetEvidence
from .gates import GateStatus, abort_gates, failure_gate
from .outcomes import ENDING_PHASES, PENDING, has_returned, outcome
from .policy import Action
from .rows import (
    ENDED,
    Alert,
    Assign,
    Assignment,
    Command,
    Decision,
    Device,
    Number,
    Record,
    RollBack,
    Rollout,
    RolloutState,
    SaveRollout,
    Withdraw,
)
from .waves import eligible, is_offline, size_of_wave

Event = Literal["pause", "resume", "abort", "rollback", "finish", "returned"]
OPERATOR_EVENTS: tuple[Event, ...] = ("pause", "resume", "abort", "rollback")

TRANSITIONS: dict[tuple[RolloutState, Event], RolloutState] = {
    ("running", "pause"): "paused",
    ("running", "abort"): "aborted",
    ("running", "rollback"): "rolling_back",
    ("running", "finish"): "completed",
    ("paused", "resume"): "running",
    ("paused", "abort"): "aborted",
    ("paused", "rollback"): "rolling_back",
    ("rolling_back", "returned"): "rolled_back",
    ("completed", "rollback"): "rolling_back",
    ("aborted", "rollback"): "rolling_back",
}

EVENT_OF_ACTION: dict[Action, Event] = {"PAUSE": "pause", "CANCEL": "abort", "ROLLBACK": "rollback"}
SEVERITY: dict[Action, int] = {"PAUSE": 1, "CANCEL": 2, "ROLLBACK": 3}
ACTION_WORD: dict[Event, str] = {
    "pause": "paused",
    "resume": "resumed",
    "abort": "aborted",
    "rollback": "rolling_back",
    "finish": "completed",
    "returned": "rolled_back",
}


class RolloutConflict(UserFault):
    """The event is not possible in the rollout's state; the message says which are."""


def tick(
    rollout: Rollout,
    now_s: float,
    devices: Sequence[Device],
    assignments: Sequence[Assignment],
    evidence: Sequence[TargetEvidence],
) -> tuple[Command, ...]:
    """Return what is to be done now. Empty when there is nothing to do, and for a rollout that has ended."""
    if rollout.state in ENDED:
        return ()
    if rollout.state == "rolling_back":
        return _tick_back(rollout, now_s, devices, assignments)
    gates = gate_status(rollout, now_s, assignments, evidence)
    stop = _strongest(rollout, gates)
    if stop is not None and stop.action is not None:
        return _move(
            rollout, EVENT_OF_ACTION[stop.action], now_s, assignments, actor="gate", reason=stop.reason, gate=stop
        )
    rollout, alerts = _alerts(rollout, gates)
    if rollout.state == "paused":
        return _batch(rollout, alerts)
    return _tick_forward(rollout, now_s, devices, assignments, gates, alerts)


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
    wave_ended = _wave_ended(rollout, now_s, in_wave)
    wave_over = wave_ended and now_s >= _horizon_s(rollout, in_wave)
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


def _wave_ended(rollout: Rollout, now_s: float, in_wave: Sequence[Assignment]) -> bool:
    """Tell whether all results of the wave are in. Devices that left before their order came are not waited for."""
    complete = len(in_wave) >= rollout.wave_size or now_s >= _horizon_s(rollout, in_wave)
    return complete and all(outcome(one, rollout.policy, now_s) not in PENDING for one in in_wave)


def _horizon_s(rollout: Rollout, in_wave: Sequence[Assignment]) -> float:
    return max(one.dispatched_s for one in in_wave) + rollout.policy.horizon_seconds


def _runs_new(rollout: Rollout, now_s: float, assignment: Assignment) -> bool:
    """Tell whether traffic on the new bundle can still be expected from this device."""
    return outcome(assignment, rollout.policy, now_s) in {*PENDING, "succeeded"}


def _strongest(rollout: Rollout, gates: Sequence[GateStatus]) -> GateStatus | None:
    """Return the gate that stops the rollout. One that only pauses is passed by where an operator accepted the wave."""
    may_pause = rollout.state == "running" and rollout.accepted_wave != rollout.wave
    stopping = [gate for gate in gates if gate.action is not None and (gate.action != "PAUSE" or may_pause)]
    return max(stopping, key=lambda gate: SEVERITY[gate.action] if gate.action else 0, default=None)


def _tick_forward(
    rollout: Rollout,
    now_s: float,
    devices: Sequence[Device],
    assignments: Sequence[Assignment],
    gates: Sequence[GateStatus],
    alerts: list[Command],
) -> tuple[Command, ...]:
    free = eligible(rollout, now_s, devices, assignments)
    commands = list(alerts)
    if rollout.wave < 0 and not free:
        return _batch(rollout, commands)
    if rollout.wave < 0:
        rollout = _start_wave(rollout, now_s, len(free), len(assignments), commands)
    orders = _orders(rollout, now_s, free, assignments)
    if orders:
        return _batch(rollout, [*commands, *orders])
    if not _wave_passed(rollout, now_s, assignments, gates):
        return _batch(rollout, commands)
    passed = " ".join(gate.reason + "." for gate in gates if gate.gate != "abort_config")
    numbers = _numbers(gates)
    if rollout.wave == len(rollout.policy.waves) - 1 or not free:
        return _finish(rollout, now_s, devices, assignments, commands, passed, numbers)
    commands.append(_record(rollout, now_s, "wave_passed", passed or "all devices finished", "gate", numbers))
    rollout = _start_wave(rollout, now_s, len(free), len(assignments), commands)
    return _batch(rollout, [*commands, *_orders(rollout, now_s, free, assignments)])


def _start_wave(rollout: Rollout, now_s: float, free: int, assigned: int, commands: list[Command]) -> Rollout:
    wave = rollout.wave + 1
    size = size_of_wave(rollout, wave, free, assigned)
    started = msgspec.structs.replace(
        rollout,
        wave=wave,
        wave_started_s=now_s,
        wave_size=size,
        reason=f"wave {wave + 1} of {len(rollout.policy.waves)}: {_count(size, 'device')}",
    )
    numbers: dict[str, Number] = {"size": size, "eligible": free, "assigned_before": assigned}
    commands.append(_record(started, now_s, "wave_started", started.reason, "fleet", numbers))
    return started


def _orders(rollout: Rollout, now_s: float, free: Sequence[Device], assignments: Sequence[Assignment]) -> list[Command]:
    """Return the orders that the wave still lacks, as fast as the policy allows."""
    is_rest = rollout.policy.waves[rollout.wave] == "rest"
    sent = sum(one.wave == rollout.wave for one in assignments)
    wanted = len(free) if is_rest else max(0, rollout.wave_size - sent)
    per_minute = rollout.policy.job_executions_rollout_config.maximum_per_minute
    if per_minute is not None:
        wanted = min(wanted, max(0, per_minute - sum(one.dispatched_s > now_s - 60 for one in assignments)))
    digest_of = {bundle.target: bundle.digest for bundle in rollout.bundles}
    return [
        Assign(
            assignment=Assignment(
                device=device.id,
                target=device.target,
                wave=rollout.wave,
                position=len(assignments) + place,
                version=rollout.version,
                bundle=digest_of[device.target],
                previous_version=device.version,
                previous_bundle=device.bundle,
                command=f"{rollout.id}.{device.id}",
                dispatched_s=now_s,
            )
        )
        for place, device in enumerate(free[:wanted])
    ]


def _wave_passed(
    rollout: Rollout, now_s: float, assignments: Sequence[Assignment], gates: Sequence[GateStatus]
) -> bool:
    in_wave = [one for one in assignments if one.wave == rollout.wave]
    if not in_wave or not _wave_ended(rollout, now_s, in_wave):
        return False
    ended = [one.ended_s for one in in_wave if one.ended_s is not None]
    if ended and now_s < max(ended) + rollout.policy.soak_seconds:
        return False
    accepted = rollout.accepted_wave == rollout.wave
    return all(gate.outcome in {"pass", "inconclusive"} or (accepted and gate.gate == "drift") for gate in gates)


def _finish(
    rollout: Rollout,
    now_s: float,
    devices: Sequence[Device],
    assignments: Sequence[Assignment],
    commands: list[Command],
    passed: str,
    numbers: dict[str, Number],
) -> tuple[Command, ...]:
    outcomes = [outcome(one, rollout.policy, now_s) for one in assignments]
    assigned = {one.device for one in assignments}
    targets = {bundle.target for bundle in rollout.bundles}
    offline = sum(
        device.target in targets and device.id not in assigned and is_offline(rollout, now_s, device)
        for device in devices
    )
    succeeded = outcomes.count("succeeded")
    reason = f"{_count(succeeded, 'device')} on {rollout.version}, {len(outcomes) - succeeded} failed"
    if offline:
        reason += f", {offline} offline and left as they are"
    numbers = {**numbers, "succeeded": succeeded, "failed": len(outcomes) - succeeded, "offline": offline}
    commands.append(_record(rollout, now_s, "wave_passed", passed or "all devices finished", "gate", numbers))
    done = msgspec.structs.replace(rollout, state="completed", finished_s=now_s, reason=reason)
    return _batch(done, [*commands, _record(done, now_s, "completed", reason, "fleet", numbers)])


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
        accepted_wave=rollout.wave if event == "resume" else rollout.accepted_wave,
        returning_since_s=now_s if event == "rollback" else rollout.returning_since_s,
        finished_s=now_s if state in ENDED else None,
    )
    numbers: dict[str, Number] = {} if gate is None else {"gate": gate.gate, "target": gate.target, **gate.numbers}
    commands: list[Command] = [_record(moved, now_s, ACTION_WORD[event], reason, actor, numbers)]
    if event == "rollback":
        commands += _take_back(rollout, now_s, assignments)
    if event == "abort":
        unheard = [one for one in assignments if one.started_s is None and one.phase is None]
        commands += _take_back(rollout, now_s, unheard)
    return _batch(moved, commands)


def _take_back(rollout: Rollout, now_s: float, assignments: Iterable[Assignment]) -> list[Command]:
    """Order devices back to what they ran; withdraw the order where nothing ran before."""
    commands: list[Command] = []
    for one in assignments:
        if one.rollback_command is not None or one.withdrawn_s is not None:
            continue
        if one.previous_bundle is None or one.previous_version is None:
            commands.append(Withdraw(device=one.device, at_s=now_s))
        else:
            commands.append(
                RollBack(
                    device=one.device,
                    command=f"{rollout.id}.{one.device}.back",
                    version=one.previous_version,
                    bundle=one.previous_bundle,
                    at_s=now_s,
                )
            )
    return commands


def _tick_back(
    rollout: Rollout, now_s: float, devices: Sequence[Device], assignments: Sequence[Assignment]
) -> tuple[Command, ...]:
    missed = _take_back(rollout, now_s, assignments)
    if missed:
        return _batch(rollout, missed)
    device_of = {device.id: device for device in devices}
    sent = [one for one in assignments if one.rollback_command is not None]
    waiting = [one for one in sent if not has_returned(one, device_of.get(one.device))]
    horizon_s = rollout.policy.horizon_seconds
    if any(now_s < (one.rolled_back_s or now_s) + horizon_s for one in waiting):
        return ()
    failed = [one for one in sent if one.rollback_phase is not None and ENDING_PHASES.get(one.rollback_phase) in BAD]
    stuck = len(assignments) - len(sent)
    numbers: dict[str, Number] = {
        "ordered_back": len(sent),
        "returned": len(sent) - len(waiting) - len(failed),
        "failed": len(failed),
        "silent": len(waiting),
        "nothing_before": stuck,
    }
    reason = f"{numbers['returned']} of {_count(len(sent), 'device')} back on what they ran before"
    for number, text in (
        (len(failed), "could not go back"),
        (len(waiting), "not heard of: they go back when they connect"),
        (stuck, "had nothing to go back to"),
    ):
        reason += f"; {number} {text}" if number else ""
    cause = f"{rollout.reason.removesuffix('.')}. " if rollout.reason else ""
    done = msgspec.structs.replace(
        rollout, state=TRANSITIONS["rolling_back", "returned"], finished_s=now_s, reason=f"{cause}{reason}"
    )
    return _batch(done, [_record(done, now_s, "rolled_back", reason, "fleet", numbers)])


BAD = frozenset({"failed", "rejected"})


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


def _numbers(gates: Sequence[GateStatus]) -> dict[str, Number]:
    return {
        f"{gate.gate}{'/' + gate.target if gate.target else ''}: {name}": value
        for gate in gates
        for name, value in gate.numbers.items()
    }


def _record(rollout: Rollout, now_s: float, action: str, reason: str, actor: str, numbers: dict[str, Number]) -> Record:
    return Record(
        decision=Decision(
            at_s=now_s,
            rollout=rollout.id,
            wave=rollout.wave,
            action=action,
            reason=reason,
            actor=actor,
            numbers=numbers,
        )
    )


def _batch(rollout: Rollout, commands: Sequence[Command]) -> tuple[Command, ...]:
    """Put the next revision of the rollout in front, so that two servers cannot apply two batches to one row."""
    if not commands:
        return ()
    return (SaveRollout(rollout=msgspec.structs.replace(rollout, revision=rollout.revision + 1)), *commands)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
