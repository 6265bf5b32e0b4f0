"""Rollback storms are broken: budgets for each device, the pace of the way back, the breaker, a person's yes."""

from __future__ import annotations

from typing import Any

import msgspec

from edgewright.fleet.core.policy import policy_from
from edgewright.fleet.core.situation import Situation
from edgewright.fleet.core.storms import (
    breaker,
    may_go_back,
    may_take_release,
    named,
    needs_a_person,
    returns_left_now,
)

from .conftest import World
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
