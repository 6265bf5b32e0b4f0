"""The failure gate: failed installs in dispatch order against an absolute limit, over all boards and for each board.

An e-process (core/statistics.py) over the devices that were given the release, in the order in which they got it. Who
has no result yet counts as a success: that can only lower E, and early failures show at once.

- **Unit.** Where failures come in clusters, `SITE` counts the first failure of each site only, and the devices of that
  site after it are no trials. The chance that a device fails *although none of its site failed before* is at most the
  limit whenever the mean over sites is, whatever the sites are like; and a pending device taken for a success has less
  failures and more trials to show at every point, so E is lower. Beside it, with most of the weight, stands a bet
  on the share of failed devices of each site (sites.py), which sees how much of a site fails.
- **Silence.** A device that gave no sign until its deadline may be broken by the release, or may be switched off. Where
  the policy says how many may be (`maxSilentPercentage`), it is a failure against a limit raised by as much. Where
  controls were drawn on its board in its wave, it is a success here, and the test `silence` against the controls has
  the say. Else it is a failure.
- **Floor.** Never a stop on fewer than `minFailures` (3) failures: one broken device is not a broken release. A wave of
  fewer devices could never reach it, so there it is enough that *all* failed: 1 of 1 in a first wave of one device.
  This rule stands outside alpha; a release at the limit p meets it with a chance of p to the power of the wave's size.
- **Blame.** Where the proof over all boards is one board's failures, that board is stopped and not the rollout.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from ..outcomes import FAILURES, PENDING, Outcome
from ..policy.sections import Action
from ..rows import Assignment, Number, Rollout
from ..statistics import log_betainc, log_e_value
from . import sites
from .status import GateOutcome, GateStatus
from .trials import Trials, count_trials, is_silent, peak
from .weights import weights_of

MOST_NAMED = 500
"""Failures that a decision names; more are counted only."""
ALL_BOARDS = "all_boards_"
"""Begins the names of those numbers of a board that is blamed which are the proof over all boards."""
CONCENTRATED = 0.05
"""Chance, over all boards, that a board has so many of all failures although all boards fail alike."""


def failure_gates(
    rollout: Rollout,
    assignments: Sequence[Assignment],
    outcomes: Sequence[Outcome],
    *,
    wave_ended: bool,
    plan: sites.Plan | None = None,
) -> tuple[GateStatus, ...]:
    """Return what the failed installs of the rollout so far say: of all boards, then of each if there are several.

    Args:
        rollout: the rollout.
        assignments: all of the rollout.
        outcomes: of each of them (`outcomes_of`).
        wave_ended: no result of the present wave is to come.
        plan: of the sites (`plan_of`), where they are the unit; without it only their first failures count.
    """
    if not rollout.policy.failure_gate.enabled:
        return ()
    pooled, boards = count_trials(rollout, assignments, outcomes, plan)
    whole = judge(rollout, None, pooled)
    whole = _judged(rollout, whole, _wave_of(rollout, assignments, outcomes), pooled, wave_ended=wave_ended)
    if len(rollout.bundles) < 2:
        return (whole,)
    of_board = {target: judge(rollout, target, boards[target], wave_ended=wave_ended) for target in sorted(boards)}
    blamed = _blamed(rollout, whole, boards, _limit(rollout))
    if blamed is not None:
        of_board[blamed] = msgspec.structs.replace(
            of_board[blamed],
            outcome="fail",
            action=whole.action,
            reason=f"{blamed}, and no other: {whole.reason}",
            numbers=of_board[blamed].numbers | {f"{ALL_BOARDS}{name}": value for name, value in whole.numbers.items()},
        )
        whole = msgspec.structs.replace(whole, outcome="wait", action=None, reason=f"{whole.reason}; all on {blamed}")
    return (whole, *of_board.values())


def _limit(rollout: Rollout) -> float:
    gate = rollout.policy.failure_gate
    return min(0.999, (gate.max_failure_percentage + (gate.max_silent_percentage or 0.0)) / 100)


def judge(rollout: Rollout, target: str | None, trials: Trials, *, wave_ended: bool = False) -> GateStatus:
    """Return `fail` where trials, of one board or of all (None), are proof; else `wait` or, at a wave's end, `pass`."""
    gate, weights = rollout.policy.failure_gate, weights_of(rollout)
    limit, weight = _limit(rollout), weights.pooled if target is None else weights.board
    best, failures, executed = peak(trials, limit)
    lean = log_e_value(trials.failures, trials.executed, limit) if trials.executed else 0.0
    of_sites: dict[str, Number] = {}
    if trials.shares is not None:
        best, lean, of_sites = _with_shares(trials.shares, sites.bets_of(rollout), best, lean, limit)
    threshold = 1 / (rollout.policy.alpha * weight)
    proven = best >= math.log(threshold) and trials.failures >= gate.min_failures
    unit = "sites" if rollout.failure_unit == "SITE" else "devices"
    counts = f"{trials.failures} of {trials.executed} devices failed" + (
        " (first failures of their sites)" if unit == "sites" else ""
    )
    numbers: dict[str, Number] = {
        "failures": trials.failures,
        "dispatched": trials.executed,
        "unit": unit,
        "e_value": _exp(best),
        "e_value_now": _exp(lean),
        "e_threshold": threshold,
        "peak_failures": failures,
        "peak_dispatched": executed,
        "failed_at": " ".join(map(str, trials.failed_at[:MOST_NAMED])),
        "limit_percentage": 100 * limit,
        "min_failures": gate.min_failures,
    }
    numbers |= of_sites
    if proven:
        reason = f"{counts}: proof against at most {100 * limit:g} % (E {_exp(best):.3g} >= {threshold:.4g})"
        outcome: GateOutcome = "fail"
    else:
        reason = f"{counts} (E {_exp(best):.3g}, stops at {threshold:.4g})"
        outcome = "pass" if wave_ended else "wait"
    return GateStatus(
        gate="failure",
        target=target,
        outcome=outcome,
        action=gate.action if proven else None,
        reason=reason if target is None else f"{target}: {reason}",
        numbers=numbers,
        log_e=best,
        weight=weight,
    )


def _with_shares(
    shares: sites.Shares, bets: sites.Bets, first_failures: float, lean: float, limit: float
) -> tuple[float, float, dict[str, Number]]:
    """Return ln E of first failures and shares together, which way they lean, and the numbers of the shares.

    The two move on two clocks, so each stops by itself, by its part of the gate's weight (weights.py).
    """
    found = list(shares.sites.values())
    of_shares, now = sites.peak(found, shares.largest, limit, bets)
    best = max(0.0, math.log(1 - bets.weight) + first_failures, math.log(bets.weight) + of_shares)
    return (
        best,
        max(lean, now),
        {
            "e_first_failures": _exp(first_failures),
            "e_site_shares": _exp(of_shares),
            "sites": len(found),
            "largest_site": shares.largest,
            "site_shares": sites.to_text(found),
        },
    )


class _Wave(msgspec.Struct, frozen=True):
    """The devices of the present wave that got the release."""

    devices: int
    pending: int
    failures: int
    silent: int


def _wave_of(rollout: Rollout, assignments: Sequence[Assignment], outcomes: Sequence[Outcome]) -> _Wave:
    wave = rollout.wave
    inside = [
        (one, result)
        for one, result in zip(assignments, outcomes, strict=True)
        if one.wave == wave and one.arm != "control"
    ]
    results = [result for _, result in inside]
    return _Wave(
        len(inside),
        sum(result in PENDING for result in results),
        sum(result in FAILURES for result in results),
        sum(is_silent(one, result, rollout.policy) for one, result in inside),
    )


def _judged(rollout: Rollout, status: GateStatus, wave: _Wave, trials: Trials, *, wave_ended: bool) -> GateStatus:
    """Add what the end of the wave says: a small wave that failed as a whole, or failures that only lean."""
    gate = rollout.policy.failure_gate
    numbers = status.numbers | {
        "pending": wave.pending,
        "silent": wave.silent,
        "wave_failures": wave.failures,
        "wave_devices": wave.devices,
    }
    outcome, action, reason = status.outcome, status.action, status.reason
    on_inconclusive: Action | None = "PAUSE" if gate.on_inconclusive == "PAUSE" else None
    if outcome == "fail":
        pass
    elif not wave_ended:
        reason = f"{reason}, {wave.pending} not finished"
    elif 0 < wave.devices < gate.min_failures and wave.failures == wave.devices and not wave.silent:
        outcome, action, reason = "fail", gate.action, f"all {wave.devices} devices of the wave failed"
    elif 0 < wave.devices < gate.min_failures and wave.failures == wave.devices:
        outcome, action = "inconclusive", on_inconclusive
        reason = f"all {wave.devices} devices of the wave failed or are silent: too few to tell the two apart"
    elif trials.failures and float(str(numbers["e_value_now"])) >= 1:
        outcome, action = "inconclusive", on_inconclusive
        reason = f"{reason}: likelier above the limit than at it, not proven"
    else:
        outcome = "pass"
    return msgspec.structs.replace(status, outcome=outcome, action=action, reason=reason, numbers=numbers)


def _blamed(rollout: Rollout, whole: GateStatus, boards: dict[str, Trials], limit: float) -> str | None:
    """Return the one board whose failures are the proof over all boards; None where they are several boards'.

    Its failures are more than its share of the devices explains, and those of the other boards are far from proof.
    """
    if whole.outcome != "fail" or whole.log_e < math.log(1 / (rollout.policy.alpha * whole.weight)):
        return None
    halted = {halt.target for halt in rollout.halted}
    going = {target: trials for target, trials in boards.items() if target not in halted}
    failures = sum(trials.failures for trials in going.values())
    executed = sum(trials.executed for trials in going.values())
    worst = max(sorted(going), key=lambda target: going[target].failures / max(1, going[target].executed))
    own = going[worst]
    others, beside = failures - own.failures, executed - own.executed
    if len(going) < 2 or own.failures < rollout.policy.failure_gate.min_failures or not beside:
        return None
    chance = len(going) * _upper_tail(own.failures, failures, own.executed / executed)
    rest = log_e_value(others, beside, limit)
    far = math.log(1 / (rollout.policy.alpha * whole.weight)) / 2
    return worst if chance <= CONCENTRATED and rest < far else None


def _upper_tail(at_least: int, of: int, share: float) -> float:
    """Return the chance of at least so many of the failures on a board that has this share of the devices."""
    return math.exp(log_betainc(at_least, of - at_least + 1, share))


def _exp(log_value: float) -> float:
    """Return e^x for people: past 1e300 it no longer matters how large."""
    return math.exp(min(log_value, 690.0))
