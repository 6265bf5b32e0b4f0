"""Which devices come next: a seeded random order, stratified over targets."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from .policy import wave_of, wave_size
from .rows import Assignment, Device, Rollout


def eligible(
    rollout: Rollout, now_s: float, devices: Sequence[Device], assignments: Sequence[Assignment]
) -> list[Device]:
    """Return the devices that may get an order now, in the order in which they get it.

    Those whose target has a bundle in the release, that do not run it yet, were heard of lately, and are not taken by
    another rollout.
    """
    digest_of = {bundle.target: bundle.digest for bundle in rollout.bundles}
    assigned = {assignment.device for assignment in assignments}
    rank_of = _ranks(rollout.seed, [device for device in devices if device.target in digest_of])
    free = [
        device
        for device in devices
        if device.target in digest_of
        and device.id not in assigned
        and device.bundle != digest_of[device.target]
        and not device.taken
        and not is_offline(rollout, now_s, device)
    ]
    return sorted(free, key=lambda device: rank_of[device.id])


def is_offline(rollout: Rollout, now_s: float, device: Device) -> bool:
    """Tell whether a device was silent for too long to get an order."""
    return device.last_seen_s is None or now_s - device.last_seen_s > rollout.policy.offline_after_seconds


def size_of_wave(rollout: Rollout, wave: int, free: int, assigned: int) -> int:
    """Return how many devices the wave adds when it starts; never more than there are."""
    size = wave_size(wave_of(rollout.policy, wave).add, free + assigned)
    return free if size is None else min(size, free)


def _ranks(seed: int, devices: Sequence[Device]) -> dict[str, tuple[float, bytes]]:
    """Spread each target evenly over the order, so that any prefix holds every target in its share of the fleet."""
    strata: dict[str, list[tuple[bytes, str]]] = {}
    for device in devices:
        draw = hashlib.sha256(f"{seed}/{device.id}".encode()).digest()
        strata.setdefault(device.target, []).append((draw, device.id))
    ranks: dict[str, tuple[float, bytes]] = {}
    for members in strata.values():
        for place, (draw, name) in enumerate(sorted(members)):
            ranks[name] = ((place + 0.5) / len(members), draw)
    return ranks
