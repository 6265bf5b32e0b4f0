"""Rollback storms are broken: budgets for each device, the pace of the way back, the breaker, a person's yes."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from edgewright.fleet.core.orders.storms import (
    breaker,
    may_go_back,
    may_take_release,
    named,
    needs_a_person,
    returns_left_now,
)
from edgewright.fleet.core.policy.policy import policy_from
from edgewright.fleet.core.rollout import tick
from edgewright.fleet.core.rows import Assign, RollBack
from edgewright.fleet.core.situation import Situation

from ..conftest import World
from .test_regime import device, good, order


def world(rollback: dict[str, Any] | None = None, devices: int = 10) -> World:
    return World({"rollback": rollback or {}}, devices)


def test_the_last_order_of_a_day_is_kept_for_the_way_back() -> None:
    policy = policy_from({"rollback": {"maxOrdersPerDevicePerDay": 3}}, where="test")
    spent = [device(orders_last_day=count) for count in range(4)]
    assert [may_take_release(policy, one) for one in spent] == [True, True, False, False]
    assert [may_go_back(policy, one) for one in spent] == [True, True, True, False]


def test_a_budget_of_one_is_one_order() -> None:
    policy = policy_from({"rollback": {"maxOrdersPerDevicePerDay": 1}}, where="test")
    assert may_take_release(policy, device(orders_last_day=0))
    assert not may_take_release(policy, device(orders_last_day=1))
    assert not may_go_back(policy, device(orders_last_day=1))


def test_the_pace_of_the_way_back_counts_the_last_minute() -> None:
    here = world({"maximumPerMinute": 3})
    orders = [order(rolled_back_s=5.0), order(rolled_back_s=50.0), order()]
    assert returns_left_now(here.ledger.rollout, 60.0, orders) == 1
    assert returns_left_now(here.ledger.rollout, 70.0, orders) == 2
    assert returns_left_now(world().ledger.rollout, 60.0, orders) is None


def test_a_release_its_way_back_and_its_mend_do_not_trip_the_breaker_but_the_next_one_does() -> None:
    here = world()
    rollout = here.ledger.rollout
    for orders in (1, 2, 3):
        spent = [msgspec.structs.replace(one, orders_last_day=orders) for one in here.devices]
        assert breaker(rollout, spent) is None
    spent[0] = msgspec.structs.replace(spent[0], orders_last_day=4)
    tripped = breaker(rollout, spent)
    assert tripped is not None
    assert tripped.action == "PAUSE"
    assert tripped.numbers == {"devices": 10, "orders_last_day": 31, "limit_per_device": 3.0}
    assert "31 orders to 10 devices in 24 h" in tripped.reason


def test_the_breaker_looks_only_at_boards_of_the_release() -> None:
    here = world()
    others = [msgspec.structs.replace(one, target="elsewhere", orders_last_day=6) for one in here.devices]
    assert breaker(here.ledger.rollout, others) is None


def test_a_rollback_onto_what_was_rolled_back_asks_a_person() -> None:
    rollout = msgspec.structs.replace(world().ledger.rollout, version="3")
    seen = Situation(
        rollout=rollout,
        now_s=1.0,
        devices=[device()],
        assignments=[order()],
        taken_back=frozenset({"sha256:2"}),
    )
    why = needs_a_person(seen)
    assert why is not None
    assert "dev-1 to 2, which was itself rolled back" in why
    with_good = msgspec.structs.replace(seen, good_releases=(good("1"),))
    assert needs_a_person(with_good) is None
    another = order(device="dev-2", previous_bundle="sha256:1", previous_version="1")
    assert needs_a_person(msgspec.structs.replace(seen, assignments=[order(), another])) is None
    assert needs_a_person(msgspec.structs.replace(seen, assignments=[order(arm="control")])) is None
    assert needs_a_person(seen, targets=["jetson"]) is None
    assert needs_a_person(msgspec.structs.replace(seen, taken_back=frozenset())) is None


def test_many_names_are_cut_and_counted() -> None:
    assert named(["a", "b"]) == "a, b"
    assert named([f"d{number}" for number in range(25)]).endswith("d19 and 5 more")


DAY_S = 86400.0
STEP_S = 300.0
BAD_AFTER_S = 7200.0


class Impatient:
    """Somebody who brings out the next release as soon as the last one was taken back; all of them break on one board
    after two hours. Every order is written down."""

    def __init__(self, rollback: dict[str, Any]) -> None:
        self.policy = {
            "waves": ["rest"],
            "horizonSeconds": 1800,
            "control": {"fractions": [0]},
            "failureGate": {"minFailures": 2},
            "driftGate": {"enabled": False},
            "soakSeconds": 3 * 3600,
            "rollback": rollback,
        }
        self.orders: dict[str, list[float]] = {}
        self.runs: dict[str, str] = {}
        self.ended: list[str] = []
        self.boards_back = 0
        self.last_release_s = 0.0
        self.world = self._next(0.0)
        for one in self.world.devices:
            self.orders[one.id] = []

    def _next(self, now_s: float) -> World:
        world = World(self.policy, 12, ("good", "bad"))
        rollout = world.ledger.rollout
        number = len(self.ended)
        bundles = tuple(
            msgspec.structs.replace(bundle, digest=f"sha256:{number}/{bundle.target}") for bundle in rollout.bundles
        )
        changed = msgspec.structs.replace(rollout, id=f"r{number}", created_s=now_s, bundles=bundles)
        world.ledger = msgspec.structs.replace(world.ledger, rollout=changed)
        return world

    def step(self, now_s: float) -> None:
        world = self.world
        for one in world.devices:
            last_day = sum(now_s - DAY_S < at_s <= now_s for at_s in self.orders[one.id])
            runs = self.runs.get(one.id, one.bundle)
            world.change(one.id, orders_last_day=last_day, bundle=runs, reported_s=now_s, last_seen_s=now_s)
        for _ in range(6):
            commands = tick(world.situation(now_s))
            world.ledger = world.ledger.apply(commands)
            for command in commands:
                if isinstance(command, Assign):
                    self.last_release_s = now_s
                    self._obey(command.assignment.device, command.assignment.bundle, now_s)
                elif isinstance(command, RollBack):
                    self._obey(command.device, command.bundle, now_s)
        self._report(now_s)
        if world.state in {"completed", "rolled_back"}:
            self.ended.append(world.state)
            self.boards_back += len(world.ledger.rollout.halted)
            self.world = self._next(now_s)

    def _obey(self, device: str, bundle: str, now_s: float) -> None:
        self.orders[device].append(now_s)
        self.runs[device] = bundle

    def _report(self, now_s: float) -> None:
        for one in self.world.ledger.assignments:
            if one.rollback_command is not None:
                continue
            if one.phase is None:
                self.world.report(one.device, "confirmed", now_s)
            elif one.target == "bad" and one.phase == "confirmed" and now_s >= one.dispatched_s + BAD_AFTER_S:
                self.world.report(one.device, "failed", one.dispatched_s + 1)  # it gives up, late


@pytest.mark.parametrize("most", [2, 3, 6])
def test_whoever_keeps_pressing_no_device_gets_more_than_its_budget_and_none_is_stranded(most: int) -> None:
    storm = Impatient({"maxOrdersPerDevicePerDay": most})
    paused_at: float | None = None
    for step in range(int(2 * DAY_S / STEP_S)):
        storm.step(step * STEP_S)
        if storm.world.state == "paused" and paused_at is None:
            paused_at = step * STEP_S
    for at in storm.orders.values():
        assert all(sum(end - DAY_S < one <= end for one in at) <= most for end in at)
    assert storm.ended
    assert storm.boards_back >= 1, "the bad board was taken back"
    stranded = {name for name, bundle in storm.runs.items() if "bad" in bundle}
    if most == 6:
        assert paused_at is not None, "the breaker must open before the budgets are spent"
        assert "the fleet goes to and fro" in storm.world.ledger.rollout.reason
        assert storm.last_release_s <= paused_at, "no release goes out any more until a person resumes"
    assert not stranded, "the way back stays open"
