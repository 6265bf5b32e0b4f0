"""The way forward: waves start, orders go out, a wave passes, the rollout completes."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from .batch import batch, count_of, numbers_of, record
from .gates import GateStatus
from .outcomes import PENDING, outcome
from .rows import Assign, Assignment, Command, Device, Number, Rollout
from .transitions import TRANSITIONS
from .waves import eligible, is_offline, size_of_wave


def has_wave_ended(rollout: Rollout, now_s: float, in_wave: Sequence[Assignment]) -> bool:
    """Tell whether all results of the wave are in. Devices that left before their order came are not waited for."""
    complete = len(in_wave) >= rollout.wave_size or now_s >= wave_horizon_s(rollout, in_wave)
    return complete and all(outcome(one, rollout.policy, now_s) not in PENDING for one in in_wave)


def wave_horizon_s(rollout: Rollout, in_wave: Sequence[Assignment]) -> float:
    return max(one.dispatched_s for one in in_wave) + rollout.policy.horizon_seconds


def go_on(
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
        return batch(rollout, commands)
    if rollout.wave < 0:
        rollout = _start_wave(rollout, now_s, len(free), len(assignments), commands)
    orders = _orders(rollout, now_s, free, assignments)
    if orders:
        return batch(rollout, [*commands, *orders])
    if not _wave_passed(rollout, now_s, assignments, gates):
        return batch(rollout, commands)
    passed = " ".join(gate.reason + "." for gate in gates if gate.gate != "abort_config")
    numbers = numbers_of(gates)
    if rollout.wave == len(rollout.policy.waves) - 1 or not free:
        return _finish(rollout, now_s, devices, assignments, commands, passed, numbers)
    commands.append(record(rollout, now_s, "wave_passed", passed or "all devices finished", "gate", numbers))
    rollout = _start_wave(rollout, now_s, len(free), len(assignments), commands)
    return batch(rollout, [*commands, *_orders(rollout, now_s, free, assignments)])


def _start_wave(rollout: Rollout, now_s: float, free: int, assigned: int, commands: list[Command]) -> Rollout:
    wave = rollout.wave + 1
    size = size_of_wave(rollout, wave, free, assigned)
    started = msgspec.structs.replace(
        rollout,
        wave=wave,
        wave_started_s=now_s,
        wave_size=size,
        reason=f"wave {wave + 1} of {len(rollout.policy.waves)}: {count_of(size, 'device')}",
    )
    numbers: dict[str, Number] = {"size": size, "eligible": free, "assigned_before": assigned}
    commands.append(record(started, now_s, "wave_started", started.reason, "fleet", numbers))
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
    if not in_wave or not has_wave_ended(rollout, now_s, in_wave):
        return False
    ended = [one.ended_s for one in in_wave if one.ended_s is not None]
    if ended and now_s < max(ended) + rollout.policy.soak_seconds:
        return False
    return all(gate.outcome in {"pass", "inconclusive"} for gate in gates)


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
    reason = f"{count_of(succeeded, 'device')} on {rollout.version}, {len(outcomes) - succeeded} failed"
    if offline:
        reason += f", {offline} offline and left as they are"
    numbers = {**numbers, "succeeded": succeeded, "failed": len(outcomes) - succeeded, "offline": offline}
    commands.append(record(rollout, now_s, "wave_passed", passed or "all devices finished", "gate", numbers))
    done = msgspec.structs.replace(rollout, state=TRANSITIONS[rollout.state, "finish"], finished_s=now_s, reason=reason)
    return batch(done, [*commands, record(done, now_s, "completed", reason, "fleet", numbers)])
