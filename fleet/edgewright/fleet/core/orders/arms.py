"""Who of a wave gets the release and who waits beside them, drawn in permuted blocks.

A block is a few devices of one target, next to each other in the seeded order. How many of them wait is settled by
counting, before and without looking at any result; *which* of them is settled by a hash of the rollout's seed and the
block's number. So within a block every device is as likely to be a control as any other, and the two arms differ by
chance and by the release, and by nothing else (permuted-block randomisation: Zelen, J. Chronic Dis. 27, 1974).

A wave that adds n devices draws about n*f/(1-f) controls more, f being its control fraction.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

import msgspec

from ..rows import Arm, Assignment, Device, Rollout

MAX_BLOCK = 20
"""Slots of the largest block; small blocks are over soon, so that the gates learn soon."""


class Shape(NamedTuple):
    """How many devices of a block get the release, and how many wait."""

    treated: int
    controls: int


ALONE = Shape(1, 0)


class Drawn(msgspec.Struct, frozen=True, kw_only=True):
    """What one wave has drawn of one target so far, of devices that ran something before."""

    treated: int = 0
    controls: int = 0


def draw(
    rollout: Rollout,
    wave: int,
    free: Sequence[Device],
    wanted: int,
    first_position: int,
    first_block: int,
    *,
    now_s: float,
    drawn: Mapping[str, Drawn] | None = None,
) -> list[Assignment]:
    """Return the rows that give the release to at most `wanted` devices, with the controls drawn beside them.

    Args:
        rollout: the rollout.
        wave: index of the wave.
        free: devices that may be drawn now, in their seeded order.
        wanted: most devices that get the release.
        first_position: `position` of the first row.
        first_block: `block` of the first block.
        now_s: the time of the draw.
        drawn: by target, what this wave has drawn already.
    """
    waiting: dict[str, deque[Device]] = {}
    for device in free:
        waiting.setdefault(device.target, deque()).append(device)
    rows: list[Assignment] = []
    makers = {
        target: _Drawer(rollout, wave, queue, (drawn or {}).get(target, Drawn())) for target, queue in waiting.items()
    }
    digest_of = {bundle.target: bundle.digest for bundle in rollout.bundles}
    taken: set[str] = set()
    block = first_block
    for device in free:
        if wanted <= 0:
            break
        if device.id in taken:
            continue
        members = makers[device.target].take(wanted, block)
        has_controls = any(arm == "control" for _, arm in members)
        for member, arm in members:
            taken.add(member.id)
            rows.append(
                _row(
                    rollout,
                    wave,
                    member,
                    arm,
                    bundle=digest_of[member.target],
                    position=first_position + len(rows),
                    block=block if has_controls else -1,
                    now_s=now_s,
                )
            )
            wanted -= arm == "treated"
        block += has_controls
    return rows


def fraction_of(rollout: Rollout, wave: int) -> float:
    """Return the share of a wave's draw that waits; the last one of the policy stands for all later waves.

    After the last wave nobody waits any more: controls graduate, and devices that join get the release.
    """
    fractions = rollout.policy.control.fractions
    if wave >= len(rollout.policy.waves):
        return 0.0
    return fractions[min(wave, len(fractions) - 1)] if fractions else 0.0


def drawn_by_target(in_wave: Sequence[Assignment]) -> dict[str, Drawn]:
    """Return what a wave has drawn so far, by target, of devices that ran something before."""
    treated: Counter[str] = Counter()
    controls: Counter[str] = Counter()
    for one in in_wave:
        if one.arm != "treated":
            controls[one.target] += 1
        elif one.previous_bundle is not None:
            treated[one.target] += 1
    return {target: Drawn(treated=treated[target], controls=controls[target]) for target in {*treated, *controls}}


@lru_cache(maxsize=64)
def full_shape(fraction: float) -> Shape:
    """Return the smallest block of at most `MAX_BLOCK` slots whose share of controls is nearest to `fraction`."""
    sizes = range(2, MAX_BLOCK + 1)
    best = min(sizes, key=lambda size: (abs(max(1, _rounded(size * fraction)) / size - fraction), size))
    controls = max(1, _rounded(best * fraction))
    return Shape(best - controls, controls)


class _Drawer:
    """Forms the blocks of one target in one wave."""

    def __init__(self, rollout: Rollout, wave: int, queue: deque[Device], drawn: Drawn) -> None:
        self._seed = rollout.seed
        self._fraction = fraction_of(rollout, wave)
        self._is_first_wave = wave == 0
        self._queue = queue
        self._comparable = sum(device.bundle is not None for device in queue)
        self._treated, self._controls = drawn.treated, drawn.controls

    def take(self, wanted: int, block: int) -> list[tuple[Device, Arm]]:
        """Return the next block, or one device by itself."""
        if self._queue[0].bundle is None:  # runs nothing: it has no old release to be compared with
            return [(self._queue.popleft(), "treated")]
        shape = self._shape(wanted)
        self._treated += shape.treated
        self._controls += shape.controls
        waits = _controls_of(self._seed, block, shape)
        return [(device, "control" if slot in waits else "treated") for slot, device in enumerate(self._members(shape))]

    def _shape(self, wanted: int) -> Shape:
        """Settle a block by counting alone: full, or as much of one as is wanted and as there are devices for.

        Where no control is due the device is taken by itself, so that the boards stay mixed.
        """
        if self._fraction == 0:
            return ALONE
        full = full_shape(self._fraction)
        for treated in range(min(full.treated, wanted, self._comparable), 0, -1):
            controls = min(full.controls, self._due(treated))
            if treated + controls <= self._comparable:
                return Shape(treated, controls) if controls > 0 else ALONE
        return ALONE

    def _due(self, treated: int) -> int:
        """Return how many controls are lacking once so many more have got the release."""
        due = _rounded((self._treated + treated) * self._fraction / (1 - self._fraction)) - self._controls
        return max(due, 1) if self._is_first_wave and self._controls == 0 else due

    def _members(self, shape: Shape) -> list[Device]:
        """Take the next devices that ran something; those that ran nothing keep their place."""
        members: list[Device] = []
        passed: list[Device] = []
        while len(members) < shape.treated + shape.controls:
            device = self._queue.popleft()
            (members if device.bundle is not None else passed).append(device)
        self._queue.extendleft(reversed(passed))
        self._comparable -= len(members)
        return members


def _controls_of(seed: int, block: int, shape: Shape) -> frozenset[int]:
    """Return which slots of a block wait: every choice is as likely as any other."""
    if shape.controls == 0:
        return frozenset()
    size = shape.treated + shape.controls
    draw = hashlib.sha512(f"{seed}/block/{block}".encode()).digest()
    if shape.controls == 1:
        return frozenset({int.from_bytes(draw[:8], "big") % size})
    width = len(draw) // MAX_BLOCK
    by_chance = sorted(range(size), key=lambda slot: draw[width * slot : width * (slot + 1)])
    return frozenset(by_chance[: shape.controls])


def _row(
    rollout: Rollout, wave: int, device: Device, arm: Arm, *, bundle: str, position: int, block: int, now_s: float
) -> Assignment:
    return Assignment(
        device=device.id,
        target=device.target,
        wave=wave,
        position=position,
        version=rollout.version,
        bundle=bundle,
        previous_version=device.version,
        previous_bundle=device.bundle,
        previous_epoch=device.security_epoch,
        command=f"{rollout.id}.{device.id}",
        dispatched_s=now_s,
        arm=arm,
        block=block,
        site=device.site,
        drawn_s=now_s,
    )


def _rounded(value: float) -> int:
    """Round halves up; Python rounds them to the even number."""
    return math.floor(value + 0.5)
