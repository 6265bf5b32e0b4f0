"""The way forward step by step: controls that graduate, waves with conditions, clocks, limits, retries, halts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from edgewright.fleet.core.observations import Observation
from edgewright.fleet.core.outcomes import outcomes_of
from edgewright.fleet.core.rollout import Event, RolloutConflict, fire, look, supersede
from edgewright.fleet.core.rows import ENDED, Assignment, BoardHalt, Rollout

from .conftest import NEW, OLD, World, healthy

Make = Callable[..., World]
QUIET: dict[str, Any] = {"horizonSeconds": 100, "driftGate": {"enabled": False}}
NO_CONTROLS: dict[str, Any] = {"control": {"fractions": [0]}}
PLAIN: dict[str, Any] = {**QUIET, **NO_CONTROLS}


def run(here: World, until_s: int, *, since_s: int = 0, phase: str = "confirmed", step_s: int = 10) -> None:
    """Step on; every order comes to this end, unless the rollout has ended."""
    for now_s in range(since_s, until_s, step_s):
        here.step(float(now_s))
        for device in here.waiting():
            here.report(device, phase, float(now_s))
        if here.state in ENDED:
            return


def act(here: World, event: Event, now_s: float) -> None:
    rows = here.ledger
    here.ledger = rows.apply(fire(rows.rollout, event, now_s, rows.assignments, actor="ada", reason="because"))


def per_wave(here: World) -> list[tuple[int, int]]:
    """Devices with the release and controls of each wave, as they were drawn."""
    treated = Counter(one.wave for one in here.ledger.assignments if one.arm != "control")
    controls = Counter(one.wave for one in here.ledger.assignments if one.arm == "control")
    return [(treated[wave], controls[wave]) for wave in sorted({*treated, *controls})]


def test_controls_wait_through_the_waves_and_graduate_at_the_end(world: Make) -> None:
    here = world({"waves": [2, 4, "rest"], **QUIET}, 20)
    here.step(0.0)
    assert per_wave(here) == [(2, 2)]
    for device in here.waiting():
        here.report(device, "confirmed", 1.0)
    here.step(99.0)
    assert here.ledger.rollout.wave == 0, "the blocks are still observed"
    here.step(100.0)
    assert per_wave(here) == [(2, 2), (4, 4)]
    run(here, 600, since_s=110)
    assert here.state == "completed"
    assert here.controls() == []
    arms = Counter(one.arm for one in here.ledger.assignments)
    assert arms == {"treated": 13, "graduated": 7}
    assert here.actions() == [*["wave_started", "wave_passed"] * 3, "graduating", "wave_passed", "completed"]
    for one in here.ledger.assignments[-7:]:
        assert (one.arm, one.wave, one.previous_bundle) == ("graduated", 3, OLD)
        assert one.block >= 0
        assert one.drawn_s is not None
        assert one.drawn_s < one.dispatched_s


def test_a_wave_passes_when_its_blocks_were_observed_though_the_horizon_runs_on(world: Make) -> None:
    here = world({"waves": [2, "rest"], **QUIET, "control": {"observationSeconds": 30}}, 20)
    here.step(0.0)
    first, last = here.waiting()
    here.report(first, "confirmed", 1.0)
    here.step(35.0)
    assert here.ledger.rollout.wave == 0, "one device has no result"
    here.report(last, "confirmed", 36.0)
    here.step(36.0)
    assert here.ledger.rollout.wave == 1
    here.step(37.0)
    for device in here.waiting():
        here.report(device, "confirmed", 37.0)
    here.step(65.0)
    assert here.ledger.rollout.wave == 1, "its own blocks are still observed"
    here.step(67.0)
    assert here.ledger.rollout.wave == 2


def test_a_control_is_never_ordered_before_its_time_and_never_taken_back(world: Make) -> None:
    here = world({"waves": [6, "rest"], **QUIET}, 20)
    here.step(0.0)
    for device in here.waiting():
        here.report(device, "failed", 1.0)
    here.step(2.0)
    assert here.state == "rolling_back"
    taken = {one.device for one in here.ledger.assignments if one.rollback_command}
    assert len(taken) == 6
    assert not taken & set(here.controls())


def test_a_release_that_crashes_beside_healthy_controls_is_stopped(world: Make) -> None:
    here = world({"waves": [200, "rest"], **QUIET}, 500)

    def observe(one: Assignment) -> Observation:
        return msgspec.structs.replace(healthy(one), crashes=int(one.arm == "treated"))

    here.observe = observe
    run(here, 130)
    assert here.state in {"rolling_back", "rolled_back"}
    stop = next(one for one in here.ledger.decisions if one.action == "rolling_back")
    assert stop.numbers["gate"] in {"crashes", "all"}
    assert here.ledger.memory.next_block == 200


def test_devices_that_run_nothing_are_never_controls(world: Make) -> None:
    here = world({"waves": [2, "rest"], **QUIET}, 8, first=True)
    run(here, 400)
    assert here.state == "completed"
    assert per_wave(here) == [(2, 0), (6, 0)]


def test_waves_by_board_site_and_query(world: Make) -> None:
    waves = [
        {"add": 1, "boards": ["b"]},
        {"add": "50%", "sites": ["lyon"]},
        {"add": 2, "where": 'id in ("dev-001", "dev-003", "dev-005")'},
        "rest",
    ]
    here = world({"waves": waves, **PLAIN}, 12, targets=("a", "b"), sites=("lyon", "lyon", "graz"))
    run(here, 1000)
    assert here.state == "completed"
    rows = here.ledger.assignments
    assert [one.target for one in rows if one.wave == 0] == ["b"]
    assert [one.site for one in rows if one.wave == 1] == ["lyon"] * 4
    assert {one.device for one in rows if one.wave == 2} <= {"dev-001", "dev-003", "dev-005"}
    assert len(rows) == 12


def test_a_wave_that_no_device_fits_is_passed_by(world: Make) -> None:
    here = world({"waves": [{"add": 5, "sites": ["nowhere"]}, 2, "rest"], **PLAIN}, 6)
    here.step(0.0)
    assert here.ledger.rollout.wave == 1
    run(here, 400)
    assert per_wave(here) == [(2, 0), (4, 0)]


def test_only_the_group_gets_the_release(world: Make) -> None:
    here = world({"waves": ["rest"], "group": 'site == "graz"', **PLAIN}, 9, sites=("lyon", "graz", ""))
    run(here, 300)
    assert here.state == "completed"
    assert {one.site for one in here.ledger.assignments} == {"graz"}


def test_a_wave_waits_for_a_yes_and_the_yes_is_kept(world: Make) -> None:
    waves = [1, {"add": 2, "requireApproval": True}, "rest"]
    here = world({"waves": waves, **PLAIN}, 6)
    run(here, 50)
    assert here.state == "awaiting_approval"
    assert len(here.ledger.assignments) == 1
    assert here.actions() == ["wave_started", "wave_passed", "awaiting_approval"]
    act(here, "approve", 60.0)
    run(here, 300, since_s=60)
    assert here.state == "completed"
    (approval,) = here.ledger.rollout.approvals
    assert (approval.wave, approval.by, approval.at_s) == (1, "ada", 60.0)
    assert here.actions().count("wave_passed") == 3


def test_a_yes_is_for_the_wave_that_was_asked_about(world: Make) -> None:
    """Nobody fits that wave any more: the next one that needs a yes is asked about by itself."""
    waves = [1, {"add": "rest", "boards": ["lab"], "requireApproval": True}, {"add": "rest", "requireApproval": True}]
    here = world({"waves": waves, **PLAIN}, 6, targets=("shop", "lab"))
    run(here, 50)
    assert (here.state, here.ledger.rollout.awaited_wave) == ("awaiting_approval", 1)
    here.devices = [one if one.target == "shop" else msgspec.structs.replace(one, taken=True) for one in here.devices]
    act(here, "approve", 60.0)
    here.step(61.0)
    assert (here.state, here.ledger.rollout.awaited_wave) == ("awaiting_approval", 2)
    assert here.actions().count("wave_passed") == 1
    act(here, "approve", 62.0)
    run(here, 300, since_s=63)
    assert here.state == "completed"


def test_a_first_wave_may_need_a_yes_too(world: Make) -> None:
    here = world({"waves": [{"add": 1, "requireApproval": True}, "rest"], **PLAIN}, 3)
    here.step(0.0)
    assert (here.state, here.ledger.assignments) == ("awaiting_approval", ())
    act(here, "approve", 1.0)
    here.step(2.0)
    assert len(here.ledger.assignments) == 1


def test_gates_watch_while_a_person_is_waited_for(world: Make) -> None:
    here = world(
        {"waves": [4, {"add": "rest", "requireApproval": True}], **PLAIN, "failureGate": {"minFailures": 1}}, 9
    )
    here.step(0.0)
    for device in here.waiting():
        here.report(device, "confirmed", 1.0)
    here.step(2.0)
    assert here.state == "awaiting_approval"
    for one in here.ordered():
        here.ledger = here.ledger.report(one.device, phase="rolled_back")
    here.step(3.0)
    assert here.state == "rolling_back"


def test_a_scheduled_rollout_starts_at_its_time(world: Make) -> None:
    schedule = {"startTime": "1970-01-01T00:01:00Z"}
    here = world({"waves": ["rest"], "schedulingConfig": schedule, **PLAIN}, 3, state="scheduled")
    here.step(59.0)
    assert (here.state, here.ledger.assignments) == ("scheduled", ())
    here.step(60.0)
    assert here.state == "running"
    assert len(here.ledger.assignments) == 3
    assert here.actions()[0] == "started"


@pytest.mark.parametrize(
    ("behaviour", "state", "back"),
    [("STOP_ROLLOUT", "running", 0), ("CANCEL", "aborted", 1), ("FORCE_CANCEL", "aborted", 2)],
)
def test_the_end_time_stops_orders_and_takes_back_what_the_policy_says(
    world: Make, behaviour: str, state: str, back: int
) -> None:
    schedule = {"endTime": "1970-01-01T00:01:00Z", "endBehavior": behaviour}
    here = world({"waves": [3, "rest"], "schedulingConfig": schedule, **PLAIN}, 9)
    here.step(0.0)
    done, begun, _ = here.waiting()
    here.report(done, "confirmed", 1.0)
    here.ledger = here.ledger.report(begun, phase="installing", started_s=1.0)
    here.step(60.0)
    assert here.state == state
    assert sum(one.rollback_command is not None for one in here.ledger.assignments) == back
    assert len(here.ledger.assignments) == 3
    for device in here.waiting():
        here.report(device, "confirmed", 61.0)
    here.report(begun, "confirmed", 61.0)
    here.step(62.0)
    assert here.state in ENDED
    assert "end time" in here.ledger.rollout.reason


def test_orders_go_out_inside_the_window_of_each_device(world: Make) -> None:
    window = {"startTime": "cron(0 2 * * ? *)", "durationInMinutes": 60}
    policy = {"waves": ["rest"], "schedulingConfig": {"maintenanceWindows": [window]}, **PLAIN}
    here = world(policy, 6, zones=("UTC", "Asia/Tokyo"))
    for hour in range(30):
        here.step(3600.0 * hour + 600)
        for device in here.waiting():
            here.report(device, "confirmed", 3600.0 * hour + 600)
    assert here.state == "completed"
    zone_of = {device.id: device.time_zone for device in here.devices}
    hours = {(zone_of[one.device], one.dispatched_s // 3600) for one in here.ledger.assignments}
    assert hours == {("UTC", 2.0), ("Asia/Tokyo", 17.0)}, "2 in the morning in Tokyo is 17 UTC"


def test_a_retry_and_a_graduation_wait_for_the_window_too(world: Make) -> None:
    window = {"startTime": "cron(0 2 * * ? *)", "durationInMinutes": 60}
    policy = {"waves": [1, "rest"], "schedulingConfig": {"maintenanceWindows": [window]}, **RETRY, **QUIET}
    here = world({**policy, "horizonSeconds": 40_000}, 2)
    here.step(2.5 * 3600)
    (first,) = here.waiting()
    here.report(first, "failed", 3.5 * 3600)
    here.step(4.0 * 3600)
    assert [one.device for one in here.ordered() if one.phase == "failed"] == [first], "no retry outside the window"
    here = world(policy, 2)
    here.step(2.5 * 3600)
    here.report(here.waiting()[0], "confirmed", 2.51 * 3600)
    here.step(3.5 * 3600)
    assert here.ledger.rollout.wave == 2
    assert len(here.controls()) == 1, "no graduation outside the window"
    here.step(26.5 * 3600)
    assert here.controls() == []


def test_a_paced_wave_is_complete_with_its_treated_devices(world: Make) -> None:
    here = world({"waves": [4, "rest"], "jobExecutionsRolloutConfig": {"maximumPerMinute": 2}, **QUIET}, 20)
    for now_s in (0, 30, 60, 90):
        here.step(float(now_s))
        for device in here.waiting():
            here.report(device, "confirmed", float(now_s))
    assert per_wave(here) == [(4, 4)]


def test_a_site_never_has_more_unproven_devices_than_its_limit(world: Make) -> None:
    policy = {"waves": ["rest"], "blastRadius": {"maxDevicesPerSite": 2}, **QUIET}
    here = world(policy, 24, sites=("lyon", "graz", ""))
    for now_s in range(0, 600, 10):
        here.step(float(now_s))
        rows = here.ledger.assignments
        pending = Counter(
            one.site
            for one, result in zip(rows, outcomes_of(here.ledger.rollout, rows, float(now_s)), strict=True)
            if result not in {"succeeded", "control"}
        )
        assert pending["lyon"] <= 2
        assert pending["graz"] <= 2
        for device in here.waiting():
            here.report(device, "confirmed", float(now_s))
    assert here.state == "completed"


def test_a_site_with_failures_gets_no_more_and_does_not_hold_the_others(world: Make) -> None:
    policy = {"waves": ["rest"], "blastRadius": {"maxDevicesPerSite": 1}, **PLAIN}
    here = world({**policy, "failureGate": {"onInconclusive": "CONTINUE"}}, 12, sites=("lyon", "graz"))
    for now_s in range(0, 600, 10):
        here.step(float(now_s))
        for one in here.ordered():
            if one.phase is None:
                here.report(one.device, "failed" if one.site == "lyon" else "confirmed", float(now_s))
    assert here.state == "completed"
    assert Counter(one.site for one in here.ledger.assignments) == {"lyon": 1, "graz": 6}


def test_the_emergency_stop_holds_orders_and_not_the_way_back(world: Make) -> None:
    here = world({"waves": [3, "rest"], **PLAIN}, 9)
    here.step(0.0)
    here.is_stopped = True
    for device in here.waiting()[:2]:
        here.report(device, "confirmed", 1.0)
    here.step(2.0)
    here.step(50.0)
    assert len(here.ledger.assignments) == 3
    for one in here.ordered():
        here.report(one.device, "failed", 60.0)
    here.step(61.0)
    assert here.state == "rolling_back"
    assert all(one.rollback_command for one in here.ledger.assignments)


def test_the_rate_grows_with_success(world: Make) -> None:
    rate = {
        "exponentialRate": {
            "baseRatePerMinute": 1,
            "incrementFactor": 2,
            "rateIncreaseCriteria": {"numberOfSucceededThings": 2},
        }
    }
    here = world({"waves": ["rest"], "jobExecutionsRolloutConfig": rate, **QUIET}, 30)
    sent = []
    for minute in range(8):
        before = len(here.ordered())
        here.step(60.0 * minute)
        sent.append(len(here.ordered()) - before)
        for device in here.waiting():
            here.report(device, "confirmed", 60.0 * minute)
    assert sent[:4] == [1, 1, 2, 4]


RETRY: dict[str, Any] = {
    "jobExecutionsRetryConfig": {"criteriaList": [{"failureType": "FAILED", "numberOfRetries": 2}]}
}


def test_a_failed_device_is_tried_again_and_only_the_last_attempt_counts(world: Make) -> None:
    here = world({"waves": [1, "rest"], **RETRY, **PLAIN}, 4)
    here.step(0.0)
    (device,) = here.waiting()
    for attempt in (2, 3):
        here.report(device, "failed", 10.0 * attempt)
        here.step(10.0 * attempt + 1)
        (one,) = here.ledger.assignments
        assert (one.attempt, one.command, one.phase) == (attempt, f"r1.{device}.{attempt}", None)
        assert here.state == "running"
    here.report(device, "failed", 50.0)
    here.step(51.0)
    assert here.state == "rolling_back", "all devices of the first wave failed"


def test_a_retry_that_succeeds_leaves_no_trace_in_the_gates(world: Make) -> None:
    here = world({"waves": [3, "rest"], **RETRY, **PLAIN}, 6)
    here.step(0.0)
    for device in here.waiting():
        here.report(device, "failed", 1.0)
    run(here, 400, since_s=2)
    assert here.state == "completed"
    assert here.ledger.decisions[-1].numbers["failed"] == 0
    assert [one.attempt for one in here.ledger.assignments] == [2, 2, 2, 1, 1, 1]


def test_a_silent_device_is_not_waited_for_for_ever_because_of_retries(world: Make) -> None:
    retry = {"criteriaList": [{"failureType": "TIMED_OUT", "numberOfRetries": 1}]}
    here = world({"waves": [3, "rest"], "offlineAfterSeconds": 50, "jobExecutionsRetryConfig": retry, **PLAIN}, 6)
    here.step(0.0)
    here.away = set(here.waiting())
    here.step(150.0)
    assert [one.attempt for one in here.ledger.assignments] == [1, 1, 1], "it is not there to be tried again"
    assert here.state == "running"
    here.step(200.0)
    assert here.state == "rolling_back"


def test_devices_that_join_get_the_release_after_the_waves(world: Make) -> None:
    here = world({"waves": ["rest"], "targetSelection": "CONTINUOUS", **QUIET}, 4)
    run(here, 400)
    assert here.state == "following"
    here.devices = [*here.devices, msgspec.structs.replace(here.devices[0], id="late", enrolled_s=400.0)]
    here.step(410.0)
    assert [one.device for one in here.ordered() if one.phase is None] == ["late"]
    here.report("late", "failed", 411.0)
    here.step(412.0)
    assert here.state == "following", "one of five: not proven, and nobody waits for a wave"


def test_a_snapshot_takes_nobody_that_joined_later(world: Make) -> None:
    here = world({"waves": [1, "rest"], **PLAIN}, 4)
    here.step(0.0)
    here.devices = [*here.devices, msgspec.structs.replace(here.devices[0], id="late", enrolled_s=5.0)]
    run(here, 400, since_s=10)
    assert here.state == "completed"
    assert "late" not in {one.device for one in here.ledger.assignments}


def fail_board(here: World, target: str, now_s: float) -> None:
    for one in here.ordered():
        if one.phase is None:
            here.report(one.device, "failed" if one.target == target else "confirmed", now_s)


def test_a_bad_board_is_halted_and_goes_back_while_the_others_complete(world: Make) -> None:
    here = world({"waves": [40, "rest"], **PLAIN}, 100, targets=("a", "b", "c", "d"))
    here.step(0.0)
    fail_board(here, "b", 1.0)
    here.step(2.0)
    assert here.state == "running"
    (halt,) = here.ledger.rollout.halted
    assert (halt.target, halt.action) == ("b", "ROLLBACK")
    for one in here.ledger.assignments:
        assert (one.rollback_command is not None) == (one.target == "b")
        if one.target == "b":
            here.ledger = here.ledger.report(one.device, rollback_phase="confirmed")
    run(here, 500, since_s=3)
    assert here.state == "completed"
    assert Counter(one.target for one in here.ledger.assignments) == {"a": 25, "b": 10, "c": 25, "d": 25}
    assert "b halted (ROLLBACK)" in here.ledger.rollout.reason
    assert "board_halted" in here.actions()


def test_a_wave_does_not_wait_for_the_blocks_of_a_halted_board(world: Make) -> None:
    waves = [{"add": 12, "boards": ["a"]}, {"add": 6, "boards": ["b"]}, "rest"]
    here = world({"waves": waves, **QUIET}, 80, targets=("a", "b"))
    here.step(0.0)
    fail_board(here, "b", 1.0)
    here.step(100.0)
    assert here.ledger.rollout.wave == 1, "the blocks of the first wave were observed"
    fail_board(here, "b", 101.0)
    here.step(102.0)
    assert [halt.target for halt in here.ledger.rollout.halted] == ["b"]
    for one in here.ledger.assignments:
        if one.rollback_command is not None:
            here.ledger = here.ledger.report(one.device, rollback_phase="confirmed")
    here.step(103.0)
    assert here.ledger.rollout.wave == 2


def test_controls_of_a_halted_board_do_not_graduate(world: Make) -> None:
    here = world({"waves": [20, "rest"], **QUIET}, 80, targets=("a", "b"))
    here.step(0.0)
    halt = BoardHalt(target="b", action="PAUSE", reason="by hand", at_s=1.0)
    here.ledger = msgspec.structs.replace(
        here.ledger, rollout=msgspec.structs.replace(here.ledger.rollout, halted=(halt,))
    )
    run(here, 1000)
    assert here.state == "completed"
    assert {one.target for one in here.ledger.assignments if one.arm == "control"} == {"b"}
    assert {one.target for one in here.ledger.assignments if one.arm == "graduated"} == {"a"}


def test_resuming_lets_a_paused_board_go_on(world: Make) -> None:
    here = world({"waves": [20, "rest"], **PLAIN}, 80, targets=("a", "b"))
    here.step(0.0)
    halts = (
        BoardHalt(target="a", action="CANCEL", reason="bad", at_s=1.0),
        BoardHalt(target="b", action="PAUSE", reason="odd", at_s=1.0),
    )
    here.ledger = msgspec.structs.replace(
        here.ledger, rollout=msgspec.structs.replace(here.ledger.rollout, halted=halts)
    )
    act(here, "pause", 2.0)
    act(here, "resume", 3.0)
    assert [halt.target for halt in here.ledger.rollout.halted] == ["a"]


def test_a_superseded_rollout_takes_back_what_nobody_heard(world: Make) -> None:
    here = world({"waves": [3, "rest"], **PLAIN}, 6)
    here.step(0.0)
    done, _, unheard = here.waiting()
    here.report(done, "confirmed", 1.0)
    here.ledger = here.ledger.report(here.waiting()[0], phase="installing", started_s=1.0)
    rows = here.ledger
    newer: Rollout = msgspec.structs.replace(rows.rollout, id="r2", version="3")
    here.ledger = rows.apply(supersede(rows.rollout, 2.0, rows.assignments, by=newer, actor="fleet"))
    assert here.state == "superseded"
    assert "m 3 took its place (rollout r2)" in here.ledger.rollout.reason
    assert [one.device for one in here.ledger.assignments if one.rollback_command] == [unheard]
    assert look(here.situation(3.0)).commands == ()
    with pytest.raises(RolloutConflict, match="superseded"):
        supersede(here.ledger.rollout, 4.0, (), by=newer, actor="fleet")


def test_the_failure_unit_is_settled_when_the_first_wave_starts(world: Make) -> None:
    many = world({"waves": [1, "rest"], **PLAIN}, 40, sites=[f"site-{number}" for number in range(20)])
    many.step(0.0)
    assert many.ledger.rollout.failure_unit == "SITE"
    few = world({"waves": [1, "rest"], **PLAIN}, 40, sites=[f"site-{number}" for number in range(19)])
    few.step(0.0)
    assert few.ledger.rollout.failure_unit == "DEVICE"
    asked = world({"waves": [1, "rest"], **PLAIN, "failureGate": {"unit": "SITE"}}, 4)
    asked.step(0.0)
    assert asked.ledger.rollout.failure_unit == "SITE"


def test_a_device_that_was_ordered_too_often_is_left_alone(world: Make) -> None:
    here = world({"waves": ["rest"], **PLAIN}, 8)
    here.change("dev-003", orders_last_day=6)
    run(here, 300)
    assert here.state == "completed"
    assert "dev-003" not in {one.device for one in here.ledger.assignments}


def test_a_device_that_has_the_release_by_the_end_is_not_graduated(world: Make) -> None:
    here = world({"waves": [2, "rest"], **QUIET}, 4)
    here.step(0.0)
    first, second = here.controls()
    here.change(first, bundle=NEW)
    run(here, 400)
    assert here.state == "completed"
    assert here.controls() == [first]
    assert here.ledger.assignments[-1].device == second
