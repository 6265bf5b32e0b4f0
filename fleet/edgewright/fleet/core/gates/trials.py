"""Failed installs of a rollout as trials in dispatch order, and the highest evidence that any prefix of them holds.

What a failure is, which devices are no trials and whose silence is left to the controls: failures.py says why.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from operator import attrgetter

import msgspec

from ..outcomes import FAILURES, Outcome, deadline_s
from ..policy.policy import Policy
from ..rows import Assignment, Rollout
from ..statistics import log_e_value
from . import sites
from .weights import enabled_metrics


class Trials(msgspec.Struct):
    """What an e-process has seen: how many trials, and after how many of them each failure came."""

    executed: int = 0
    failed_at: list[int] = []
    failed_sites: set[str] = set()
    shares: sites.Shares | None = None
    """None where devices are the unit, or where nobody said how many devices a site is planned to have."""

    @property
    def failures(self) -> int:
        return len(self.failed_at)


def count_trials(
    rollout: Rollout, assignments: Sequence[Assignment], outcomes: Sequence[Outcome], plan: sites.Plan | None = None
) -> tuple[Trials, dict[str, Trials]]:
    """Return the trials of all boards that go on, and of each board, in dispatch order."""
    by_site = rollout.failure_unit == "SITE"
    excused = _excused(rollout, assignments)
    halted = {halt.target for halt in rollout.halted}
    pooled = Trials()
    boards: dict[str, Trials] = {}
    planned = _planned(plan, halted) if by_site and plan is not None else {}
    if planned:
        pooled.shares = sites.Shares(largest=_largest(planned, None))
    joiners = plan.joiners if plan is not None else ()
    for one, result in _in_order(assignments, outcomes):
        if one.arm == "control":
            continue
        is_left = (one.target, one.wave) in excused
        failed = result in FAILURES and not (is_left and is_silent(one, result, rollout.policy))
        board = boards.get(one.target)
        if board is None:
            board = boards[one.target] = Trials()
            if planned:
                board.shares = sites.Shares(largest=_largest(planned, one.target))
        site = one.site if by_site else ""
        _add(board, site, failed)
        if one.target not in halted:
            _add(pooled, site, failed)
        if not planned or one.device in joiners:
            continue
        if board.shares is not None:
            board.shares.add(site, one.device, planned.get((one.target, site), 1), failed)
        if pooled.shares is not None and one.target not in halted:
            pooled.shares.add(site, one.device, planned.get((None, site), 1), failed)
    return pooled, boards


_Planned = dict[tuple[str | None, str], int]


def _planned(plan: sites.Plan, halted: Collection[str]) -> _Planned:
    """Return how many devices each site is planned to have: of each board, and (None) of all boards that go on."""
    found: _Planned = {(None, ""): 1}
    for (target, site), devices in plan.devices.items():
        found[target, site] = devices
        if target not in halted:
            found[None, site] = found.get((None, site), 0) + devices
    return found


def _largest(planned: _Planned, target: str | None) -> int:
    return max((devices for (board, _), devices in planned.items() if board == target), default=1)


def is_silent(assignment: Assignment, result: Outcome, policy: Policy) -> bool:
    """Tell whether a device gave no sign of its order until the deadline; one that comes too late changes nothing."""
    if result != "timed_out":
        return False
    return assignment.started_s is None or assignment.started_s > deadline_s(assignment, policy)


def peak(trials: Trials, limit: float) -> tuple[float, int, int]:
    """Return the highest ln E over all prefixes, and the failures and trials at which it was reached.

    A success only lowers E, so the peak is at a failure. Most failures need no integral: E is a mean of likelihood
    ratios, so it is at most the largest of them, and at most 1 while the share of failures is within the limit.
    """
    best, at = 0.0, (0, 0)
    for failures, executed in enumerate(trials.failed_at, start=1):
        if failures <= limit * executed or _log_largest_ratio(failures, executed, limit) <= best:
            continue
        value = log_e_value(failures, executed, limit)
        if value > best:
            best, at = value, (failures, executed)
    return best, *at


def _log_largest_ratio(failures: int, executed: int, limit: float) -> float:
    share = failures / executed
    passed = executed - failures
    rest = passed * math.log((1 - share) / (1 - limit)) if passed else 0.0
    return failures * math.log(share / limit) + rest


def _in_order(assignments: Sequence[Assignment], outcomes: Sequence[Outcome]) -> Iterable[tuple[Assignment, Outcome]]:
    position = attrgetter("position")
    positions = list(map(position, assignments))
    if all(map(int.__le__, positions, positions[1:])):
        return zip(assignments, outcomes, strict=True)
    return sorted(zip(assignments, outcomes, strict=True), key=lambda pair: pair[0].position)


def _add(trials: Trials, site: str, failed: bool) -> None:
    if site and site in trials.failed_sites:
        return
    trials.executed += 1
    if failed:
        trials.failed_at.append(trials.executed)
        if site:
            trials.failed_sites.add(site)


def _excused(rollout: Rollout, assignments: Sequence[Assignment]) -> frozenset[tuple[str, int]]:
    """Return the boards and waves whose silent devices are left to the test against their controls."""
    policy = rollout.policy
    if policy.failure_gate.max_silent_percentage is not None or "silence" not in enabled_metrics(policy):
        return frozenset()
    return frozenset({(one.target, one.wave) for one in assignments if one.block >= 0})
