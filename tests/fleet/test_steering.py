"""What operators do to rollouts, through store and reconciler, with devices that answer."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from edgewright.fleet.core import rollout as core
from edgewright.fleet.faults import ConflictError
from edgewright.fleet.reconciler import Reconciler
from edgewright.fleet.sim.device import Behaviour
from edgewright.fleet.store import desired
from tests.fleet.house import House

QUIET: dict[str, Any] = {"horizonSeconds": 300, "driftGate": {"enabled": False}, "controlGate": {"enabled": False}}
SLOW = Behaviour(requests_per_step=10)


def devices_on_release_1(house: House, folder: Path, names: int = 4) -> None:
    house.release(folder, "1")
    for number in range(names):
        house.enrol(f"cam-{number}", lambda _: SLOW, seed=number)
    house.step(connecting=True)
    made = house.fleet.create_rollout("digits", "1", {**QUIET, "waves": ["rest"]})
    house.run(lambda: house.fleet.rollout(made.id).rollout.state == "completed")
    house.release(folder, "2")


def actions(house: House, subject: str) -> list[str]:
    return [entry.action for entry in house.fleet.audit(limit=100, subject=subject)]


def test_an_emergency_stop_takes_unheard_orders_back_and_a_lift_lets_them_go_on(house: House, tmp_path: Path) -> None:
    devices_on_release_1(house, tmp_path)
    made = house.fleet.create_rollout("digits", "2", {**QUIET, "waves": ["rest"]})
    house.reconciler.step(house.clock.now_s)
    house.network.published.clear()  # the orders are lost: no device has heard them
    ordered = [one for one in house.fleet.rollout(made.id).assignments if one.arm == "treated"]
    assert ordered
    stopped = house.fleet.steering.stop(reason="smoke")
    assert stopped.rollouts == (made.id,)
    view = house.fleet.rollout(made.id)
    assert view.rollout.state == "paused"
    treated = [one for one in view.assignments if one.arm == "treated"]
    assert all(one.rolled_back_s is not None or one.withdrawn_s is not None for one in treated)
    for _ in range(80):
        house.step()
    assert {model.version for device in house.fleet.devices() for model in device.models} == {"1"}
    house.fleet.steering.lift()
    house.fleet.fire(made.id, "resume", reason="no smoke")
    house.run(lambda: house.fleet.rollout(made.id).rollout.state == "completed")
    assert {model.version for device in house.fleet.devices() for model in device.models} == {"2"}
    assert {one.attempt for one in house.fleet.rollout(made.id).assignments if one.arm == "treated"} == {2}
    assert actions(house, "fleet") == ["fleet.lifted", "fleet.stopped"]


def test_a_wave_waits_for_its_approval(house: House, tmp_path: Path) -> None:
    devices_on_release_1(house, tmp_path)
    waves = [{"add": 1}, {"add": "rest", "requireApproval": True}]
    made = house.fleet.create_rollout("digits", "2", {**QUIET, "waves": waves})
    house.run(lambda: house.fleet.rollout(made.id).rollout.state == "awaiting_approval")
    house.step()
    assert len([one for one in house.fleet.rollout(made.id).assignments if one.arm == "treated"]) == 1
    approved = house.fleet.fire(made.id, "approve", reason="looked at it")
    assert approved.approvals[0].by == "admin"
    house.run(lambda: house.fleet.rollout(made.id).rollout.state == "completed")
    assert {model.version for device in house.fleet.devices() for model in device.models} == {"2"}


def test_a_later_release_takes_the_place_of_one_that_lets_it(house: House, tmp_path: Path) -> None:
    devices_on_release_1(house, tmp_path)
    first = house.fleet.create_rollout("digits", "2", {**QUIET, "waves": [1, "rest"]})
    house.step()
    house.release(tmp_path, "3")
    with pytest.raises(ConflictError, match="onConflict"):
        house.fleet.create_rollout("digits", "3", QUIET)
    second = house.fleet.create_rollout("digits", "3", {**QUIET, "waves": ["rest"], "onConflict": "SUPERSEDE"})
    assert house.fleet.rollout(first.id).rollout.state == "superseded"
    house.run(lambda: house.fleet.rollout(second.id).rollout.state == "completed")
    assert {model.version for device in house.fleet.devices() for model in device.models} == {"3"}


def test_two_reconcilers_do_everything_once(house: House, tmp_path: Path) -> None:
    devices_on_release_1(house, tmp_path, names=6)
    made = house.fleet.create_rollout("digits", "2", {**QUIET, "waves": [1, 2, "rest"]})
    other = Reconciler(house.database, house.postbox, telemetry_revision=lambda: house.recorder.counts["records"])
    go = threading.Barrier(2)

    def ticks(reconciler: Reconciler) -> None:
        go.wait()
        reconciler.step(house.clock.now_s)

    for _ in range(60):
        threads = [threading.Thread(target=ticks, args=(one,)) for one in (house.reconciler, other)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        house.network.deliver(now_s=house.clock.now_s)
        house.step()
        if house.fleet.rollout(made.id).rollout.state == "completed":
            break
    view = house.fleet.rollout(made.id)
    assert view.rollout.state == "completed"
    assert len({one.device for one in view.assignments}) == len(view.assignments) == 6
    assert len({one.position for one in view.assignments}) == 6
    epochs = {device.device: device.desired_epoch for device in house.fleet.devices()}
    assert set(epochs.values()) == {2}, "one order of each rollout, none twice"
    decided = [each for each in actions(house, f"rollout:{made.id}") if each != "rollout.evidence"]
    assert decided.count("rollout.completed") == 1
    assert decided.count("rollout.wave_started") == len({one.wave for one in view.assignments if one.arm == "treated"})
    assert house.fleet.verify_audit().intact


def test_a_floor_that_rises_holds_for_the_way_back(house: House, tmp_path: Path) -> None:
    devices_on_release_1(house, tmp_path)
    made = house.fleet.create_rollout("digits", "2", {**QUIET, "waves": ["rest"]})
    house.run(lambda: house.fleet.rollout(made.id).rollout.state == "completed")
    house.fleet.steering.raise_floor("digits", 100)
    house.fleet.fire(made.id, "rollback", reason="a hole in both")
    house.run(lambda: house.fleet.rollout(made.id).rollout.state == "rolled_back")
    assert {model.version for device in house.fleet.devices() for model in device.models} == {"2"}
    with house.database.read() as connection:
        orders = [desired.order_of(connection, device.device) for device in house.fleet.devices()]
    assert all(order is not None and not any(one.rollback for one in order.desired.models) for order in orders)


def test_the_core_has_every_event_that_the_desk_offers() -> None:
    assert set(core.OPERATOR_EVENTS) == {"approve", "pause", "resume", "abort", "rollback"}
