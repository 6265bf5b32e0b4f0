"""The failure gate keeps its promise over all looks, and stops a catastrophe at once."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewright.fleet.core.gates.failures import failure_gates
from edgewright.fleet.core.gates.status import GateStatus
from edgewright.fleet.core.gates.trials import Trials, count_trials, peak
from edgewright.fleet.core.gates.weights import weights_of
from edgewright.fleet.core.outcomes import Outcome, outcomes_of
from edgewright.fleet.core.rows import Assignment, BoardHalt, Rollout
from edgewright.fleet.core.statistics import log_e_process

from ..order_rows import order, rollout

LIMIT = 0.02
FIVE = ("a", "b", "c", "d", "e")


def gates(
    orders: Sequence[Assignment], *, now_s: float = 10.0, ended: bool = True, **given: Any
) -> tuple[GateStatus, ...]:
    return gates_of(rollout(**given), orders, now_s=now_s, ended=ended)


def gates_of(
    run: Rollout, orders: Sequence[Assignment], *, now_s: float = 10.0, ended: bool = True
) -> tuple[GateStatus, ...]:
    return failure_gates(run, orders, outcomes_of(run, orders, now_s), wave_ended=ended)


def verdict(phases: Sequence[str | None], *, ended: bool = True, **given: Any) -> str:
    return gates([order(n, phase) for n, phase in enumerate(phases)], ended=ended, **given)[0].outcome


def fails(rate: float, devices: int, draw: random.Random) -> list[Outcome]:
    return ["failed" if draw.random() < rate else "succeeded" for _ in range(devices)]


def halted_after(rate: float, devices: int, seed: int, boards: tuple[str, ...] = ("t",)) -> int | None:
    """Return how many devices had failed when the gate stopped everything; None if it did not.

    The e-value only falls between failures, so it is enough to look at each of them.
    """
    run = rollout(boards=boards)
    results = fails(rate, devices, random.Random(seed))
    orders = [order(n, None, target=boards[n % len(boards)]) for n in range(devices)]
    seen = [n + 1 for n, result in enumerate(results) if result == "failed"]
    for failures, executed in enumerate(seen, start=1):
        whole = failure_gates(run, orders[:executed], results[:executed], wave_ended=False)[0]
        if whole.outcome == "fail":
            return failures
        if failures > 60:
            return None
    return None


def test_a_bad_release_is_stopped_early_with_all_weights() -> None:
    """What `bench/gates.py` measures over 500 runs: at most 10 failed devices (median) at 10 %, 4 at 30 %."""
    for boards in (("t",), FIVE):
        assert sorted(halted_after(0.10, 2000, seed, boards) or 10_000 for seed in range(41))[20] <= 10
        assert sorted(halted_after(0.30, 2000, seed, boards) or 10_000 for seed in range(41))[20] <= 4


def test_a_release_that_fails_everywhere_is_stopped_at_the_third_failure() -> None:
    assert halted_after(1.0, 20, 0) == halted_after(1.0, 20, 0, FIVE) == 3


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
    (status,) = gates(orders, failureGate={"onInconclusive": "CONTINUE"})
    assert (status.outcome, status.action) == ("inconclusive", None)


def test_a_gate_that_is_off_says_nothing() -> None:
    assert gates([order(n, "failed") for n in range(9)], failureGate={"enabled": False}) == ()


def test_the_numbers_behind_a_stop_are_there_and_give_the_e_value_again() -> None:
    (status,) = gates([order(n, "failed" if n in {1, 4, 5} else "confirmed") for n in range(12)])
    assert status.numbers["failed_at"] == "2 5 6"
    again = Trials(executed=12, failed_at=[2, 5, 6])
    best, failures, executed = peak(again, LIMIT)
    assert status.numbers["e_value"] == pytest.approx(math.exp(best))
    assert (failures, executed) == (status.numbers["peak_failures"], status.numbers["peak_dispatched"]) == (3, 6)
    assert status.numbers["e_threshold"] == pytest.approx(20 / 0.7)
    assert "3 of 12 devices failed" in status.reason
    assert status.outcome == "fail"


@settings(max_examples=200, deadline=None)
@given(st.lists(st.booleans(), max_size=80), st.sampled_from([0.005, 0.02, 0.2, 0.5]))
def test_the_peak_is_that_of_all_prefixes(failed: list[bool], limit: float) -> None:
    trials = Trials(executed=len(failed), failed_at=[n for n, one in enumerate(failed, start=1) if one])
    assert peak(trials, limit)[0] == pytest.approx(log_e_process(failed, limit))


def test_controls_are_no_trials_and_graduated_ones_are() -> None:
    orders = [
        order(0, "failed"),
        *(order(n, None, arm="control", block=0) for n in range(1, 9)),
        order(9, "failed", arm="graduated"),
    ]
    status = gates(orders, ended=False)[0]
    assert (status.numbers["failures"], status.numbers["dispatched"]) == (2, 2)


def test_rows_are_counted_in_dispatch_order_however_they_come() -> None:
    orders = [order(n, "failed" if n > 40 else "confirmed") for n in range(50)]
    assert gates(orders[::-1])[0].numbers == gates(orders)[0].numbers


# Silence


def test_silence_at_the_horizon_is_a_failure_and_stays_one() -> None:
    silent = [order(n, None) for n in range(3)]
    assert gates(silent, now_s=99.0, ended=False, horizonSeconds=100)[0].outcome == "wait"
    assert gates(silent, now_s=100.0, horizonSeconds=100)[0].outcome == "fail"
    late = [order(n, "confirmed", started_s=101.0, ended_s=101.0) for n in range(3)]
    assert gates(late, now_s=102.0, horizonSeconds=100)[0].outcome == "fail"


def with_controls(phases: Sequence[str | None], **fields: Any) -> list[Assignment]:
    treated = [order(2 * n, phase, block=n, **fields) for n, phase in enumerate(phases)]
    return treated + [order(2 * n + 1, None, block=n, arm="control") for n in range(len(phases))]


@pytest.mark.parametrize("started_s", [None, 150.0])
def test_silence_is_left_to_the_controls_where_there_are_any(started_s: float | None) -> None:
    """A device that comes back too late did not fail more than one that never comes."""
    orders = with_controls([None] * 10, started_s=started_s)
    status = gates(orders, now_s=200.0, ended=False, horizonSeconds=100)[0]
    assert (status.numbers["failures"], status.numbers["silent"], status.outcome) == (0, 10, "wait")


def test_a_device_that_began_and_fell_silent_failed() -> None:
    orders = with_controls([None] * 10, started_s=5.0)
    assert gates(orders, now_s=200.0, ended=False, horizonSeconds=100)[0].numbers["failures"] == 10


def test_silence_counts_against_a_raised_limit_where_the_policy_gives_one() -> None:
    def status(percentage: float) -> GateStatus:
        orders = with_controls([None, "confirmed"] * 5)
        gate = {"maxSilentPercentage": percentage}
        return gates(orders, now_s=200.0, ended=False, horizonSeconds=100, failureGate=gate)[0]

    assert (status(0).numbers["failures"], status(0).numbers["limit_percentage"]) == (5, 2)
    assert status(0).outcome == "fail"
    assert (status(60).numbers["limit_percentage"], status(60).outcome) == (62, "wait")


@pytest.mark.parametrize(
    "gate", [{"enabled": False}, {"metrics": [{"metric": "errors"}]}], ids=["no control gate", "silence not tested"]
)
def test_silence_that_nobody_tests_is_a_failure(gate: dict[str, Any]) -> None:
    status = gates(with_controls([None] * 10), now_s=200.0, ended=False, horizonSeconds=100, controlGate=gate)[0]
    assert status.numbers["failures"] == 10


def test_silence_on_a_board_without_controls_is_a_failure() -> None:
    orders = with_controls(["confirmed"] * 4) + [order(8 + n, None, target="u") for n in range(4)]
    assert gates(orders, now_s=200.0, ended=False, horizonSeconds=100, boards=("t", "u"))[0].numbers["failures"] == 4


def test_silence_in_a_wave_without_controls_is_a_failure_whatever_earlier_waves_drew() -> None:
    """Else nobody would test it: blocks of the first wave say nothing about what bricks the devices of the last."""
    later = [msgspec.structs.replace(order(40 + n, None), wave=1) for n in range(6)]
    status = gates([*with_controls([None] * 3), *later], now_s=200.0, horizonSeconds=100)[0]
    assert (status.numbers["failures"], status.outcome) == (6, "fail")


def test_a_small_wave_that_is_only_silent_asks_a_person() -> None:
    orders = with_controls([None])
    status = gates(orders, now_s=200.0, horizonSeconds=100)[0]
    assert (status.outcome, status.action) == ("inconclusive", "PAUSE")


# Sites


def site_run(**given: Any) -> Rollout:
    return rollout(row={"failure_unit": "SITE"}, **given)


def test_a_site_fails_once() -> None:
    """Ten failures on one site are one; after it, its devices are no trials."""
    orders = [order(n, "failed", site="s1") for n in range(10)] + [
        order(n, "confirmed", site="s2") for n in range(10, 20)
    ]
    status = gates_of(site_run(), orders)[0]
    assert (status.numbers["failures"], status.numbers["dispatched"], status.outcome) == (1, 11, "pass")
    assert gates(orders)[0].outcome == "fail"


def test_three_sites_that_fail_are_proof_and_devices_without_a_site_stand_alone() -> None:
    assert gates_of(site_run(), [order(n, "failed", site=f"s{n}") for n in range(3)])[0].outcome == "fail"
    assert gates_of(site_run(), [order(n, "failed") for n in range(3)])[0].outcome == "fail"


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.booleans(), st.booleans()), min_size=1, max_size=60), st.booleans())
def test_who_has_no_result_yet_only_lowers_the_evidence(devices: list[tuple[int, bool, bool]], by_site: bool) -> None:
    run = site_run() if by_site else rollout()
    orders = [order(n, None, site=f"s{site}" if site else "") for n, (site, _, _) in enumerate(devices)]
    final: list[Outcome] = ["failed" if failed else "succeeded" for _, failed, _ in devices]
    known: list[Outcome] = [
        result if is_known else "queued" for result, (_, _, is_known) in zip(final, devices, strict=True)
    ]
    now, later = (count_trials(run, orders, outcomes)[0] for outcomes in (known, final))
    assert peak(now, LIMIT)[0] <= peak(later, LIMIT)[0] + 1e-9


def test_clusters_do_not_stop_a_release_within_its_limit() -> None:
    """2 % of the devices fail, all of them on one site in twenty: by device that is proof, by site it is not."""
    stops = {"DEVICE": 0, "SITE": 0}
    runs, sites, size = 60, 40, 30
    for seed in range(runs):
        draw = random.Random(seed)
        rate_of = [0.4 if draw.random() < 0.05 else 0.0 for _ in range(sites)]
        places = [site for site in range(sites) for _ in range(size)]
        draw.shuffle(places)
        orders = [order(n, None, site=f"s{site}") for n, site in enumerate(places)]
        results: list[Outcome] = ["failed" if draw.random() < rate_of[site] else "succeeded" for site in places]
        for unit in stops:
            run = msgspec.structs.replace(rollout(), failure_unit=unit)
            stops[unit] += failure_gates(run, orders, results, wave_ended=False)[0].outcome == "fail"
    assert stops["SITE"] / runs <= 0.05
    assert stops["DEVICE"] / runs > 0.08, "else this test would show nothing"


# Boards


def on_boards(phase_of: dict[str, list[str]]) -> list[Assignment]:
    """Return orders that go round the boards."""
    rounds = max(len(phases) for phases in phase_of.values())
    rows = [(board, phases[n]) for n in range(rounds) for board, phases in phase_of.items() if n < len(phases)]
    return [order(n, phase, target=board) for n, (board, phase) in enumerate(rows)]


def stopped(statuses: Sequence[GateStatus]) -> list[str | None]:
    return [status.target for status in statuses if status.action == "ROLLBACK"]


def test_failures_of_one_board_stop_that_board() -> None:
    phases = {board: ["confirmed"] * 8 for board in FIVE} | {"b": ["failed"] * 8}
    statuses = gates_of(rollout(boards=FIVE), on_boards(phases), ended=False)
    assert stopped(statuses) == ["b"]
    assert "all on b" in statuses[0].reason


def test_failures_of_all_boards_stop_the_rollout() -> None:
    phases = {board: ["failed", "confirmed"] * 4 for board in FIVE}
    assert stopped(gates_of(rollout(boards=FIVE), on_boards(phases), ended=False))[0] is None


def test_few_failures_on_one_of_two_boards_are_no_reason_to_spare_the_other() -> None:
    """Three of three on one of two boards happens by chance in a quarter of the cases."""
    phases = {"a": ["failed"] * 3, "b": ["confirmed"] * 3}
    assert stopped(gates_of(rollout(boards=("a", "b")), on_boards(phases), ended=False))[0] is None


def test_a_board_that_is_halted_is_held_against_no_other() -> None:
    phases = {board: ["confirmed"] * 8 for board in FIVE} | {"b": ["failed"] * 8}
    halt = BoardHalt(target="b", action="ROLLBACK", reason="", at_s=1)
    whole = gates_of(rollout(boards=FIVE, row={"halted": (halt,)}), on_boards(phases), ended=False)[0]
    assert (whole.numbers["failures"], whole.numbers["dispatched"], whole.outcome) == (0, 32, "wait")


def test_a_board_is_stopped_by_its_own_gate_where_the_others_dilute_it() -> None:
    phases = {"a": (["failed"] + ["confirmed"] * 9) * 12} | {f"x{n}": ["confirmed"] * 120 for n in range(9)}
    statuses = gates_of(rollout(boards=tuple(phases)), on_boards(phases), ended=False)
    assert statuses[0].log_e < math.log(1 / (0.05 * statuses[0].weight)), "else it shows nothing"
    assert stopped(statuses) == ["a"]


# Weights


@pytest.mark.parametrize("boards", [1, 5, 200])
@pytest.mark.parametrize("policy", [{}, {"controlGate": {"enabled": False}}, {"failureGate": {"enabled": False}}])
def test_the_weights_add_up_to_one(boards: int, policy: dict[str, Any]) -> None:
    run = rollout(boards=tuple(f"b{n}" for n in range(boards)), **policy)
    weights = weights_of(run)
    of_metrics = 9 * (weights.pooled_metric + boards * weights.metric)
    assert weights.pooled + boards * weights.board + of_metrics == pytest.approx(1)
    assert (weights.pooled_metric > 0) == (boards > 1 and run.policy.control_gate.enabled)


def test_a_rollout_from_before_boards_were_pooled_keeps_its_shares_of_alpha() -> None:
    """Its row says nothing of it; the thresholds in its log are those that it began with."""
    run = rollout(boards=tuple("abcde"))
    row = msgspec.json.decode(msgspec.json.encode(run))
    assert row.pop("gate_design")
    before = msgspec.json.decode(msgspec.json.encode(row), type=Rollout)
    weights = weights_of(before)
    assert weights.pooled_metric == 0
    assert weights.metric == pytest.approx(0.3 / 5 / 9)
    assert weights_of(run).pooled_metric == pytest.approx(5 * weights_of(run).metric) == pytest.approx(0.15 / 9)
