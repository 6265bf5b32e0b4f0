"""Which rollouts of one model may run beside each other, and which takes whose place."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from ..policy.selector import parse
from ..rows import ENDED, Device, Rollout
from ..transitions import TRANSITIONS


class Precedence(msgspec.Struct, frozen=True, kw_only=True):
    """What a new rollout means for those that have not ended."""

    refusal: str = ""
    """Why it may not start, and what to do; empty: it may."""
    supersedes: tuple[str, ...] = ()
    """Ids of the rollouts whose place it takes; each gets the event `supersede` in the transaction that adds it."""


def precedence(new: Rollout, others: Iterable[Rollout], devices: Sequence[Device]) -> Precedence:
    """Decide about a rollout before it is made.

    - Rollouts that do not meet run beside each other (`meet`). A device is still never in two at once: `Device.taken`.
    - One that is rolling back is never superseded: its devices come back first.
    - The same version is not started anew beside itself: the gates would forget what they have seen.
    - One that only follows (`CONTINUOUS`, all waves passed) gives way to another version.
    - Any other gives way with `onConflict = "SUPERSEDE"` and refuses the new one with `"REFUSE"`. Devices that have the
      older release keep it until the order of the new one comes.
    """
    met = [other for other in others if meet(new, other, devices)]
    refusals = [refusal for other in met if (refusal := _refusal(new, other))]
    if refusals:
        return Precedence(refusal="; ".join(refusals))
    return Precedence(supersedes=tuple(other.id for other in met))


def meet(one: Rollout, other: Rollout, devices: Sequence[Device]) -> bool:
    """Tell whether two rollouts may want the same device.

    They are of one model, neither has ended, they share a board, and some device of it is in both groups. Groups with
    the same words, and a group that is all devices, meet even while no device is there.
    """
    if one.model != other.model or one.id == other.id or one.state in ENDED or other.state in ENDED:
        return False
    shared = {bundle.target for bundle in one.bundles} & {bundle.target for bundle in other.bundles}
    mine, theirs = one.policy.group.strip(), other.policy.group.strip()
    if not shared or not mine or not theirs or mine == theirs:
        return bool(shared)
    is_mine, is_theirs = parse(mine).matches, parse(theirs).matches
    return any(device.target in shared and is_mine(device) and is_theirs(device) for device in devices)


def _refusal(new: Rollout, other: Rollout) -> str:
    named = f"rollout {other.id} of {other.model} {other.version} is {other.state}"
    if (other.state, "supersede") not in TRANSITIONS:
        return f"{named} and wants some of the same devices: wait until it has ended"
    if new.version == other.version:
        return f"{named}: the same version is not started anew beside itself; resume it, or abort it first"
    if other.state == "following" or new.policy.on_conflict == "SUPERSEDE":
        return ""
    return (
        f"{named} and wants some of the same devices: abort it, narrow `group`, or say "
        f'onConflict = "SUPERSEDE" to let {new.version} take its place'
    )
