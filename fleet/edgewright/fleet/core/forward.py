"""The way forward: waves start, orders go out, a wave passes, controls graduate, the rollout completes or follows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from .back import is_board_returning
from .batch import count_of, numbers_of, record
from .ending import end
from .gates.status import GateStatus
from .orders.orders import orders
from .orders.waves import fitting, size_of_wave
from .policy.policy import wave_of
from .policy.sections import Wave
from .rows import Command, Device, Number, Rollout
from .transitions import TRANSITIONS
from .turn import Turn

MIN_SITES = 20
"""With failures counted by site, fewer sites could not prove much."""


def go_on(turn: Turn, rollout: Rollout, gates: Sequence[GateStatus]) -> tuple[Rollout, list[Command]]:
    """Return the rollout after the next step forward, with what goes out. `rollout` is running or following."""
    if rollout.state == "following":
        return rollout, orders(turn, rollout)
    if rollout.wave < 0:
        return _next_wave(turn, rollout, []) if turn.candidates else (rollout, [])
    sent = orders(turn, rollout)
    if sent:
        return rollout, sent
    if not _has_passed(turn, rollout, gates):
        return rollout, []
    return _next_wave(turn, rollout, gates)


def _has_passed(turn: Turn, rollout: Rollout, gates: Sequence[GateStatus]) -> bool:
    if not turn.has_wave_ended:
        return False
    ended = [one.ended_s for one, _ in turn.in_wave if one.ended_s is not None]
    if ended and turn.now_s < max(ended) + rollout.policy.soak_seconds:
        return False
    halted = {halt.target for halt in rollout.halted}
    return all(_lets_pass(rollout, gate) for gate in gates if gate.target not in halted)


def _lets_pass(rollout: Rollout, gate: GateStatus) -> bool:
    """Tell whether a gate does not hold the wave. Where a person let it go on, one that only pauses does not."""
    is_accepted = gate.action == "PAUSE" and rollout.accepted_wave == rollout.wave
    return is_accepted or gate.outcome in {"pass", "inconclusive"}


def _next_wave(turn: Turn, rollout: Rollout, gates: Sequence[GateStatus]) -> tuple[Rollout, list[Command]]:
    """Start the next wave that some device fits; after the last one, bring the controls the release, then end."""
    waves = range(rollout.wave + 1, len(rollout.policy.waves))
    found = next(((wave, fits) for wave in waves if (fits := fitting(rollout, wave, turn.candidates))), None)
    is_last = found is None and (rollout.wave >= len(rollout.policy.waves) or not turn.graduable)
    if is_last and is_board_returning(rollout):
        return rollout, []
    passed = _passed(turn, rollout, gates)
    if is_last:
        rollout, ended = end(turn, rollout, numbers_of(gates))
        return rollout, [*passed, *ended]
    if found is None:
        rollout, started = _graduate(turn, rollout)
    elif _waits_for_approval(rollout, found[0]):
        rollout, started = _await_approval(turn, rollout, *found)
    else:
        rollout, started = _start_wave(turn, rollout, *found)
    return rollout, [*passed, *started]


def _passed(turn: Turn, rollout: Rollout, gates: Sequence[GateStatus]) -> list[Command]:
    """Record once that the present wave has passed: not again once a person was asked about the next."""
    if rollout.wave < 0 or (rollout.awaited_wave is not None and rollout.awaited_wave > rollout.wave):
        return []
    reason = " ".join(gate.reason + "." for gate in gates if gate.gate != "abort_config")
    return [record(rollout, turn.now_s, "wave_passed", reason or "all devices finished", "gate", numbers_of(gates))]


def _waits_for_approval(rollout: Rollout, wave: int) -> bool:
    is_approved = any(approval.wave == wave for approval in rollout.approvals)
    return wave_of(rollout.policy, wave).require_approval and not is_approved


def _await_approval(turn: Turn, rollout: Rollout, wave: int, fits: Sequence[Device]) -> tuple[Rollout, list[Command]]:
    size = _size(turn, rollout, wave, fits)
    reason = f"{_name(rollout, wave)}, {count_of(size, 'device')}, waits until a person approves of it"
    state = TRANSITIONS[rollout.state, "await_approval"]
    awaiting = msgspec.structs.replace(rollout, state=state, reason=reason, awaited_wave=wave)
    numbers: dict[str, Number] = {"next_wave": wave, "size": size}
    return awaiting, [record(awaiting, turn.now_s, "awaiting_approval", reason, "fleet", numbers)]


def _start_wave(turn: Turn, rollout: Rollout, wave: int, fits: Sequence[Device]) -> tuple[Rollout, list[Command]]:
    size = _size(turn, rollout, wave, fits)
    started = msgspec.structs.replace(
        rollout,
        wave=wave,
        wave_started_s=turn.now_s,
        wave_size=size,
        reason=f"{_name(rollout, wave)}: {count_of(size, 'device')}",
        failure_unit=_failure_unit(turn) if rollout.wave < 0 else rollout.failure_unit,
    )
    numbers: dict[str, Number] = {
        "size": size,
        "eligible": len(fits),
        "assigned_before": len(turn.seen.assignments),
        "failure_unit": started.failure_unit,
    }
    return started, [
        record(started, turn.now_s, "wave_started", started.reason, "fleet", numbers),
        *orders(turn, started),
    ]


def _graduate(turn: Turn, rollout: Rollout) -> tuple[Rollout, list[Command]]:
    size = len(turn.graduable)
    reason = f"all waves passed: {count_of(size, 'control')} get the release"
    started = msgspec.structs.replace(
        rollout, wave=len(rollout.policy.waves), wave_started_s=turn.now_s, wave_size=size, reason=reason
    )
    return started, [
        record(started, turn.now_s, "graduating", reason, "fleet", {"size": size}),
        *orders(turn, started),
    ]


def _name(rollout: Rollout, wave: int) -> str:
    return f"wave {wave + 1} of {len(rollout.policy.waves)}"


def _size(turn: Turn, rollout: Rollout, wave: int, fits: Sequence[Device]) -> int:
    """Return how many devices the wave brings the release to. A share is one of all devices that fit it."""
    if wave_of(rollout.policy, wave) == Wave(add=wave_of(rollout.policy, wave).add):
        return size_of_wave(rollout, wave, len(fits), len(turn.seen.assignments))
    drawn = {one.device for one in turn.seen.assignments}
    before = fitting(rollout, wave, [device for device in turn.seen.devices if device.id in drawn])
    return size_of_wave(rollout, wave, len(fits), len(before))


def _failure_unit(turn: Turn) -> Literal["DEVICE", "SITE"]:
    """Settle what the failure gate counts, before any outcome is known."""
    unit = turn.rollout.policy.failure_gate.unit
    if unit != "AUTO":
        return unit
    sites = {device.site for device in turn.candidates if device.site}
    return "SITE" if len(sites) >= MIN_SITES else "DEVICE"
