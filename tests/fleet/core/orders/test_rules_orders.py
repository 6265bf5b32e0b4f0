"""What holds an order back, through the whole tick: pace, windows, sites, groups, budgets, floors, stops."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewright.fleet.core.rollout import fire, tick
from edgewright.fleet.core.rows import Assign, Graduate, ReleaseBundle, Retry

from ..conftest import World

Make = Callable[..., World]
PLAIN: dict[str, Any] = {
    "waves": ["rest"],
    "horizonSeconds": 10 * 86400,
    "driftGate": {"enabled": False},
    "failureGate": {"enabled": False},
    "control": {"fractions": [0]},
}


def utc(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def ordered(world: World) -> list[str]:
    return sorted(one.device for one in world.ordered())


def act(world: World, event: Any, now_s: float) -> None:
    rollout, orders = world.ledger.rollout, world.ledger.assignments
    world.ledger = world.ledger.apply(fire(rollout, event, now_s, orders, actor="ada", reason="because"))


def test_no_minute_holds_more_orders_than_the_rate(world: Make) -> None:
    here = world({**PLAIN, "jobExecutionsRolloutConfig": {"maximumPerMinute": 4}}, 20)
    for now_s in range(0, 400, 7):
        here.step(float(now_s))
    times = [one.dispatched_s for one in here.ordered()]
    assert len(times) == 20
    assert max(sum(start <= each < start + 60 for each in times) for start in times) == 4


def test_a_growing_rate_waits_for_success(world: Make) -> None:
    rate = {"baseRatePerMinute": 2, "incrementFactor": 3, "rateIncreaseCriteria": {"numberOfSucceededThings": 2}}
    here = world({**PLAIN, "jobExecutionsRolloutConfig": {"exponentialRate": rate, "maximumPerMinute": 10}}, 60)
    sent: list[int] = []
    for minute in range(5):
        here.step(minute * 60.0)
        sent.append(len(here.ordered()) - sum(sent))
        if minute > 0:
            for device in here.waiting():
                here.report(device, "confirmed", minute * 60.0 + 1)
    assert sent == [2, 2, 10, 10, 10], (
        "nothing succeeded in the first minute; 4 had after the second: 2 * 3 ** 2, capped"
    )


def test_a_rate_holds_for_retries_and_graduations_too(world: Make) -> None:
    policy = {
        **PLAIN,
        "control": {"fractions": [0.5]},
        "jobExecutionsRolloutConfig": {"maximumPerMinute": 3},
        "jobExecutionsRetryConfig": {"criteriaList": [{"failureType": "FAILED", "numberOfRetries": 1}]},
        "horizonSeconds": 1000,
    }
    here = world(policy, 16)
    times: list[float] = []
    for now_s in range(0, 1500, 10):
        before = {one.command for one in here.ordered()}
        here.step(float(now_s))
        times += [float(now_s) for one in here.ordered() if one.command not in before]
        for one in here.ordered():
            if one.phase is None:
                phase = "failed" if one.attempt == 1 and one.position % 3 == 0 else "confirmed"
                here.report(one.device, phase, now_s + 1.0)
    assert here.state == "completed"
    assert here.controls() == []
    assert any(one.attempt == 2 for one in here.ordered())
    assert any(one.arm == "graduated" for one in here.ordered())
    assert max(sum(start <= each < start + 60 for each in times) for start in times) <= 3


def test_orders_go_out_only_in_the_window_of_each_device(world: Make) -> None:
    windows = [{"startTime": "cron(0 2 * * ? *)", "durationInMinutes": 60}]
    zones = ("UTC", "Asia/Kolkata", "America/New_York")
    here = world({**PLAIN, "schedulingConfig": {"maintenanceWindows": windows}}, 9, zones=zones)
    start_s = utc("2026-07-10T00:00")
    for minute in range(0, 24 * 60, 10):
        here.step(start_s + minute * 60)
    zone_of = {device.id: device.time_zone for device in here.devices}
    opened = {(zone_of[one.device], datetime.fromtimestamp(one.dispatched_s, UTC).hour) for one in here.ordered()}
    assert opened == {("UTC", 2), ("Asia/Kolkata", 20), ("America/New_York", 6)}
    assert len(here.ordered()) == 9
    assert not here.ledger.alerts


def test_a_wave_waits_for_windows_beyond_its_horizon(world: Make) -> None:
    windows = [{"startTime": "cron(0 2 ? * SUN *)", "durationInMinutes": 60}]
    policy = {**PLAIN, "waves": [2, "rest"], "horizonSeconds": 600, "schedulingConfig": {"maintenanceWindows": windows}}
    here = world(policy, 4)
    saturday_s = utc("2026-07-11T00:00")
    for hour in range(24):
        here.step(saturday_s + hour * 3600)
    assert ordered(here) == []
    assert here.state == "running"
    here.step(utc("2026-07-12T02:30"))
    assert len(ordered(here)) == 2


def test_a_zone_that_nobody_knows_is_utc_and_is_told_once(world: Make) -> None:
    windows = [{"startTime": "cron(0 2 * * ? *)", "durationInMinutes": 60}]
    here = world({**PLAIN, "schedulingConfig": {"maintenanceWindows": windows}}, 2, zones=("Mars/Olympus", "UTC"))
    here.step(utc("2026-07-10T01:00"))
    here.step(utc("2026-07-10T02:00"))
    here.change("dev-001", time_zone="Mars/Elysium")
    here.step(utc("2026-07-10T02:01"))
    assert len(ordered(here)) == 2
    (alert,) = here.ledger.alerts
    assert alert.key == "unknown-zone/r1"
    assert "'Mars/Olympus'" in alert.message
    assert "dev-000" in alert.message


def test_without_windows_zones_do_not_matter_and_nobody_is_told(world: Make) -> None:
    here = world(PLAIN, 2, zones=("Mars/Olympus",))
    here.step(0.0)
    assert not here.ledger.alerts


@settings(max_examples=40, deadline=None)
@given(
    results=st.lists(st.sampled_from(["confirmed", "failed", None]), min_size=24, max_size=24),
    most=st.integers(1, 3),
    share=st.none() | st.sampled_from([10, 34, 67]),
    fraction=st.sampled_from([0, 0.5]),
)
def test_no_site_ever_has_more_unproven_devices_than_its_limit(
    results: list[str | None], most: int, share: int | None, fraction: float
) -> None:
    radius = {"maxDevicesPerSite": most, "maxPercentagePerSite": share}
    policy = {**PLAIN, "waves": [5, "rest"], "blastRadius": radius, "control": {"fractions": [fraction]}}
    here = World({**policy, "horizonSeconds": 500}, 24, sites=("a", "b", "c", ""))
    limit = min(most, 6 if share is None else max(1, share * 6 // 100))
    for now_s in range(0, 3000, 50):
        here.step(float(now_s))
        unproven = Counter(one.site for one in here.ordered() if one.phase != "confirmed")
        assert all(count <= limit for site, count in unproven.items() if site)
        for one in here.ordered():
            result = results[int(one.device[-3:])]
            if one.phase is None and result is not None:
                here.report(one.device, result, now_s + 1.0)
    if all(result == "confirmed" for result in results):
        assert here.state == "completed"
        assert len(here.ordered()) == 24


def test_sites_go_on_as_their_devices_prove_themselves(world: Make) -> None:
    here = world({**PLAIN, "blastRadius": {"maxDevicesPerSite": 1}}, 6, sites=("a", "b"))
    here.step(0.0)
    assert len(here.ordered()) == 2
    (at_a,) = (one.device for one in here.ordered() if one.site == "a")
    here.report(at_a, "confirmed", 1.0)
    here.step(2.0)
    assert Counter(one.site for one in here.ordered()) == {"a": 2, "b": 1}


def test_a_group_is_asked_anew_at_each_decision(world: Make) -> None:
    here = world({**PLAIN, "group": 'labels.line == "3"'}, 4)
    here.change("dev-000", labels={"line": "3"})
    here.step(0.0)
    assert ordered(here) == ["dev-000"]
    here.change("dev-001", labels={"line": "3"})
    here.change("dev-000", labels={})
    here.step(10.0)
    assert ordered(here) == ["dev-000", "dev-001"], "who joins is in; who has its order keeps it"


def test_a_control_that_left_the_group_gets_no_release(world: Make) -> None:
    policy = {**PLAIN, "group": 'labels.line == "3"', "control": {"fractions": [0.5]}, "horizonSeconds": 100}
    here = world(policy, 4)
    for one in list(here.devices):
        here.change(one.id, labels={"line": "3"})
    here.step(0.0)
    left, stayed = here.controls()
    here.change(left, labels={})
    for now_s in (1.0, 200.0, 201.0, 400.0):
        for device in here.waiting():
            here.report(device, "confirmed", now_s)
        here.step(now_s)
    assert here.state == "completed"
    assert here.controls() == [left]
    assert stayed in ordered(here)


def test_a_device_of_another_rollout_is_left_to_it(world: Make) -> None:
    here = world(PLAIN, 3)
    here.change("dev-001", taken=True)
    here.step(0.0)
    assert ordered(here) == ["dev-000", "dev-002"]
    here.change("dev-001", taken=False)
    here.step(10.0)
    assert ordered(here) == ["dev-000", "dev-001", "dev-002"]


def test_a_device_that_had_its_orders_for_the_day_is_left_alone(world: Make) -> None:
    here = world({**PLAIN, "rollback": {"maxOrdersPerDevicePerDay": 4}}, 3)
    here.change("dev-000", orders_last_day=3)
    here.change("dev-001", orders_last_day=2)
    here.step(0.0)
    assert ordered(here) == ["dev-001", "dev-002"], "the last order of a day is kept for a way back"


def with_epochs(world: World, epoch: int) -> World:
    rollout = world.ledger.rollout
    bundles = tuple(msgspec.structs.replace(bundle, security_epoch=epoch) for bundle in rollout.bundles)
    world.ledger = msgspec.structs.replace(world.ledger, rollout=msgspec.structs.replace(rollout, bundles=bundles))
    return world


def raise_floor(world: World, floor: int) -> None:
    rollout = msgspec.structs.replace(world.ledger.rollout, security_floor=floor)
    world.ledger = msgspec.structs.replace(world.ledger, rollout=rollout)


def test_no_device_is_ordered_below_what_it_runs(world: Make) -> None:
    here = with_epochs(world({**PLAIN, "control": {"fractions": [0]}}, 3), 2)
    here.change("dev-000", security_epoch=3)
    here.change("dev-001", security_epoch=2)
    here.step(0.0)
    assert ordered(here) == ["dev-001", "dev-002"]


def test_a_floor_that_rises_stops_the_release_below_it(world: Make) -> None:
    here = with_epochs(world({**PLAIN, "waves": [2, "rest"]}, 6), 1)
    here.step(0.0)
    heard, unheard = ordered(here)
    here.report(heard, "confirmed", 5.0)
    raise_floor(here, 2)
    here.step(10.0)
    assert here.state == "aborted"
    assert here.ledger.decisions[-1].numbers == {
        "gate": "floor",
        "target": "board",
        "security_epoch": 1,
        "security_floor": 2,
    }
    row = {one.device: one for one in here.ledger.assignments}
    assert row[unheard].withdrawn_s == 10.0, "what it ran before is below the floor, too: nothing is ordered"
    assert (row[heard].withdrawn_s, row[heard].rollback_command) == (None, None)


def test_a_floor_that_rises_before_the_first_order_stops_it(world: Make) -> None:
    here = with_epochs(world(PLAIN, 3), 1)
    raise_floor(here, 2)
    here.step(0.0)
    assert (here.state, ordered(here)) == ("aborted", [])


def test_a_floor_stops_the_board_below_it_and_the_others_go_on(world: Make) -> None:
    here = world({**PLAIN, "waves": [2, "rest"]}, 6, ("old-board", "new-board"))
    rollout = here.ledger.rollout
    bundles = (
        ReleaseBundle(target="old-board", digest="sha256:new", security_epoch=1),
        ReleaseBundle(target="new-board", digest="sha256:new", security_epoch=2),
    )
    here.ledger = msgspec.structs.replace(here.ledger, rollout=msgspec.structs.replace(rollout, bundles=bundles))
    here.step(0.0)
    raise_floor(here, 2)
    for now_s in (10.0, 20.0, 30.0):
        for device in here.waiting():
            here.report(device, "confirmed", now_s)
        here.step(now_s)
    assert here.state == "completed"
    assert here.actions().count("board_halted") == 1
    target_of = {device.id: device.target for device in here.devices}
    assert Counter(target_of[device] for device in ordered(here)) == {"new-board": 3, "old-board": 1}


@settings(max_examples=30, deadline=None)
@given(
    stops=st.lists(st.booleans(), min_size=25, max_size=25),
    results=st.lists(st.sampled_from(["confirmed", "confirmed", "failed"]), min_size=12, max_size=12),
)
def test_while_the_fleet_is_stopped_nothing_goes_forward(stops: list[bool], results: list[str]) -> None:
    policy = {
        **PLAIN,
        "waves": [2, 4, "rest"],
        "control": {"fractions": [0.5]},
        "horizonSeconds": 100,
        "jobExecutionsRetryConfig": {"criteriaList": [{"failureType": "FAILED", "numberOfRetries": 2}]},
    }
    here = World(policy, 12)
    for place, is_stopped in enumerate(stops):
        now_s = place * 40.0
        here.is_stopped = is_stopped
        here.seen(now_s)
        if is_stopped:
            assert not any(isinstance(each, Assign | Graduate | Retry) for each in tick(here.situation(now_s)))
        here.step(now_s)
        for device in here.waiting():
            here.report(device, results[int(device[-3:])], now_s + 1)


def test_a_stopped_fleet_still_finds_and_takes_back_what_is_bad(world: Make) -> None:
    policy = {**PLAIN, "failureGate": {"enabled": True}, "horizonSeconds": 1000}
    here = world(policy, 20)
    here.step(0.0)
    here.is_stopped = True
    for device in here.waiting()[:5]:
        here.report(device, "failed", 10.0)
    here.step(20.0)
    assert here.state == "rolling_back"
    assert all(one.rollback_command for one in here.ordered())


@pytest.mark.parametrize("fraction", [0, 0.5])
def test_after_a_stop_the_rollout_goes_on_where_it_stood(world: Make, fraction: float) -> None:
    here = world({**PLAIN, "waves": [2, "rest"], "control": {"fractions": [fraction]}, "horizonSeconds": 100}, 8)
    for now_s in range(0, 2000, 50):
        here.is_stopped = 100 <= now_s < 1000
        here.step(float(now_s))
        if not here.is_stopped:
            for device in here.waiting():
                here.report(device, "confirmed", now_s + 1.0)
    assert here.state == "completed"
    assert len(ordered(here)) == 8
