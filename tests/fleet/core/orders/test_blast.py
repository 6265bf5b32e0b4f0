"""Blast radius: no site ever has more unproven devices than the policy allows."""

from __future__ import annotations

import math
import time
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewright.fleet.core.orders.blast import BlastLimit
from edgewright.fleet.core.outcomes import outcomes_of
from edgewright.fleet.core.policy.policy import policy_from
from edgewright.fleet.core.rows import Assignment, Device, ReleaseBundle, Rollout


def rollout(**radius: float) -> Rollout:
    return Rollout(
        id="r1",
        model="m",
        version="2",
        bundles=(ReleaseBundle(target="board", digest="new"),),
        policy=policy_from({"blastRadius": radius}, where="test"),
        seed=1,
        created_s=0.0,
    )


def device(number: int, site: str, target: str = "board") -> Device:
    return Device(
        id=f"dev-{number}",
        target=target,
        last_seen_s=0.0,
        version="1",
        bundle="old",
        idle=True,
        reported_s=0.0,
        site=site,
    )


def ordered(one: Device, **told: Any) -> Assignment:
    return Assignment(
        **{
            "device": one.id,
            "target": one.target,
            "wave": 0,
            "position": 0,
            "version": "2",
            "bundle": "new",
            "previous_version": "1",
            "previous_bundle": "old",
            "command": "c",
            "dispatched_s": 0.0,
            "site": one.site,
            **told,
        }
    )


def taken(of: Rollout, devices: list[Device], assignments: list[Assignment], candidates: list[Device]) -> list[str]:
    limit = BlastLimit(of, devices, assignments, outcomes_of(of, assignments, 10.0))
    return [one.id for one in candidates if limit.take(one)]


def test_without_a_limit_all_go() -> None:
    fleet = [device(number, "a") for number in range(9)]
    assert len(taken(rollout(), fleet, [], fleet)) == 9


def test_a_number_for_each_site() -> None:
    fleet = [device(number, "ab"[number % 2]) for number in range(10)]
    assert taken(rollout(maxDevicesPerSite=2), fleet, [], fleet) == ["dev-0", "dev-1", "dev-2", "dev-3"]


def test_a_share_of_each_site_rounded_down_but_at_least_one() -> None:
    fleet = [*(device(number, "big") for number in range(19)), device(20, "small"), device(21, "small")]
    assert taken(rollout(maxPercentagePerSite=10), fleet, [], fleet) == ["dev-0", "dev-20"]
    assert len(taken(rollout(maxPercentagePerSite=25), fleet, [], fleet[:19])) == 4


def test_the_lesser_of_both_counts() -> None:
    fleet = [device(number, "a") for number in range(10)]
    assert len(taken(rollout(maxDevicesPerSite=3, maxPercentagePerSite=50), fleet, [], fleet)) == 3
    assert len(taken(rollout(maxDevicesPerSite=8, maxPercentagePerSite=50), fleet, [], fleet)) == 5


def test_a_share_is_one_of_the_rollout_s_boards() -> None:
    fleet = [
        *(device(number, "a") for number in range(4)),
        *(device(10 + number, "a", "other") for number in range(96)),
    ]
    assert len(taken(rollout(maxPercentagePerSite=50), fleet, [], fleet[:4])) == 2


def test_a_device_without_a_site_is_a_site_of_its_own() -> None:
    fleet = [device(number, "") for number in range(5)]
    assert len(taken(rollout(maxDevicesPerSite=1), fleet, [ordered(one) for one in fleet[:2]], fleet[2:])) == 3


@pytest.mark.parametrize(
    ("told", "is_unproven"),
    [
        ({}, True),
        ({"started_s": 1.0, "phase": "probation"}, True),
        ({"started_s": 1.0, "phase": "confirmed", "ended_s": 2.0}, False),
        ({"started_s": 1.0, "phase": "failed", "ended_s": 2.0}, True),
        ({"started_s": 1.0, "phase": "refused", "ended_s": 2.0}, True),
        ({"dispatched_s": -1e6}, True),
        ({"arm": "control"}, False),
        ({"arm": "graduated"}, True),
        ({"phase": "confirmed", "ended_s": 2.0, "rollback_command": "back", "rolled_back_s": 3.0}, True),
        ({"phase": "failed", "ended_s": 2.0, "rollback_command": "back", "rollback_phase": "confirmed"}, False),
        ({"phase": "failed", "ended_s": 2.0, "rollback_command": "back", "rollback_phase": "failed"}, True),
        ({"withdrawn_s": 3.0}, False),
    ],
)
def test_who_is_unproven(told: dict[str, Any], is_unproven: bool) -> None:
    fleet = [device(0, "a"), device(1, "a")]
    assert taken(rollout(maxDevicesPerSite=1), fleet, [ordered(fleet[0], **told)], fleet[1:]) == (
        [] if is_unproven else ["dev-1"]
    )


@given(
    sites=st.lists(st.sampled_from("abc"), min_size=1, max_size=40),
    before=st.lists(st.sampled_from([None, "confirmed", "failed"]), max_size=20),
    most=st.none() | st.integers(1, 6),
    share=st.none() | st.floats(1, 100),
)
def test_no_site_goes_over_its_limit(
    sites: list[str], before: list[str | None], most: int | None, share: float | None
) -> None:
    radius = {key: value for key, value in (("maxDevicesPerSite", most), ("maxPercentagePerSite", share)) if value}
    fleet = [device(number, site) for number, site in enumerate(sites)]
    assignments = [
        ordered(one, phase=phase, ended_s=1.0, started_s=1.0) for one, phase in zip(fleet, before, strict=False)
    ]
    went = taken(rollout(**radius), fleet, assignments, fleet[len(assignments) :])
    for site in set(sites):
        members = sites.count(site)
        already = sum(one.site == site and one.phase != "confirmed" for one in assignments)
        limit = min(
            members if most is None else most,
            members if share is None else max(1, math.floor(share * members / 100)),
        )
        now = sum(one.site == site and one.id in went for one in fleet)
        waiting = sum(one.site == site for one in fleet[len(assignments) :])
        assert now == min(waiting, max(0, limit - already))


def test_a_hundred_thousand_devices_are_quick() -> None:
    fleet = [device(number, f"site-{number % 500}") for number in range(100_000)]
    of = rollout(maxPercentagePerSite=50)
    assignments = [ordered(one) for one in fleet[:50_000]]
    outcomes = outcomes_of(of, assignments, 10.0)
    started = time.process_time()
    limit = BlastLimit(of, fleet, assignments, outcomes)
    assert sum(map(limit.take, fleet[50_000:])) == 0
    assert time.process_time() - started < 1, "about 0.1 s on a quiet machine"


def test_a_device_that_moved_counts_where_it_stands_now() -> None:
    of = rollout(maxDevicesPerSite=1)
    moved, beside, left_behind = device(0, "b"), device(1, "b"), device(2, "a")
    before = ordered(msgspec.structs.replace(moved, site="a"))
    assert taken(of, [moved, beside, left_behind], [before], [beside, left_behind]) == ["dev-2"]
