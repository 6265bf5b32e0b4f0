"""Which release a device goes back to: the one that it ran, unless another good one fits the present data better.

"The version before" is the wrong answer when the data have changed since, when that version is below the security
floor, or when it was itself taken back. What fits is said by the misfit of a release: the PSI of the target's present
inputs against the reference that came with its bundle.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Literal

import msgspec

from ..policy.policy import Policy
from ..rows import Assignment, Device
from ..situation import GoodRelease, Situation

MARKEDLY_BETTER = 0.5
"""Another release takes the place of the one before only where its misfit is at most this share of it: two releases
that both fit badly are no reason to bring a device something that it did not run."""

WhyStay = Literal["nothing_before", "unknown_before", "below_floor", "taken_back"]


class Return(msgspec.Struct, frozen=True, kw_only=True):
    """A way back."""

    version: str
    bundle: str
    is_previous: bool
    """Whether it is what the device ran when it got the order."""
    misfit: float | None = None
    previous_misfit: float | None = None


class Stay(msgspec.Struct, frozen=True, kw_only=True):
    """There is no way back: the device keeps what it runs."""

    why: WhyStay
    reason: str
    """For people."""


def way_back(
    assignment: Assignment,
    device: Device | None,
    good_releases: Sequence[GoodRelease],
    policy: Policy,
    floor: int,
    *,
    taken_back: Collection[str] = (),
    is_approved: bool = False,
) -> Return | Stay:
    """Return where a device goes back to, or why it stays.

    Args:
        assignment: the order that is taken back.
        device: as it reported itself; None where it is not enrolled any more.
        good_releases: of the model, newest first, for any target.
        policy: of the rollout; `rollback.target` says whether only the release before counts.
        floor: lowest security epoch that anything may be ordered to.
        taken_back: bundles that were themselves rolled back, by any rollout.
        is_approved: a person asked for this: then also to a bundle that was taken back.
    """
    floor = max(floor, floor_of(assignment, device))
    previous = _previous(assignment, floor, taken_back, is_approved)
    if policy.rollback.target == "PREVIOUS":
        return previous
    others = [
        one
        for one in good_releases
        if one.bundle.target == assignment.target
        and one.bundle.digest not in {assignment.bundle, assignment.previous_bundle, *taken_back}
        and one.security_epoch >= floor
    ]
    limit = policy.drift_gate.max_psi
    if isinstance(previous, Stay):
        return _return(_last_good(others, limit), None) if others else previous
    misfit = _misfit(assignment.previous_bundle, good_releases)
    better = _better(others, misfit, limit)
    if better is not None:
        return _return(better, misfit)
    return msgspec.structs.replace(previous, misfit=misfit, previous_misfit=misfit)


class Ways:
    """The ways back of a rollout's devices, worked out once for all that are alike: a fleet has few kinds of them."""

    def __init__(self, seen: Situation) -> None:
        self._seen = seen
        self._rollout = seen.rollout
        self._approved = {halt.target for halt in seen.rollout.halted if halt.is_return_approved}
        self._known: dict[tuple[object, ...], Return | Stay] = {}

    def of(self, one: Assignment, device: Device | None) -> Return | Stay:
        """Return where a device goes back to, or why it stays."""
        floor = max(self._rollout.security_floor, floor_of(one, device))
        alike = (one.target, one.previous_bundle, one.previous_version, one.previous_known, one.previous_epoch, floor)
        found = self._known.get(alike)
        if found is None:
            found = self._known[alike] = way_back(
                one,
                device,
                self._seen.good_releases,
                self._rollout.policy,
                floor,
                taken_back=self._seen.taken_back,
                is_approved=self._rollout.is_return_approved or one.target in self._approved,
            )
        return found


def floor_of(assignment: Assignment, device: Device | None) -> int:
    """Return the lowest security epoch that this device itself still accepts.

    A device never runs less than the highest epoch that it has confirmed (runtime/agent/update.py), so an order below
    would only be refused.
    """
    if device is None or assignment.phase != "confirmed" or device.bundle != assignment.bundle:
        return assignment.previous_epoch
    return max(assignment.previous_epoch, device.security_epoch)


def _previous(assignment: Assignment, floor: int, taken_back: Collection[str], is_approved: bool) -> Return | Stay:
    version, bundle = assignment.previous_version, assignment.previous_bundle
    if version is None or bundle is None:
        return Stay(why="nothing_before", reason="nothing ran before")
    if not assignment.previous_known:
        return Stay(why="unknown_before", reason=f"ran {bundle} before, which was never uploaded here")
    if assignment.previous_epoch < floor:
        return Stay(
            why="below_floor",
            reason=f"{version} has security epoch {assignment.previous_epoch}, below the floor {floor}",
        )
    if bundle in taken_back and not is_approved:
        return Stay(why="taken_back", reason=f"{version} was itself rolled back: a person must ask for it")
    return Return(version=version, bundle=bundle, is_previous=True)


def _last_good(others: Sequence[GoodRelease], limit: float) -> GoodRelease:
    """Return the newest that fits, as far as is known; where none does, the one that fits best."""
    fitting = [one for one in others if one.misfit is None or one.misfit < limit]
    return fitting[0] if fitting else min(others, key=_misfit_of)


def _better(others: Sequence[GoodRelease], misfit: float | None, limit: float) -> GoodRelease | None:
    if misfit is None or misfit < limit:
        return None
    measured = [one for one in others if one.misfit is not None]
    best = min(measured, key=_misfit_of, default=None)
    return best if best is not None and _misfit_of(best) <= MARKEDLY_BETTER * misfit else None


def _misfit_of(release: GoodRelease) -> float:
    return float("inf") if release.misfit is None else release.misfit


def _misfit(bundle: str | None, releases: Sequence[GoodRelease]) -> float | None:
    return next((one.misfit for one in releases if one.bundle.digest == bundle), None)


def _return(release: GoodRelease, previous_misfit: float | None) -> Return:
    return Return(
        version=release.version,
        bundle=release.bundle.digest,
        is_previous=False,
        misfit=release.misfit,
        previous_misfit=previous_misfit,
    )
