"""Which devices come next: a seeded random order, stratified over targets, and what each wave takes of it."""

from __future__ import annotations

import hashlib
import math
import operator
from collections.abc import Collection, Sequence
from functools import lru_cache

from ..policy.policy import wave_of, wave_size
from ..policy.selector import parse
from ..rows import Assignment, Device, Rollout
from .floor import epoch_of
from .storms import may_take_release

SHUFFLES_KEPT = 32
"""One for each board of the rollouts that go on; of 100,000 devices they take some 2 MB together."""


def eligible(
    rollout: Rollout, now_s: float, devices: Sequence[Device], assignments: Sequence[Assignment]
) -> list[Device]:
    """Return the devices that may get an order, in the order in which they get it."""
    return in_order(rollout, devices, candidates(rollout, now_s, devices, assignments))


def candidates(
    rollout: Rollout, now_s: float, devices: Sequence[Device], assignments: Sequence[Assignment]
) -> list[Device]:
    """Return the devices that the rollout is for, that are there, and that it has not ordered or drawn yet.

    Not among them: those whose board has no bundle in the release or was halted, that run the release, that were not
    heard of lately, that another rollout has, that run a higher security epoch (they would refuse), or that were
    ordered too often in the last day.
    """
    digest_of = open_targets(rollout)
    epoch_on = {bundle.target: epoch_of(bundle) for bundle in rollout.bundles}
    drawn = {assignment.device for assignment in assignments}
    policy = rollout.policy
    heard_since_s = now_s - policy.offline_after_seconds
    enrolled_until_s = rollout.created_s if policy.target_selection == "SNAPSHOT" else math.inf
    is_in_group = parse(policy.group).matches
    return [
        device
        for device in devices
        if device.target in digest_of
        and device.id not in drawn
        and device.bundle != digest_of[device.target]
        and device.last_seen_s is not None
        and device.last_seen_s >= heard_since_s
        and not device.taken
        and device.security_epoch <= epoch_on[device.target]
        and device.enrolled_s <= enrolled_until_s
        and may_take_release(policy, device)
        and is_in_group(device)
    ]


def graduable(
    rollout: Rollout, now_s: float, devices: Sequence[Device], assignments: Sequence[Assignment]
) -> list[tuple[Assignment, Device]]:
    """Return the controls that may get the release now that the waves are over, in the order of their draw."""
    waiting = [one for one in assignments if one.arm == "control"]
    if not waiting:
        return []
    digest_of = open_targets(rollout)
    epoch_on = {bundle.target: epoch_of(bundle) for bundle in rollout.bundles}
    is_in_group = parse(rollout.policy.group).matches
    device_of = {device.id: device for device in devices}
    return [
        (one, device)
        for one in waiting
        if one.target in digest_of
        and (device := device_of.get(one.device)) is not None
        and device.bundle != one.bundle
        and not device.taken
        and device.security_epoch <= epoch_on[one.target]
        and is_in_group(device)
        and not is_offline(rollout, now_s, device)
        and may_take_release(rollout.policy, device)
    ]


def open_targets(rollout: Rollout) -> dict[str, str]:
    """Return the boards that go on, with the bundle of each."""
    halted = {halt.target for halt in rollout.halted}
    return {bundle.target: bundle.digest for bundle in rollout.bundles if bundle.target not in halted}


def in_order(rollout: Rollout, devices: Sequence[Device], some: Collection[Device]) -> list[Device]:
    """Return some of the devices in the rollout's random order.

    Each target is spread evenly over the order of all, so that any prefix holds every target in its share of the fleet.
    """
    if not some:
        return []
    members: dict[str, list[str]] = {bundle.target: [] for bundle in rollout.bundles}
    for device in devices:
        if device.target in members:
            members[device.target].append(device.id)
    wanted = {device.id: device for device in some}
    places: list[tuple[float, Device]] = []
    for target in _shuffled(rollout.seed, tuple(sorted(members))):
        drawn = _shuffled(rollout.seed, tuple(members[target]))
        size = len(drawn)
        places += [((place + 0.5) / size, wanted[name]) for place, name in enumerate(drawn) if name in wanted]
    places.sort(key=operator.itemgetter(0))  # a few ascending runs, one of each target: merged, not sorted
    return [device for _, device in places]


@lru_cache(maxsize=SHUFFLES_KEPT)
def _shuffled(seed: int, names: tuple[str, ...]) -> tuple[str, ...]:
    """Return names in the random order that a seed gives them. The fleet is the same in nearly every tick."""
    prefix = f"{seed}/"
    draw_of = {name: hashlib.sha256((prefix + name).encode()).digest() for name in names}
    return tuple(sorted(names, key=draw_of.__getitem__))


def is_offline(rollout: Rollout, now_s: float, device: Device) -> bool:
    """Tell whether a device was silent for too long to get an order."""
    return device.last_seen_s is None or now_s - device.last_seen_s > rollout.policy.offline_after_seconds


def fitting(rollout: Rollout, wave: int, devices: Sequence[Device]) -> list[Device]:
    """Return those devices that fulfil the conditions of a wave."""
    conditions = wave_of(rollout.policy, wave)
    boards, sites = frozenset(conditions.boards), frozenset(conditions.sites)
    if not boards and not sites and not conditions.where:
        return list(devices)
    matches = parse(conditions.where).matches
    return [
        device
        for device in devices
        if (not boards or device.target in boards) and (not sites or device.site in sites) and matches(device)
    ]


def size_of_wave(rollout: Rollout, wave: int, free: int, assigned: int) -> int:
    """Return to how many devices the wave brings the release; never more than there are.

    Args:
        rollout: the rollout.
        wave: index of the wave.
        free: devices that fit it.
        assigned: devices that fit it and were ordered or drawn before; a share is one of both together.
    """
    size = wave_size(wave_of(rollout.policy, wave).add, free + assigned)
    return free if size is None else min(size, free)
