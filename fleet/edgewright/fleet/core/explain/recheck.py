"""One gate's numbers in the audit log, computed again: what the log says beside what comes out now."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from ..gates.control import control_gates
from ..gates.failures import ALL_BOARDS, MOST_NAMED, judge
from ..gates.over_boards import LEFT_OUT, pooled_gates
from ..gates.sites import Shares, from_text
from ..gates.status import GateOutcome, GateStatus
from ..gates.trials import Trials
from ..gates.weights import METRICS
from ..observations import GateMemory
from ..orders.storms import breaker_limit
from ..rows import Number, Rollout

MOST_DEVICES = 10_000_000
TOLERANCE = 1e-9
"""Relative: the last digits of a gamma function differ from machine to machine."""


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """One number of a gate: what the log says, and what comes out now."""

    name: str
    recorded: Number
    recomputed: Number
    agrees: bool


class GateCheck(msgspec.Struct, frozen=True, kw_only=True):
    """What one gate said at a decision."""

    gate: str
    target: str | None
    basis: Literal["recomputed", "recorded"]
    """`recorded`: the log names the numbers, but not what they were computed from."""
    outcome: GateOutcome | None
    """What the recomputed numbers lead to; None where they are only recorded."""
    figures: tuple[Figure, ...] = ()
    others: dict[str, Number] = {}
    """Numbers that are only recorded."""
    agrees: bool = True


def statements(numbers: Mapping[str, Any]) -> tuple[dict[tuple[str, str | None], dict[str, Any]], dict[str, Number]]:
    """Return what each gate said, by gate and board, and the numbers that are no gate's."""
    if "gate" in numbers:
        target = numbers.get("target")
        own = {name: value for name, value in numbers.items() if name not in {"gate", "target"}}
        return {(str(numbers["gate"]), None if target is None else str(target)): own}, {}
    spoken: dict[tuple[str, str | None], dict[str, Any]] = {}
    others: dict[str, Number] = {}
    for key, value in numbers.items():
        head, colon, name = key.partition(": ")
        if not colon:
            others[key] = value
            continue
        gate, _, target = head.partition("/")
        spoken.setdefault((gate, target or None), {})[name] = value
    return spoken, others


Tests = Mapping[tuple[str, str | None], GateStatus]
"""What the tests against the controls say, by gate and board."""


def tests_of(rollout: Rollout, memory: GateMemory) -> Tests:
    """Return what the tests say after the blocks so far."""
    return {(status.gate, status.target): status for status in control_gates(rollout, memory, wave_over=True)}


def check_gate(
    rollout: Rollout, memory: GateMemory, tests: Tests, gate: str, target: str | None, numbers: Mapping[str, Any]
) -> list[GateCheck]:
    """Return what a gate's recorded numbers and the recomputed ones say; two checks where it rests on two proofs.

    Args:
        rollout: with its policy and boards.
        memory: after the blocks that were learnt before the decision.
        tests: what those say (`tests_of`).
        gate: its name.
        target: its board; None: all.
        numbers: what was recorded.

    Raises:
        ValueError, LookupError, ArithmeticError, TypeError: no gate can have said this.
    """
    match gate:
        case "failure":
            return _failure_checks(rollout, target, numbers)
        case "abort_config":
            return [_abort_check(numbers)]
        case "storm":
            return [_storm_check(rollout, numbers)]
        case "floor":
            is_below = numbers["security_epoch"] < numbers["security_floor"]
            return [_compared(gate, target, {}, numbers, "fail" if is_below else "pass")]
    if gate not in {*METRICS, "all"}:
        return [GateCheck(gate=gate, target=target, basis="recorded", outcome=None, others=dict(numbers))]
    if target is None and "e_value" not in numbers:
        return [_compared(gate, None, {"blocks": memory.next_block}, numbers, "wait")]
    status = tests.get((gate, target)) if target is not None else _pooled(rollout, memory, gate, numbers)
    if status is None:
        raise ValueError("no block that was learnt before speaks of it")
    return [_compared(gate, target, status.numbers, numbers, status.outcome)]


def _pooled(rollout: Rollout, memory: GateMemory, gate: str, numbers: Mapping[str, Any]) -> GateStatus | None:
    """Return what the blocks of all boards say but those that had been halted by then, as the log names them."""
    left_out = str(numbers.get(LEFT_OUT, "")).split()
    found = pooled_gates(rollout, memory, left_out=left_out, waiting=False)
    return next((status for status in found if status.gate == gate), None)


def _failure_checks(rollout: Rollout, target: str | None, numbers: Mapping[str, Any]) -> list[GateCheck]:
    """Check the gate itself, and the proof over all boards where that is why this board was stopped."""
    whole = {name.removeprefix(ALL_BOARDS): numbers[name] for name in numbers if name.startswith(ALL_BOARDS)}
    own = {name: value for name, value in numbers.items() if not name.startswith(ALL_BOARDS)}
    checks = [_failure_check(rollout, target, own)]
    return [*checks, _failure_check(rollout, None, whole)] if whole else checks


def _failure_check(rollout: Rollout, target: str | None, numbers: Mapping[str, Any]) -> GateCheck:
    failed_at = [int(each) for each in str(numbers["failed_at"]).split()]
    executed, failures = int(numbers["dispatched"]), int(numbers["failures"])
    if executed > MOST_DEVICES:
        raise ValueError(f"{executed} devices; no rollout has more than {MOST_DEVICES}")
    is_ordered = all(one < other for one, other in zip([0, *failed_at], [*failed_at, executed + 1], strict=True))
    if not is_ordered or len(failed_at) != min(failures, MOST_NAMED):
        raise ValueError(f"{failures} failures of {executed} do not stand at {numbers['failed_at']}")
    if failures > MOST_NAMED:  # only the first ones are named: the rest cannot be placed
        return GateCheck(gate="failure", target=target, basis="recorded", outcome=None, others=dict(numbers))
    shares = _shares(numbers)
    if shares is not None and len(shares.sites) != int(numbers["sites"]):  # too many to name them
        return GateCheck(gate="failure", target=target, basis="recorded", outcome=None, others=dict(numbers))
    status = judge(rollout, target, Trials(executed=executed, failed_at=failed_at, shares=shares))
    return _compared("failure", target, status.numbers, numbers, _with_wave(rollout, status, numbers))


def _shares(numbers: Mapping[str, Any]) -> Shares | None:
    if "site_shares" not in numbers:
        return None
    found = from_text(str(numbers["site_shares"]), MOST_DEVICES)
    if int(numbers["largest_site"]) < 1:
        raise ValueError(f"the largest site has {numbers['largest_site']} devices")
    sites = {str(place): share for place, share in enumerate(found)}
    return Shares(sites=sites, largest=int(numbers["largest_site"]))


def _with_wave(rollout: Rollout, status: GateStatus, numbers: Mapping[str, Any]) -> GateOutcome:
    """Return the outcome with the rules of a small wave and of a leaning one (gates/failures.py)."""
    devices, failures = int(numbers.get("wave_devices", 0)), int(numbers.get("wave_failures", 0))
    if status.outcome == "fail":
        return "fail"
    if 0 < devices < rollout.policy.failure_gate.min_failures and failures == devices:
        return "inconclusive" if numbers.get("silent") else "fail"
    is_leaning = status.numbers["failures"] and float(str(status.numbers["e_value_now"])) >= 1
    return "inconclusive" if is_leaning else "pass"


def _abort_check(numbers: Mapping[str, Any]) -> GateCheck:
    failures, executed = int(numbers["failures"]), int(numbers["executed"])
    share = 100 * failures / executed if executed else 0.0
    reached = executed >= numbers["min_number_of_executed_things"] and share >= numbers["threshold_percentage"]
    return _compared("abort_config", None, {"percentage": share}, numbers, "fail" if reached else "pass")


def _storm_check(rollout: Rollout, numbers: Mapping[str, Any]) -> GateCheck:
    limit = breaker_limit(rollout.policy)
    is_storm = numbers["orders_last_day"] > limit * numbers["devices"]
    return _compared("storm", None, {"limit_per_device": limit}, numbers, "inconclusive" if is_storm else "pass")


def _compared(
    gate: str,
    target: str | None,
    recomputed: Mapping[str, Number],
    recorded: Mapping[str, Any],
    outcome: GateOutcome,
) -> GateCheck:
    figures = tuple(
        Figure(name=name, recorded=recorded.get(name), recomputed=_json(value), agrees=_same(recorded.get(name), value))
        for name, value in recomputed.items()
    )
    others = {name: value for name, value in recorded.items() if name not in recomputed}
    return GateCheck(
        gate=gate,
        target=target,
        basis="recomputed",
        outcome=outcome,
        figures=figures,
        others=others,
        agrees=all(figure.agrees for figure in figures),
    )


def as_it_stands(status: GateStatus) -> GateCheck:
    numbers = {name: _json(value) for name, value in status.numbers.items()}
    return GateCheck(gate=status.gate, target=status.target, basis="recomputed", outcome=status.outcome, others=numbers)


def _same(recorded: Any, recomputed: Number) -> bool:
    if isinstance(recomputed, float) and isinstance(recorded, int | float | str):
        return math.isclose(float(recorded), recomputed, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
    return bool(recorded == recomputed)


def _json(value: Number) -> Number:
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def disagreements(check: GateCheck) -> list[str]:
    return [
        f"{name_of(check.gate, check.target)}: {figure.name} is recorded as {figure.recorded}, "
        f"and comes out as {figure.recomputed}"
        for figure in check.figures
        if not figure.agrees
    ]


def name_of(gate: str, target: str | None) -> str:
    return gate if target is None else f"{gate} on {target}"
