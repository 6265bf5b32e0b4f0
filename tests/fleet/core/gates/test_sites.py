"""The bet on shares of failed devices keeps its promise where failures come in clusters, and sees what a site loses."""

from __future__ import annotations

import itertools
import math
import random
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewright.fleet.core.explain.recheck import check_gate
from edgewright.fleet.core.gates import sites
from edgewright.fleet.core.gates.failures import failure_gates
from edgewright.fleet.core.observations import GateMemory
from edgewright.fleet.core.outcomes import Outcome
from edgewright.fleet.core.rows import Assignment, BoardHalt, Device, Number, Rollout

from ..order_rows import order, rollout

LIMIT = 0.02
CORRELATION = 0.05
BETS = sites.bets_of(rollout())


def rate(mean: float, draw: random.Random, correlation: float = CORRELATION) -> float:
    spread = 1 / correlation - 1
    return draw.betavariate(mean * spread, (1 - mean) * spread)


def shares(mean: float, sizes: list[int], draw: random.Random, correlation: float = CORRELATION) -> list[sites.Share]:
    found = []
    for size in sizes:
        own = rate(mean, draw, correlation)
        found.append((sum(draw.random() < own for _ in range(size)), size))
    return found


def false_stops(sizes: list[int], *, correlation: float = CORRELATION, runs: int = 300, mean: float = LIMIT) -> float:
    proof, draw = math.log(1 / 0.05), random.Random(len(sizes))
    found = [
        sites.peak(shares(mean, sizes, draw, correlation), max(sizes), LIMIT, BETS)[0] >= proof for _ in range(runs)
    ]
    return sum(found) / runs


@pytest.mark.parametrize("correlation", [0.01, 0.05, 0.5])
def test_false_stops_are_within_alpha_whatever_the_correlation(correlation: float) -> None:
    assert false_stops([20] * 100, correlation=correlation) <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 300)


def test_false_stops_are_within_alpha_where_sites_differ_in_size() -> None:
    draw = random.Random(1)
    sizes = [draw.choice((1, 3, 10, 40, 80)) for _ in range(120)]
    assert false_stops(sizes) <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 300)


def test_three_percent_of_the_devices_is_found() -> None:
    """First failures alone find it in one of five runs."""
    assert false_stops([50] * 400, mean=0.03, runs=30) >= 0.9


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 30), st.integers(0, 30)), min_size=1, max_size=20), st.integers(0, 19))
def test_one_failure_more_only_raises_the_evidence(sizes: list[tuple[int, int]], place: int) -> None:
    before = [(min(failed, planned), planned) for planned, failed in sizes]
    failed, planned = before[place % len(before)]
    after = list(before)
    after[place % len(before)] = (min(planned, failed + 1), planned)
    largest = max(size for _, size in before)
    assert sites.peak(before, largest, LIMIT, BETS)[0] <= sites.peak(after, largest, LIMIT, BETS)[0] + 1e-12


@pytest.mark.parametrize("design", [1, 2])
def test_the_bets_are_a_whole_and_cannot_go_bankrupt(design: Literal[1, 2]) -> None:
    bets = sites.bets_of(rollout(row={"gate_design": design}))
    assert math.fsum(bets.parts) == pytest.approx(1)
    assert len(bets.parts) == len(bets.stakes)
    assert all(0 < stake < 1 for stake in bets.stakes)
    assert 0 < bets.weight < 1


@settings(max_examples=100, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 6), min_size=1, max_size=4),
    chances=st.lists(st.floats(0, 1), min_size=4, max_size=4),
    limit=st.floats(0.01, 0.9),
    level=st.floats(1, 4),
)
def test_it_gains_nothing_where_no_site_is_expected_to_lose_more_than_the_limit(
    sizes: list[int], chances: list[float], limit: float, level: float
) -> None:
    """Exactly, over all outcomes of sites that fail as a whole, by one device or not at all, and wherever one stops."""
    largest = max(sizes)
    ends = stopped = 0.0
    for lost in itertools.product(("nothing", "one", "all"), repeat=len(sizes)):
        chance, found = 1.0, list[sites.Share]()
        for size, share, how in zip(sizes, chances, lost, strict=False):
            whole = limit * share
            one = min((limit - whole) * size, 1 - whole)  # so that the share that is expected is at most the limit
            chance *= {"nothing": 1 - whole - one, "one": one, "all": whole}[how]
            found.append(({"nothing": 0, "one": 1, "all": size}[how], size))
        path = [math.exp(sites.peak(found[: n + 1], largest, limit, BETS)[1]) for n in range(len(found))]
        ends += chance * path[-1]
        stopped += chance * next((each for each in path if each >= level), path[-1])
    assert ends <= 1 + 1e-9
    assert stopped <= 1 + 1e-9


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 60), st.integers(0, 60)), max_size=60))
def test_shares_are_read_back_as_they_were_written(found: list[tuple[int, int]]) -> None:
    rows = [(min(failed, planned), planned) for planned, failed in found]
    assert sites.from_text(sites.to_text(rows), 100) == rows


@pytest.mark.parametrize("text", ["3/2", "1/0", "-1/5", "1/5*0", "1/5*101", "1", "1/2/3", "a/b"])
def test_what_no_gate_wrote_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        sites.from_text(text, 100)


def test_too_many_sites_are_not_named() -> None:
    assert sites.to_text([(n % 2, 5) for n in range(sites.MOST_NAMED + 1)]) == ""


# Through the gate


def device(name: str, site: str, *, target: str = "t", enrolled_s: float = 0.0) -> Device:
    return Device(
        id=name,
        target=target,
        last_seen_s=0.0,
        version="1",
        bundle="old",
        idle=True,
        reported_s=0.0,
        site=site,
        enrolled_s=enrolled_s,
    )


def by_site() -> Rollout:
    return rollout(row={"failure_unit": "SITE", "created_s": 5.0})


def test_the_plan_counts_who_is_still_to_come_and_who_left_but_not_who_joined() -> None:
    orders = [order(0, None, site="a"), order(1, None, site="gone"), order(2, None, site="a")]
    devices = [device(orders[0].device, "a"), device("x", "a"), device("other", "a", target="z")]
    devices += [device(orders[2].device, "a", enrolled_s=6.0), device("late", "b", enrolled_s=6.0), device("alone", "")]
    plan = sites.plan_of(by_site(), devices, orders)
    assert plan == sites.Plan({("t", "a"): 2, ("t", "gone"): 1}, {orders[2].device, "late"})


def test_a_joiner_moves_no_share() -> None:
    run = by_site()
    orders = [order(n, None, site=f"s{n % 2}") for n in range(6)]
    results: list[Outcome] = ["failed", "succeeded", "queued", "queued", "queued", "queued"]
    devices = [device(one.device, one.site) for one in orders]
    late = order(6, None, site="s0")
    before = failure_gates(run, orders, results, wave_ended=False, plan=sites.plan_of(run, devices, orders))[0]
    devices.append(device(late.device, "s0", enrolled_s=6.0))
    plan = sites.plan_of(run, devices, [*orders, late])
    after = failure_gates(run, [*orders, late], [*results, "failed"], wave_ended=False, plan=plan)[0]
    assert before.numbers["site_shares"] == after.numbers["site_shares"] == "1/3 0/3"


def test_orders_that_are_not_out_yet_are_successes() -> None:
    """Evidence while a wave goes out is at most what it is at its end: else a look in between would not be allowed."""
    run, draw = by_site(), random.Random(3)
    orders = [order(n, None, site=f"s{draw.randrange(8)}") for n in range(60)]
    devices = [device(one.device, one.site) for one in orders]
    results: list[Outcome] = ["failed" if draw.random() < 0.3 else "succeeded" for _ in orders]
    seen = []
    for sent in range(5, 61, 5):
        plan = sites.plan_of(run, devices, orders[:sent])
        status = failure_gates(run, orders[:sent], results[:sent], wave_ended=False, plan=plan)[0]
        seen.append(float(str(status.numbers["e_site_shares"])))
    assert max(seen) == seen[-1]


def test_a_halted_board_is_in_no_share_of_all_boards() -> None:
    run = rollout(
        boards=("a", "b"),
        row={
            "failure_unit": "SITE",
            "halted": (BoardHalt(target="a", action="ROLLBACK", reason="bad", at_s=1.0),),
        },
    )
    orders: list[Assignment] = [order(n, None, target="ab"[n % 2], site=f"s{n // 4}") for n in range(24)]
    results: list[Outcome] = ["failed" if one.target == "a" else "succeeded" for one in orders]
    devices = [device(one.device, one.site, target=one.target) for one in orders]
    whole, bad, good = failure_gates(run, orders, results, wave_ended=False, plan=sites.plan_of(run, devices, orders))
    assert whole.numbers["site_shares"] == good.numbers["site_shares"] == "0/2*6"
    assert bad.numbers["site_shares"] == "2/2*6"


def test_devices_without_a_site_stand_alone() -> None:
    run = by_site()
    orders = [order(0, None), order(1, None), order(2, None, site="s")]
    plan = sites.plan_of(run, [device(one.device, one.site) for one in orders], orders)
    status = failure_gates(run, orders, ["failed", "succeeded", "succeeded"], wave_ended=False, plan=plan)[0]
    assert status.numbers["site_shares"] == "1/1 0/1*2"


def test_one_site_that_fails_as_a_whole_is_no_proof() -> None:
    run = by_site()
    orders = [order(n, None, site=f"s{n // 10}") for n in range(40)]
    results: list[Outcome] = ["failed" if one.site == "s0" else "succeeded" for one in orders]
    plan = sites.plan_of(run, [device(one.device, one.site) for one in orders], orders)
    assert failure_gates(run, orders, results, wave_ended=False, plan=plan)[0].outcome == "wait"


def told() -> tuple[Rollout, dict[str, Number]]:
    run, draw = by_site(), random.Random(4)
    orders = [order(n, None, site=f"s{draw.randrange(30)}") for n in range(300)]
    results: list[Outcome] = ["failed" if draw.random() < 0.1 else "succeeded" for _ in orders]
    plan = sites.plan_of(run, [device(one.device, one.site) for one in orders], orders)
    return run, failure_gates(run, orders, results, wave_ended=True, plan=plan)[0].numbers


def test_the_log_holds_all_that_the_shares_were_computed_from() -> None:
    run, numbers = told()
    (check,) = check_gate(run, GateMemory(), {}, "failure", None, numbers)
    assert (check.basis, check.agrees) == ("recomputed", True)
    assert "e_site_shares" in {figure.name for figure in check.figures}


def test_a_share_that_was_changed_in_the_log_is_seen() -> None:
    run, numbers = told()
    first, _, rest = str(numbers["site_shares"]).partition(" ")
    failed, planned = first.partition("*")[0].split("/")
    changed = numbers | {"site_shares": f"{int(failed) + 1}/{planned} {rest}"}
    (check,) = check_gate(run, GateMemory(), {}, "failure", None, changed)
    assert not check.agrees


def test_too_many_sites_are_only_recorded() -> None:
    run, numbers = told()
    (check,) = check_gate(run, GateMemory(), {}, "failure", None, numbers | {"site_shares": ""})
    assert check.basis == "recorded"
