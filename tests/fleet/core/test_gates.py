"""The failure gate keeps its promise over all looks, and stops a catastrophe at once."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest

from edgewright.fleet.core.gates import abort_gates, failure_gate
from edgewright.fleet.core.policy import policy_from
from edgewright.fleet.core.rows import Assignment, Rollout
from edgewright.fleet.core.statistics import log_e_process, log_e_value

LIMIT, ALPHA, FLOOR = 0.02, 0.05, 3


def halted_after(rate: float, devices: int, seed: int) -> int | None:
    """Return how many devices had failed when the e-process stopped a wave; None if it did not."""
    draw = random.Random(seed)
    failures = 0
    for executed in range(1, devices + 1):
        if draw.random() < rate:
            failures += 1
            if failures >= FLOOR and log_e_value(failures, executed, LIMIT) >= math.log(1 / ALPHA):
                return failures
    return None


def test_a_release_at_the_limit_is_falsely_stopped_less_often_than_alpha() -> None:
    runs = 400
    halts = sum(halted_after(LIMIT, 2000, seed) is not None for seed in range(runs))
    assert halts / runs <= ALPHA


def test_a_bad_release_is_stopped_early() -> None:
    at_ten = sorted(halted_after(0.10, 2000, seed) or 10_000 for seed in range(101))
    at_thirty = sorted(halted_after(0.30, 2000, seed) or 10_000 for seed in range(101))
    assert at_ten[50] <= 10
    assert at_thirty[50] <= 4


def test_a_release_that_fails_everywhere_is_stopped_at_the_third_failure() -> None:
    assert halted_after(1.0, 2000, 0) == 3


def test_devices_without_a_result_can_only_delay_the_stop() -> None:
    draw = random.Random(1)
    for _ in range(50):
        final = [draw.random() < 0.2 for _ in range(60)]
        known = [failed and draw.random() < 0.5 for failed in final]
        assert log_e_process(known, LIMIT) <= log_e_process(final, LIMIT)


def order(position: int, phase: str | None, wave: int = 0) -> Assignment:
    return Assignment(
        device=f"d{position}",
        target="t",
        wave=wave,
        position=position,
        version="2",
        bundle="n",
        previous_version="1",
        previous_bundle="o",
        command=f"c{position}",
        dispatched_s=0.0,
        phase=phase,  # type: ignore[arg-type]  # names of phases
        started_s=1.0 if phase else None,
        ended_s=1.0 if phase else None,
    )


def rollout(wave_size: int, wave: int = 0, **policy: Any) -> Rollout:
    return Rollout(
        id="r",
        model="m",
        version="2",
        bundles=(),
        policy=policy_from(policy, where="test"),
        seed=1,
        created_s=0,
        wave=wave,
        wave_size=wave_size,
    )


def verdict(phases: list[str | None], *, ended: bool = True, **policy: Any) -> str:
    orders = [order(position, phase) for position, phase in enumerate(phases)]
    return failure_gate(rollout(len(orders), **policy), 10.0, orders, wave_ended=ended).outcome


@pytest.mark.parametrize(
    ("phases", "expected"),
    [
        (["confirmed"], "pass"),
        (["failed"], "fail"),  # 1 of 1: a wave below the floor whose every device failed
        (["failed", "refused"], "fail"),  # 2 of 2
        (["failed", "confirmed"], "inconclusive"),  # 1 of 2 leans towards bad and proves nothing
        (["failed"] * 3, "fail"),
        (["failed"] + ["confirmed"] * 99, "pass"),  # 1 % is within the limit
        (["rolled_back"] * 3 + ["confirmed"] * 7, "fail"),
    ],
)
def test_the_rules_for_small_waves(phases: list[str | None], expected: str) -> None:
    assert verdict(phases) == expected


def test_the_third_failure_stops_while_thousands_are_still_out() -> None:
    assert verdict(["failed"] * 2 + [None] * 5000, ended=False) == "wait"
    assert verdict(["failed"] * 3 + [None] * 5000, ended=False) == "fail"


def test_inconclusive_goes_on_where_the_policy_says_so() -> None:
    orders = [order(0, "failed"), order(1, "confirmed")]
    given = rollout(2, failureGate={"onInconclusive": "CONTINUE"})
    status = failure_gate(given, 10.0, orders, wave_ended=True)
    assert (status.outcome, status.action) == ("inconclusive", None)


def test_the_numbers_behind_a_stop_are_there() -> None:
    status = failure_gate(rollout(3), 10.0, [order(n, "failed") for n in range(3)], wave_ended=True)
    assert status.numbers["failures"] == status.numbers["dispatched"] == 3
    assert float(str(status.numbers["e_value"])) > float(str(status.numbers["e_threshold"])) == 20
    assert "3 of 3 devices failed" in status.reason


@pytest.mark.parametrize(
    ("kind", "phases", "expected"),
    [
        ("FAILED", ["failed", "confirmed", "confirmed", None], "pass"),  # only 3 executed
        ("FAILED", ["failed", "confirmed", "confirmed", "confirmed"], "fail"),
        ("REJECTED", ["failed", "confirmed", "confirmed", "confirmed"], "pass"),
        ("REJECTED", ["refused", "confirmed", "confirmed", "confirmed"], "fail"),
        ("ALL", ["refused", "confirmed", "confirmed", "confirmed"], "fail"),
        ("ALL", ["refused"] + ["confirmed"] * 5, "pass"),  # 16.7 % is not over 20 %
    ],
)
def test_abort_criteria_as_in_aws(kind: str, phases: list[str | None], expected: str) -> None:
    criterion = {
        "failureType": kind,
        "action": "CANCEL",
        "thresholdPercentage": 20,
        "minNumberOfExecutedThings": 4,
    }
    given = rollout(9, abortConfig={"criteriaList": [criterion]})
    (status,) = abort_gates(given, 10.0, [order(n, phase) for n, phase in enumerate(phases)])
    assert status.outcome == expected
    assert status.action == ("CANCEL" if expected == "fail" else None)


def test_silence_at_the_horizon_is_a_failure_and_stays_one() -> None:
    given = rollout(3, horizonSeconds=100)
    silent = [order(n, None) for n in range(3)]
    assert failure_gate(given, 99.0, silent, wave_ended=False).outcome == "wait"
    assert failure_gate(given, 100.0, silent, wave_ended=True).outcome == "fail"
    late = [order(n, "confirmed") for n in range(3)]
    late = [
        Assignment(**{name: getattr(one, name) for name in one.__struct_fields__} | {"ended_s": 101.0}) for one in late
    ]
    assert failure_gate(given, 102.0, late, wave_ended=True).outcome == "fail"
