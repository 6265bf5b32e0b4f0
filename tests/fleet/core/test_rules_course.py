"""The course of a rollout, rule by rule: start and end, waves by board and site, approvals, retries, joiners."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from edgewright.fleet.core.orders.schedule import time_s
from edgewright.fleet.core.policy.at_start import check_at_start
from edgewright.fleet.core.policy.policy import PolicyError, policy_from
from edgewright.fleet.core.rollout import RolloutConflict, fire

from .conftest import World

Make = Callable[..., World]
PLAIN: dict[str, Any] = {
    "waves": ["rest"],
    "horizonSeconds": 1000,
    "driftGate": {"enabled": False},
    "failureGate": {"enabled": False},
    "control": {"fractions": [0]},
}
START, END = "2026-07-10T08:00:00+02:00", "2026-07-10T09:00:00+02:00"
START_S, END_S = time_s(START), time_s(END)


def ordered(world: World) -> list[str]:
    return sorted(one.device for one in world.ordered())


def act(world: World, event: Any, now_s: float) -> None:
    rollout, orders = world.ledger.rollout, world.ledger.assignments
    world.ledger = world.ledger.apply(fire(rollout, event, now_s, orders, actor="ada", reason="because"))


def confirm(world: World, now_s: float) -> None:
    for device in world.waiting():
        world.report(device, "confirmed", now_s)


def ends(world: Make, behavior: str) -> World:
    """Return a rollout at its end time: one device has the release, one has heard, one has not."""
    schedule = {"startTime": START, "endTime": END, "endBehavior": behavior}
    here = world({**PLAIN, "waves": [3, "rest"], "horizonSeconds": 86400, "schedulingConfig": schedule}, 6)
    here.step(START_S)
    done, heard, _ = (one.device for one in here.ordered())
    here.report(done, "confirmed", START_S + 1)
    here.ledger = here.ledger.report(heard, phase="probation", started_s=START_S + 1)
    here.step(END_S)
    return here


def taken_back(world: World) -> list[int]:
    return [place for place, one in enumerate(world.ordered()) if one.rollback_command is not None]


def test_nothing_goes_out_before_the_start(world: Make) -> None:
    here = world({**PLAIN, "schedulingConfig": {"startTime": START}}, 3, state="scheduled")
    here.step(START_S - 1)
    assert (here.state, ordered(here)) == ("scheduled", [])
    here.step(START_S)
    assert (here.state, len(ordered(here))) == ("running", 3)
    assert here.actions()[0] == "started"


def test_a_scheduled_rollout_can_be_aborted(world: Make) -> None:
    here = world({**PLAIN, "schedulingConfig": {"startTime": START}}, 3, state="scheduled")
    act(here, "abort", START_S - 10)
    here.step(START_S)
    assert (here.state, ordered(here)) == ("aborted", [])


def test_stop_rollout_gives_no_more_orders_and_waits_for_results(world: Make) -> None:
    here = ends(world, "STOP_ROLLOUT")
    assert (here.state, len(ordered(here)), taken_back(here)) == ("running", 3, [])
    confirm(here, END_S + 1)
    for device in [one.device for one in here.ordered()]:
        here.report(device, "confirmed", END_S + 1)
    here.step(END_S + 2)
    assert here.state == "completed"
    assert len(ordered(here)) == 3, "the next wave never starts"
    assert END in here.ledger.rollout.reason


def test_cancel_takes_back_what_nobody_has_heard(world: Make) -> None:
    here = ends(world, "CANCEL")
    assert (here.state, taken_back(here)) == ("aborted", [2])


def test_force_cancel_takes_back_what_is_under_way(world: Make) -> None:
    here = ends(world, "FORCE_CANCEL")
    assert (here.state, taken_back(here)) == ("aborted", [1, 2])


def test_a_rollout_whose_end_is_over_or_whose_board_is_not_in_the_release_is_not_made() -> None:
    policy = policy_from({"schedulingConfig": {"endTime": END}}, where="p")
    check_at_start(policy, ["x"], END_S - 1, where="p")
    with pytest.raises(PolicyError, match="is over already"):
        check_at_start(policy, ["x"], END_S, where="p")
    policy = policy_from({"waves": [1, {"add": 1, "boards": ["x", "rpi"]}, "rest"]}, where="p")
    with pytest.raises(PolicyError, match=r"wave 2 is for board 'rpi', .* it has x, y"):
        check_at_start(policy, ["y", "x"], 0.0, where="p")


def test_waves_by_board_by_site_by_query_and_by_share(world: Make) -> None:
    waves = [
        {"add": 2, "boards": ["x"]},
        {"add": "50%", "sites": ["lab"]},
        {"add": "rest", "where": 'site == "lab"'},
        "rest",
    ]
    here = world({**PLAIN, "waves": waves}, 24, ("x", "y"), sites=("lab", "lab", "shop"))
    for now_s in range(0, 100, 10):
        here.step(float(now_s))
        confirm(here, now_s + 1.0)
    assert here.state == "completed"
    device_of = {device.id: device for device in here.devices}
    wave_of = {one.device: one.wave for one in here.ordered()}
    by_wave = {
        wave: [device_of[name] for name, number in wave_of.items() if number == wave]
        for wave in sorted({*wave_of.values()})
    }
    assert [device.target for device in by_wave[0]] == ["x", "x"]
    assert {device.site for device in by_wave[1]} == {"lab"}
    assert len(by_wave[1]) == 8, "half of the 16 devices in the lab"
    assert {device.site for device in by_wave[2]} == {"lab"}
    early = sum(device.site == "lab" for device in by_wave[0])
    assert len(by_wave[1]) + len(by_wave[2]) + early == 16
    assert {device.site for device in by_wave[3]} == {"shop"}
    assert len(here.ordered()) == 24


def test_a_wave_waits_for_a_person_and_for_each_such_wave_anew(world: Make) -> None:
    waves = [1, {"add": 2, "requireApproval": True}, {"add": "rest", "requireApproval": True}]
    here = world({**PLAIN, "waves": waves}, 6)
    here.step(0.0)
    with pytest.raises(RolloutConflict, match="approve is not possible"):
        act(here, "approve", 1.0)
    sizes = []
    for now_s in (10.0, 20.0, 30.0):
        confirm(here, now_s)
        here.step(now_s + 1)
        sizes.append((here.state, len(here.ordered())))
        if here.state == "awaiting_approval":
            act(here, "approve", now_s + 2)
            here.step(now_s + 3)
    assert sizes == [("awaiting_approval", 1), ("awaiting_approval", 3), ("completed", 6)]
    assert [(each.wave, each.by) for each in here.ledger.rollout.approvals] == [(1, "ada"), (2, "ada")]
    assert here.actions().count("wave_passed") == 3


def test_a_first_wave_may_wait_for_a_person(world: Make) -> None:
    here = world({**PLAIN, "waves": [{"add": 1, "requireApproval": True}, "rest"]}, 3)
    here.step(0.0)
    assert (here.state, ordered(here)) == ("awaiting_approval", [])
    act(here, "approve", 1.0)
    here.step(2.0)
    assert len(ordered(here)) == 1


def test_while_a_person_is_awaited_gates_still_stop(world: Make) -> None:
    waves = [4, {"add": "rest", "requireApproval": True}]
    policy = {**PLAIN, "waves": waves, "soakSeconds": 0, "failureGate": {"enabled": True, "onInconclusive": "CONTINUE"}}
    here = world(policy, 12)
    here.step(0.0)
    confirm(here, 1.0)
    here.step(2.0)
    assert here.state == "awaiting_approval"
    for one in here.ordered():  # stands for any gate that learns of something late
        here.ledger = here.ledger.report(one.device, phase="failed", ended_s=3.0)
    here.step(4.0)
    assert here.state == "rolling_back"


@pytest.mark.parametrize(
    ("failure_type", "phases", "attempts", "outcome"),
    [
        ("FAILED", ["failed", "failed", "confirmed"], 3, "succeeded"),
        ("FAILED", ["failed", "failed", "failed", "confirmed"], 3, "failed"),
        ("ALL", ["rolled_back", "confirmed"], 2, "succeeded"),
        ("FAILED", ["refused", "confirmed"], 1, "failed"),
        ("TIMED_OUT", ["failed", "confirmed"], 1, "failed"),
        ("TIMED_OUT", [None, "confirmed"], 2, "succeeded"),
        ("FAILED", [None, "confirmed"], 1, "failed"),
    ],
)
def test_an_order_is_tried_again_and_only_the_last_attempt_counts(
    world: Make, failure_type: str, phases: list[str | None], attempts: int, outcome: str
) -> None:
    retries = {"criteriaList": [{"failureType": failure_type, "numberOfRetries": 2}]}
    policy = {**PLAIN, "jobExecutionsRetryConfig": retries, "timeoutConfig": {"queuedTimeoutInMinutes": 2}}
    here = world(policy, 1)
    commands = []
    for number in range(len(phases) + 1):
        here.step(number * 130.0)
        (one,) = here.ordered()
        if one.command not in commands:
            commands.append(one.command)
        phase = phases[len(commands) - 1]
        if one.phase is None and phase is not None:
            here.report(one.device, phase, number * 130.0 + 1)
    for now_s in (1000.0, 3000.0):
        here.step(now_s)
    assert here.state == "completed"
    assert len(commands) == attempts, "each attempt has a command of its own"
    assert here.ledger.decisions[-1].numbers["succeeded" if outcome == "succeeded" else "failed"] == 1


def test_the_queued_timeout_ends_before_the_horizon_and_a_result_in_time_counts(world: Make) -> None:
    timeouts = {"queuedTimeoutInMinutes": 1, "inProgressTimeoutInMinutes": 2}
    here = world({**PLAIN, "waves": ["rest"], "timeoutConfig": timeouts}, 3)
    here.step(0.0)
    silent, slow, good = (one.device for one in here.ordered())
    here.ledger = here.ledger.report(slow, phase="probation", started_s=50.0)
    here.ledger = here.ledger.report(good, phase="confirmed", started_s=50.0, ended_s=160.0)
    here.step(169.0)
    assert here.state == "running"
    here.step(170.0)
    assert here.state == "completed"
    assert here.ledger.decisions[-1].numbers["succeeded"] == 1
    assert here.ledger.decisions[-1].numbers["failed"] == 2
    assert silent


def joins(world: World, name: str, now_s: float) -> None:
    world.devices = [*world.devices, msgspec.structs.replace(world.devices[0], id=name, enrolled_s=now_s)]


@pytest.mark.parametrize("selection", ["SNAPSHOT", "CONTINUOUS"])
def test_devices_that_join_are_in_where_the_selection_is_continuous(world: Make, selection: str) -> None:
    here = world({**PLAIN, "waves": [1, "rest"], "targetSelection": selection}, 3)
    here.step(0.0)
    joins(here, "late-1", 5.0)
    for now_s in (10.0, 20.0, 30.0):
        confirm(here, now_s)
        here.step(now_s + 1)
    is_continuous = selection == "CONTINUOUS"
    assert here.state == ("following" if is_continuous else "completed")
    assert ("late-1" in ordered(here)) is is_continuous
    joins(here, "late-2", 40.0)
    here.step(41.0)
    assert ("late-2" in ordered(here)) is is_continuous


def test_what_follows_keeps_to_its_rules(world: Make) -> None:
    policy = {
        **PLAIN,
        "targetSelection": "CONTINUOUS",
        "group": 'not id like "spare-*"',
        "jobExecutionsRolloutConfig": {"maximumPerMinute": 2},
        "blastRadius": {"maxDevicesPerSite": 1},
    }
    here = world(policy, 2, sites=("a",))
    for now_s in (0.0, 61.0, 122.0):
        here.step(now_s)
        confirm(here, now_s + 1)
    here.step(130.0)
    assert here.state == "following"
    for number in range(3):
        joins(here, f"late-{number}", 200.0)
        joins(here, f"spare-{number}", 200.0)
    here.step(210.0)
    assert len(ordered(here)) == 3, "one at a site at a time"
    confirm(here, 211.0)
    here.step(212.0)
    assert len(ordered(here)) == 4
    confirm(here, 213.0)
    here.step(214.0)
    assert len(ordered(here)) == 4, "two in a minute"
    here.step(280.0)
    assert len(ordered(here)) == 5
    assert not any(name.startswith("spare") for name in ordered(here))


def test_a_following_rollout_still_stops_on_failures(world: Make) -> None:
    policy = {**PLAIN, "targetSelection": "CONTINUOUS", "failureGate": {"enabled": True}}
    here = world(policy, 4)
    here.step(0.0)
    confirm(here, 1.0)
    here.step(2.0)
    assert here.state == "following"
    for number in range(6):
        joins(here, f"late-{number}", 10.0)
    here.step(11.0)
    for device in here.waiting():
        here.report(device, "failed", 12.0)
    here.step(13.0)
    assert here.state == "rolling_back"
    assert Counter(one.rollback_command is not None for one in here.ordered()) == {True: 10}
