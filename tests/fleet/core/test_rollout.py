"""Rollouts end to end in memory: waves, stops, the way back, and the properties of the table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewright.fleet.core.back import take_back_unheard
from edgewright.fleet.core.gates.status import GateStatus
from edgewright.fleet.core.ledger import StaleRevisionError
from edgewright.fleet.core.orders.waves import eligible
from edgewright.fleet.core.rollout import TRANSITIONS, Event, RolloutConflict, fire, gate_status, tick
from edgewright.fleet.core.rows import ENDED, Assignment, Device, RolloutState

from .conftest import NEW, OLD, Traffic, World
from .gates.test_attribution import UNSURE, seen

Make = Callable[..., World]
NO_DRIFT: dict[str, Any] = {"driftGate": {"enabled": False}}
NO_CONTROLS: dict[str, Any] = {"control": {"fractions": [0]}}
SMALL: dict[str, Any] = {"waves": [1, 2, "rest"], "horizonSeconds": 100, **NO_DRIFT, **NO_CONTROLS}


def row_of(world: World, device: str) -> Assignment:
    (found,) = [one for one in world.ledger.assignments if one.device == device]
    return found


def run_to_end(world: World, phase_of: Callable[[str], str | None], until_s: int = 1000) -> None:
    for now_s in range(0, until_s, 10):
        world.step(float(now_s))
        for device in world.waiting():
            phase = phase_of(device)
            if phase is not None:
                world.report(device, phase, float(now_s))
        if world.state in ENDED:
            return


def act(world: World, event: Event, now_s: float) -> None:
    rollout, orders = world.ledger.rollout, world.ledger.assignments
    world.ledger = world.ledger.apply(fire(rollout, event, now_s, orders, actor="ada", reason="because"))


def waves_of(world: World) -> list[int]:
    sizes: dict[int, int] = {}
    for one in world.ledger.assignments:
        sizes[one.wave] = sizes.get(one.wave, 0) + 1
    return [sizes[wave] for wave in sorted(sizes)]


def test_a_good_release_goes_out_in_waves_and_completes(world: Make) -> None:
    here = world(SMALL, 6)
    run_to_end(here, lambda _: "confirmed")
    assert here.state == "completed"
    assert waves_of(here) == [1, 2, 3]
    assert here.actions() == ["wave_started", "wave_passed"] * 3 + ["completed"]
    assert here.ledger.decisions[-1].numbers["succeeded"] == 6


def test_a_bundle_that_fails_on_the_first_device_never_reaches_the_second(world: Make) -> None:
    here = world(SMALL, 6)
    run_to_end(here, lambda _: "failed", until_s=300)
    assert here.state == "rolled_back"
    assert waves_of(here) == [1]


def test_a_catastrophe_in_a_large_wave_stops_within_three_failures(world: Make) -> None:
    here = world({"waves": [500, "rest"], **NO_DRIFT, **NO_CONTROLS}, 600)
    here.step(0.0)
    for number, device in enumerate(here.waiting()[:3], start=1):
        assert here.state == "running"
        here.report(device, "failed", float(number))
        here.step(float(number))
    assert here.state == "rolling_back"
    assert here.ledger.decisions[-1].numbers["failures"] == 3


def test_one_silent_device_asks_a_person_and_three_are_proof(world: Make) -> None:
    here = world(SMALL, 6)
    here.step(0.0)
    here.step(99.0)
    assert here.state == "running"
    here.step(100.0)
    assert here.state == "paused", "one device may have been switched off"
    here = world({**SMALL, "waves": [3, "rest"]}, 6)
    here.step(0.0)
    here.step(100.0)
    assert here.state == "rolling_back"


def test_the_way_back_ends_when_all_devices_are_back(world: Make) -> None:
    here = world({**SMALL, "waves": [3, "rest"]}, 6)
    here.step(0.0)
    for device in here.waiting():
        here.report(device, "failed", 1.0)
    here.step(2.0)
    assert {one.rollback_command for one in here.ledger.assignments} == {
        f"r1.{d.device}.back" for d in here.ledger.assignments
    }
    first, second, third = (one.device for one in here.ledger.assignments)
    here.ledger = here.ledger.report(first, rollback_phase="confirmed")
    here.ledger = here.ledger.report(second, rollback_phase="confirmed")
    here.step(3.0)
    assert here.state == "rolling_back"
    here.devices = [msgspec.structs.replace(one, reported_s=4.0) if one.id == third else one for one in here.devices]
    here.step(5.0)  # the third says that it runs the old bundle, and is idle: it needs no update to be back
    assert here.state == "rolled_back"
    assert here.ledger.decisions[-1].numbers["returned"] == 3


def test_a_device_that_stays_away_does_not_hold_the_way_back_open_for_ever(world: Make) -> None:
    here = world(SMALL, 6)
    here.step(0.0)
    here.report(here.waiting()[0], "failed", 1.0)
    here.step(2.0)
    here.devices = [msgspec.structs.replace(one, bundle=NEW) for one in here.devices]
    here.step(101.0)
    assert here.state == "rolling_back"
    here.step(102.0)
    assert here.state == "rolled_back"
    assert here.ledger.decisions[-1].numbers["silent"] == 1


def test_a_first_release_has_nothing_to_go_back_to(world: Make) -> None:
    here = world(SMALL, 3, first=True)
    run_to_end(here, lambda _: "failed", until_s=300)
    assert here.state == "rolled_back"
    assert "had nothing to go back to" in here.ledger.rollout.reason
    assert [one.withdrawn_s is not None for one in here.ledger.assignments] == [True]


def test_pause_holds_new_orders_and_resume_sends_them(world: Make) -> None:
    here = world(SMALL, 6)
    here.step(0.0)
    act(here, "pause", 1.0)
    here.report(here.waiting()[0], "confirmed", 2.0)
    here.step(3.0)
    assert len(here.ledger.assignments) == 1
    act(here, "resume", 4.0)
    here.step(5.0)
    assert len(here.ledger.assignments) == 3
    assert [one.actor for one in here.ledger.decisions if one.action in {"paused", "resumed"}] == ["ada", "ada"]


def test_a_paused_rollout_still_rolls_back_when_it_turns_out_bad(world: Make) -> None:
    here = world({**SMALL, "waves": [5, "rest"]}, 6)
    here.step(0.0)
    act(here, "pause", 1.0)
    for device in here.waiting():
        here.report(device, "failed", 2.0)
    here.step(3.0)
    assert here.state == "rolling_back"


def test_an_inconclusive_wave_pauses_once_and_resume_accepts_it(world: Make) -> None:
    here = world({**SMALL, "waves": [2, "rest"]}, 6)
    here.step(0.0)
    good, bad = here.waiting()
    here.report(good, "confirmed", 1.0)
    here.report(bad, "failed", 1.0)
    here.step(2.0)
    assert here.state == "paused"
    assert "not proven" in here.ledger.rollout.reason
    act(here, "resume", 3.0)
    here.step(4.0)
    assert here.state == "running"
    assert here.ledger.rollout.wave == 1


def test_abort_takes_back_what_nobody_heard_and_leaves_the_rest(world: Make) -> None:
    here = world({**SMALL, "waves": [3, "rest"]}, 6)
    here.step(0.0)
    done, begun, unheard = here.waiting()
    here.report(done, "confirmed", 1.0)
    here.ledger = here.ledger.report(begun, phase="installing", started_s=1.0)
    act(here, "abort", 2.0)
    assert here.state == "aborted"
    assert [one.device for one in here.ledger.assignments if one.rollback_command] == [unheard]
    act(here, "rollback", 3.0)
    here.step(3.0)
    assert all(one.rollback_command for one in here.ledger.assignments)


def test_what_an_emergency_stop_took_back_is_given_again(world: Make) -> None:
    """And not passed over: the wave does not pass without those devices."""
    here = world({**SMALL, "waves": [3, "rest"]}, 6)
    here.step(0.0)
    done, other, unheard = here.waiting()
    here.report(done, "confirmed", 1.0)
    here.report(other, "confirmed", 1.0)
    act(here, "pause", 2.0)
    here.ledger = here.ledger.apply(take_back_unheard(here.ledger.rollout, 2.0, here.ledger.assignments))
    here.is_stopped = True
    here.step(3.0)
    here.is_stopped = False
    act(here, "resume", 4.0)
    here.step(5.0)
    again = row_of(here, unheard)
    assert (again.attempt, again.dispatched_s, again.rolled_back_s, again.rollback_command) == (2, 5.0, None, None)
    assert here.ledger.rollout.wave == 0
    act(here, "rollback", 6.0)
    here.step(6.0)
    assert row_of(here, unheard).rollback_command == f"r1.{unheard}.back.2", (
        "a command that the device has not done yet"
    )


def test_a_completed_rollout_can_be_taken_back(world: Make) -> None:
    here = world(SMALL, 6)
    run_to_end(here, lambda _: "confirmed")
    act(here, "rollback", 500.0)
    here.step(500.0)
    assert here.state == "rolling_back"
    assert all(one.rollback_command for one in here.ledger.assignments)


def test_an_impossible_event_says_what_is_possible(world: Make) -> None:
    here = world(SMALL, 6)
    with pytest.raises(
        RolloutConflict, match=r"r1 is running: resume is not possible; possible now: pause, abort, rollback"
    ):
        act(here, "resume", 1.0)
    with pytest.raises(RolloutConflict, match="not for operators"):
        act(here, "returned", 1.0)


def test_abort_config_can_cancel(world: Make) -> None:
    criterion = {
        "failureType": "REJECTED",
        "action": "CANCEL",
        "thresholdPercentage": 10,
        "minNumberOfExecutedThings": 2,
    }
    here = world({**SMALL, "waves": [4, "rest"], "abortConfig": {"criteriaList": [criterion]}}, 6)
    here.step(0.0)
    first, second, *_ = here.waiting()
    here.report(first, "confirmed", 1.0)
    here.report(second, "refused", 1.0)
    here.step(2.0)
    assert here.state == "aborted"


def test_only_devices_that_can_take_the_release_get_it(world: Make) -> None:
    here = world(SMALL, 1)
    base = here.devices[0]
    odd: list[Device] = [
        msgspec.structs.replace(base, id="other-board", target="toaster"),
        msgspec.structs.replace(base, id="has-it", bundle=NEW),
        msgspec.structs.replace(base, id="asleep", last_seen_s=None),
        msgspec.structs.replace(base, id="long-gone", last_seen_s=-10_000.0),
        msgspec.structs.replace(base, id="busy-elsewhere", taken=True),
    ]
    assert [one.id for one in eligible(here.ledger.rollout, 0.0, [*odd, base], ())] == [base.id]


def test_offline_devices_are_named_at_the_end(world: Make) -> None:
    here = world(SMALL, 2)
    here.step(0.0)
    for device in here.waiting():
        here.report(device, "confirmed", 1.0)
    gone = {one.device for one in here.ledger.assignments}
    here.devices = [one if one.id in gone else msgspec.structs.replace(one, last_seen_s=None) for one in here.devices]
    commands = tick(here.situation(2000.0))
    here.ledger = here.ledger.apply(commands)
    assert here.state == "completed"
    assert "1 offline and left as they are" in here.ledger.rollout.reason


@given(seed=st.integers(0, 2**32), share=st.integers(1, 9))
def test_every_prefix_of_the_order_holds_each_target_in_its_share(seed: int, share: int) -> None:
    here = World(SMALL, 0)
    devices = [
        Device(
            id=f"d{n}",
            target="a" if n % 10 < share else "b",
            last_seen_s=0.0,
            version="1",
            bundle=OLD,
            idle=True,
            reported_s=0.0,
        )
        for n in range(100)
    ]
    bundles = tuple(msgspec.structs.replace(here.ledger.rollout.bundles[0], target=target) for target in "ab")
    rollout = msgspec.structs.replace(here.ledger.rollout, bundles=bundles, seed=seed)
    order = eligible(rollout, 0.0, devices, ())
    for length in range(10, 101, 10):
        assert abs(sum(one.target == "a" for one in order[:length]) - share * length / 10) <= 1
    assert order == eligible(rollout, 0.0, devices[::-1], ())


def test_the_rate_limit_is_kept(world: Make) -> None:
    here = world(
        {"waves": ["rest"], "jobExecutionsRolloutConfig": {"maximumPerMinute": 4}, **NO_DRIFT, **NO_CONTROLS}, 10
    )
    for now_s in range(0, 240, 5):
        here.step(float(now_s))
        recent = [one for one in here.ledger.assignments if one.dispatched_s > now_s - 60]
        assert len(recent) <= 4
        for device in here.waiting():
            here.report(device, "confirmed", float(now_s))
    assert here.state == "completed"
    assert len(here.ledger.assignments) == 10


def test_soak_keeps_a_wave_open(world: Make) -> None:
    here = world({**SMALL, "soakSeconds": 50}, 6)
    here.step(0.0)
    here.report(here.waiting()[0], "confirmed", 10.0)
    here.step(59.0)
    assert here.ledger.rollout.wave == 0
    here.step(60.0)
    assert here.ledger.rollout.wave == 1


def test_a_pause_by_hand_waives_no_gate(world: Make, traffic: Callable[[int], Traffic]) -> None:
    here = world({"waves": [1, "rest"], "horizonSeconds": 100, **NO_CONTROLS}, 6)
    here.step(0.0)
    act(here, "pause", 1.0)
    act(here, "resume", 2.0)
    here.report(here.waiting()[0], "confirmed", 3.0)
    draw = traffic(1)
    here.evidence = (seen(draw.calibrated(), draw.totals(20), draw.totals(800)),)
    here.step(4.0)
    assert (here.state, here.ledger.rollout.wave) == ("running", 0), "20 samples are too few: it waits"
    here.step(100.0)
    assert here.state == "paused"
    act(here, "resume", 101.0)
    here.step(102.0)
    assert (here.state, here.ledger.rollout.wave) == ("running", 1)


def test_a_bad_build_is_taken_back_in_the_first_wave(world: Make, traffic: Callable[[int], Traffic]) -> None:
    here = world({"waves": [1, 2, "rest"], "horizonSeconds": 100, **NO_CONTROLS}, 6)
    here.step(0.0)
    here.report(here.waiting()[0], "confirmed", 1.0)
    here.step(2.0)
    assert here.ledger.rollout.wave == 0, "no traffic yet: the wave waits"
    draw = traffic(1)
    here.evidence = (seen(draw.calibrated(), draw.totals(400, confidence=UNSURE), draw.totals(800)),)
    here.step(3.0)
    assert here.state == "rolling_back"
    assert waves_of(here) == [1]
    numbers = here.ledger.decisions[-1].numbers
    assert numbers["gate"] == "drift"
    assert numbers["samples"] == 400
    msgspec.json.encode(here.ledger.decisions[-1])


def test_data_drift_is_told_once_and_the_rollout_goes_on(world: Make, traffic: Callable[[int], Traffic]) -> None:
    here = world({"waves": [1, "rest"], "horizonSeconds": 100, **NO_CONTROLS}, 6)
    here.step(0.0)
    here.report(here.waiting()[0], "confirmed", 1.0)
    draw = traffic(2)
    shifted = (0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.13, 0.16, 0.19, 0.21)
    here.evidence = (seen(draw.calibrated(), draw.totals(800, inputs=shifted), draw.totals(800, inputs=shifted)),)
    here.step(2.0)
    here.step(3.0)
    assert here.state == "running"
    assert here.ledger.rollout.wave == 1
    assert [alert.key for alert in here.ledger.alerts] == ["data-drift/r1/board"]


def test_gate_status_survives_json(world: Make, traffic: Callable[[int], Traffic]) -> None:
    here = world({"waves": [1, "rest"]}, 3)
    here.step(0.0)
    draw = traffic(3)
    for evidence in (
        (),
        (seen(draw.calibrated(), draw.totals(0), None),),
        (seen(draw.calibrated(), draw.totals(9), None),),
    ):
        here.evidence = evidence
        gates = gate_status(here.situation(1.0))
        assert msgspec.json.decode(msgspec.json.encode(gates), type=tuple[GateStatus, ...]) == gates


def test_two_servers_cannot_both_act_on_one_row(world: Make) -> None:
    here = world(SMALL, 6)
    here.seen(0.0)
    commands = tick(here.situation(0.0))
    after = here.ledger.apply(commands)
    with pytest.raises(StaleRevisionError):
        after.apply(commands)


def test_no_state_is_without_a_way_out() -> None:
    states: set[RolloutState] = set(get_args(RolloutState))
    reachable = {state: {state} for state in states}
    for _ in states:
        for (source, _event), target in TRANSITIONS.items():
            reachable[source] |= reachable[target]
    for state in states:
        assert reachable[state] & ENDED, f"{state} never ends"
    assert reachable["scheduled"] == states, "every state can be reached"
    assert {event for _, event in TRANSITIONS} == set(get_args(Event))
