"""The way back: every device returns to what it ran before, or is given up on at the horizon."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from .batch import batch, count_of, record
from .outcomes import ENDING_PHASES, FAILURES, has_returned
from .rows import Assignment, Command, Device, Number, RollBack, Rollout, Withdraw
from .transitions import TRANSITIONS


def take_back(rollout: Rollout, now_s: float, assignments: Iterable[Assignment]) -> list[Command]:
    """Order devices back to what they ran; withdraw the order where nothing ran before."""
    commands: list[Command] = []
    for one in assignments:
        if one.rollback_command is not None or one.withdrawn_s is not None:
            continue
        if one.previous_bundle is None or one.previous_version is None or not one.previous_known:
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


def is_way_back_unknown(assignment: Assignment) -> bool:
    """Tell whether a device ran a bundle that this fleet has never seen."""
    return assignment.previous_bundle is not None and not assignment.previous_known


def go_back(
    rollout: Rollout, now_s: float, devices: Sequence[Device], assignments: Sequence[Assignment]
) -> tuple[Command, ...]:
    """Wait for the devices, not longer than the horizon, then end the rollout."""
    missed = take_back(rollout, now_s, assignments)
    if missed:
        return batch(rollout, missed)
    device_of = {device.id: device for device in devices}
    sent = [one for one in assignments if one.rollback_command is not None]
    waiting = [one for one in sent if not has_returned(one, device_of.get(one.device))]
    horizon_s = rollout.policy.horizon_seconds
    if any(now_s < (one.rolled_back_s or now_s) + horizon_s for one in waiting):
        return ()
    failed = [
        one for one in sent if one.rollback_phase is not None and ENDING_PHASES.get(one.rollback_phase) in FAILURES
    ]
    unknown = sum(one.rollback_command is None and is_way_back_unknown(one) for one in assignments)
    stuck = len(assignments) - len(sent) - unknown
    numbers: dict[str, Number] = {
        "ordered_back": len(sent),
        "returned": len(sent) - len(waiting) - len(failed),
        "failed": len(failed),
        "silent": len(waiting),
        "nothing_before": stuck,
        "unknown_before": unknown,
    }
    reason = f"{numbers['returned']} of {count_of(len(sent), 'device')} back on what they ran before"
    for number, text in (
        (len(failed), "could not go back"),
        (len(waiting), "not heard of: they go back when they connect"),
        (stuck, "had nothing to go back to"),
        (unknown, "ran a bundle that was never uploaded here: not ordered back"),
    ):
        reason += f"; {number} {text}" if number else ""
    cause = f"{rollout.reason.removesuffix('.')}. " if rollout.reason else ""
    done = msgspec.structs.replace(
        rollout, state=TRANSITIONS[rollout.state, "returned"], finished_s=now_s, reason=f"{cause}{reason}"
    )
    return batch(done, [record(done, now_s, "rolled_back", reason, "fleet", numbers)])
