"""The orders of one tick: devices that are tried again, controls that graduate, and the next devices of a wave.

Each limit is in a file of its own; here they are put in a row. Pace counts every order. A maintenance window holds the
devices of its zone. A site takes as many as its blast radius allows.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from ..outcomes import is_retry_due
from ..policy.sections import BlastRadius
from ..rows import Assign, Assignment, Command, Device, Graduate, Retry, Rollout
from ..turn import Turn, is_rest
from .arms import draw
from .blast import BlastLimit
from .waves import fitting, in_order, open_targets

MOST_ORDERS = 2000
"""Of one tick: a large wave goes out over some seconds, so that no transaction holds the store for long. The letters
that bring them take as long (reconciler.MOST_LETTERS)."""


def orders(turn: Turn, rollout: Rollout) -> list[Command]:
    """Return what may be ordered now. `rollout`: with the wave that runs, perhaps started in this tick."""
    left = MOST_ORDERS if turn.orders_left is None else min(turn.orders_left, MOST_ORDERS)
    retries = _retries(turn, rollout, left)
    left -= len(retries)
    if left == 0:
        return retries
    if rollout.state == "running" and rollout.wave >= len(rollout.policy.waves):
        return [*retries, *_graduations(turn, rollout, left)]
    return [*retries, *_draws(turn, rollout, left)]


def _retries(turn: Turn, rollout: Rollout, left: int) -> list[Command]:
    policy = rollout.policy
    due = [one for one, _ in turn.given_again]
    if policy.job_executions_retry_config.criteria_list:
        due += [one for one in turn.seen.assignments if is_retry_due(one, policy, turn.now_s)]
    if not due:
        return []
    boards = open_targets(rollout)
    device_of = {device.id: device for device in turn.seen.devices}
    found: list[Command] = []
    for one in due:
        device = device_of.get(one.device)
        if device is None or one.target not in boards or not turn.may_be_tried_again(device):
            continue
        if not turn.is_open(device.time_zone):
            continue
        attempt = one.attempt + 1
        command = f"{rollout.id}.{one.device}.{attempt}"
        found.append(Retry(device=one.device, command=command, attempt=attempt, at_s=turn.now_s))
    return found[:left]


def _graduations(turn: Turn, rollout: Rollout, left: int) -> list[Command]:
    """Give the release to controls, in the order in which they were drawn."""
    limit = BlastLimit(rollout, turn.seen.devices, turn.seen.assignments, turn.outcomes)
    found: list[Command] = []
    for one, device in turn.graduable:
        if len(found) >= left:
            break
        if turn.is_open(device.time_zone) and limit.take(device):
            position = turn.next_position + len(found)
            found.append(Graduate(assignment=_graduated(rollout, one, device, position, turn.now_s)))
    return found


def _graduated(rollout: Rollout, one: Assignment, device: Device, position: int, now_s: float) -> Assignment:
    """Return the row of a control with its order; block and time of the draw stay, for the gates."""
    return msgspec.structs.replace(
        one,
        arm="graduated",
        wave=rollout.wave,
        position=position,
        dispatched_s=now_s,
        drawn_s=one.dispatched_s if one.drawn_s is None else one.drawn_s,
        previous_version=device.version,
        previous_bundle=device.bundle,
        previous_epoch=device.security_epoch,
    )


def _draws(turn: Turn, rollout: Rollout, left: int) -> list[Command]:
    is_new_wave = rollout.wave != turn.rollout.wave
    wanted = min(left, _wanted(turn, rollout, is_new_wave=is_new_wave))
    if wanted <= 0:
        return []
    rows = draw(
        rollout,
        rollout.wave,
        _ready(turn, rollout),
        wanted,
        turn.next_position,
        turn.next_block,
        now_s=turn.now_s,
        drawn={} if is_new_wave else turn.drawn,
    )
    return [Assign(assignment=row) for row in rows]


def _wanted(turn: Turn, rollout: Rollout, *, is_new_wave: bool) -> int:
    """Return how many devices the wave still brings the release to. Who joins after the last wave gets it at once."""
    if rollout.wave >= len(rollout.policy.waves) or is_rest(rollout):
        return len(turn.candidates)
    return rollout.wave_size - (0 if is_new_wave else len(turn.in_wave))


def _ready(turn: Turn, rollout: Rollout) -> Sequence[Device]:
    """Return the devices that every limit but the pace lets through, in their order."""
    policy = rollout.policy
    is_wave = rollout.wave < len(policy.waves)
    fits = fitting(rollout, rollout.wave, turn.candidates) if is_wave else turn.candidates
    if policy.scheduling_config.maintenance_windows:
        fits = [one for one in fits if turn.is_open(one.time_zone)]
    devices = in_order(rollout, turn.seen.devices, fits)
    if policy.blast_radius == BlastRadius():
        return devices
    limit = BlastLimit(rollout, turn.seen.devices, turn.seen.assignments, turn.outcomes)
    return [one for one in devices if limit.take(one)]
