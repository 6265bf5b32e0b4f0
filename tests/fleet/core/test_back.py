"""The way back of a rollout and of single boards: where devices end, how fast, how often, and what is said about it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewright.fleet.core.back import boards_go_back, go_back, is_board_returning, take_back_unheard, with_halt
from edgewright.fleet.core.batch import batch
from edgewright.fleet.core.ledger import Ledger
from edgewright.fleet.core.policy.policy import policy_from
from edgewright.fleet.core.rows import (
    Assignment,
    BoardHalt,
    Command,
    Device,
    ReleaseBundle,
    RollBack,
    Rollout,
    Withdraw,
)
from edgewright.fleet.core.situation import GoodRelease, Situation

DAY_S = 86400.0
HORIZON_S = 600.0
NEW = "sha256:new"


class Way:
    """A rollout on its way back, and devices that do what they are ordered (or are never heard again)."""

    def __init__(
        self,
        devices: list[dict[str, Any]],
        *,
        rollback: dict[str, Any] | None = None,
        floor: int = 0,
        good: tuple[GoodRelease, ...] = (),
        taken_back: frozenset[str] = frozenset(),
        state: Any = "rolling_back",
        halted: tuple[BoardHalt, ...] = (),
        approved: bool = False,
    ) -> None:
        policy = policy_from({"horizonSeconds": HORIZON_S, "rollback": rollback or {}}, where="test")
        boards = sorted({one.get("target", "pi") for one in devices})
        self.good, self.taken_back = good, taken_back
        self.ledger = Ledger(
            rollout=Rollout(
                id="r1",
                model="m",
                version="3",
                bundles=tuple(ReleaseBundle(target=board, digest=NEW) for board in boards),
                policy=policy,
                seed=1,
                created_s=0.0,
                state=state,
                returning_since_s=1000.0 if state == "rolling_back" else None,
                security_floor=floor,
                halted=halted,
                reason="too many failed",
                is_return_approved=approved,
            ),
            assignments=tuple(self._order(number, one) for number, one in enumerate(devices)),
        )
        self.epochs = {"sha256:2": 0, "sha256:1": 0, **{one.bundle.digest: one.security_epoch for one in good}}
        self.runs: dict[str, str | None] = {}
        self.reported_s: dict[str, float] = {}
        self.orders: dict[str, list[float]] = {}
        self.silent: set[str] = set()
        self.enrolled: set[str] = set()
        for number, one in enumerate(devices):
            name = f"dev-{number}"
            self.runs[name] = NEW
            self.orders[name] = list(one.get("orders", []))
            self.enrolled.add(name)
            if one.get("silent"):
                self.silent.add(name)
        self.commands: list[Command] = []

    @staticmethod
    def _order(number: int, one: dict[str, Any]) -> Assignment:
        return Assignment(
            device=f"dev-{number}",
            target=one.get("target", "pi"),
            wave=0,
            position=number,
            version="3",
            bundle=NEW,
            previous_version=one.get("previous", "2"),
            previous_bundle=f"sha256:{one.get('previous', '2')}" if one.get("previous", "2") else None,
            previous_known=one.get("known", True),
            previous_epoch=one.get("epoch", 0),
            command=f"r1.dev-{number}",
            dispatched_s=0.0,
            phase=one.get("phase", "confirmed"),
            started_s=one.get("started_s", 1.0),
            ended_s=1.0,
            arm=one.get("arm", "treated"),
        )

    def seen(self, now_s: float) -> Situation:
        devices = [
            Device(
                id=name,
                target="pi",
                last_seen_s=now_s,
                version=None,
                bundle=bundle,
                idle=True,
                reported_s=self.reported_s.get(name, 0.0),
                orders_last_day=sum(now_s - DAY_S < at_s <= now_s for at_s in self.orders[name]),
            )
            for name, bundle in self.runs.items()
            if name in self.enrolled
        ]
        return Situation(
            rollout=self.ledger.rollout,
            now_s=now_s,
            devices=devices,
            assignments=self.ledger.assignments,
            good_releases=self.good,
            taken_back=self.taken_back,
        )

    def decide(self, now_s: float) -> tuple[Command, ...]:
        seen = self.seen(now_s)
        if seen.rollout.state == "rolling_back":
            return go_back(seen)
        rollout, commands = boards_go_back(seen)
        return batch(rollout, commands)

    def step(self, now_s: float) -> None:
        """Tick to a standstill, then let the devices obey."""
        for _ in range(4):
            if self.ledger.rollout.state == "rolled_back":
                return
            commands = self.decide(now_s)
            if not commands:
                break
            self.ledger = self.ledger.apply(commands)
            self.commands += commands
            for command in commands:
                if isinstance(command, RollBack):
                    self.orders[command.device].append(now_s)
        else:
            raise AssertionError(f"still acting at {now_s}: {commands}")
        for one in self.ledger.assignments:
            if one.rollback_bundle is not None and one.device not in self.silent:
                self.runs[one.device] = one.rollback_bundle
                self.reported_s[one.device] = now_s + 1

    def run(self, until_s: float, *, every_s: float = 20.0) -> None:
        now_s = 1000.0
        while now_s <= until_s and self.ledger.rollout.state != "rolled_back":
            self.step(now_s)
            now_s += every_s

    @property
    def state(self) -> str:
        return self.ledger.rollout.state

    def sent(self) -> list[RollBack]:
        return [one for one in self.commands if isinstance(one, RollBack)]

    def numbers(self) -> dict[str, Any]:
        return self.ledger.decisions[-1].numbers


def good(version: str, *, misfit: float | None = None, epoch: int = 0) -> GoodRelease:
    bundle = ReleaseBundle(target="pi", digest=f"sha256:{version}")
    return GoodRelease(version=version, bundle=bundle, security_epoch=epoch, misfit=misfit)


def test_all_devices_go_back_and_the_rollout_ends() -> None:
    way = Way([{}, {}, {}])
    way.run(3000)
    assert way.state == "rolled_back"
    assert set(way.runs.values()) == {"sha256:2"}
    assert way.ledger.rollout.reason == "too many failed. 3 of 3 devices back on what they ran before"
    assert [one.action for one in way.ledger.decisions] == ["rolled_back"]


def test_controls_were_never_ordered_and_are_left_alone() -> None:
    way = Way([{}, {"arm": "control"}, {"arm": "graduated"}])
    way.run(3000)
    assert [one.device for one in way.sent()] == ["dev-0", "dev-2"]
    assert way.numbers()["nothing_before"] == 0


def test_when_the_data_changed_they_go_to_the_release_that_fits_and_the_log_says_why() -> None:
    way = Way([{}, {}], good=(good("2", misfit=0.8), good("1", misfit=0.02)))
    way.run(3000)
    assert set(way.runs.values()) == {"sha256:1"}
    plan = next(one for one in way.ledger.decisions if one.action == "way_back")
    assert "dev-0, dev-1 go to 1 on pi and not to 2 (PSI of the present inputs 0.02 against 0.8)" in plan.reason
    assert plan.numbers == {"misfit pi 1": 0.02, "misfit pi 2": 0.8}
    assert way.numbers()["to_another_release"] == 2
    assert "(2 of them) on what fits the present data better" in way.ledger.rollout.reason


def test_a_device_whose_way_back_is_below_the_floor_is_named_and_stays() -> None:
    way = Way([{"epoch": 1}, {"epoch": 3}], floor=2)
    way.run(3000)
    assert way.runs == {"dev-0": NEW, "dev-1": "sha256:2"}
    plan = next(one for one in way.ledger.decisions if one.action == "way_back")
    assert plan.reason == "dev-0 stay on 3, for before them: 2 has security epoch 1, below the floor 2"
    assert way.numbers()["below_floor"] == 1
    assert "1 ran what is below the security floor" in way.ledger.rollout.reason


def test_what_was_itself_rolled_back_takes_a_person() -> None:
    taken = frozenset({"sha256:2"})
    by_gate = Way([{}, {"previous": "1"}], taken_back=taken)
    by_gate.run(3000)
    assert by_gate.runs == {"dev-0": NEW, "dev-1": "sha256:1"}
    assert by_gate.numbers()["taken_back_before"] == 1
    by_hand = Way([{}, {"previous": "1"}], taken_back=taken, approved=True)
    by_hand.run(3000)
    assert by_hand.runs == {"dev-0": "sha256:2", "dev-1": "sha256:1"}


def test_the_way_back_goes_at_its_pace() -> None:
    way = Way([{}] * 7, rollback={"maximumPerMinute": 3})
    way.run(3000)
    assert [one.at_s for one in way.sent()] == [1000.0] * 3 + [1060.0] * 3 + [1120.0]
    assert way.state == "rolled_back"


def test_where_they_go_is_told_once_however_slow_the_pace() -> None:
    way = Way([{}] * 5, rollback={"maximumPerMinute": 1}, good=(good("2", misfit=0.8), good("1", misfit=0.02)))
    way.run(3000)
    assert [one.action for one in way.ledger.decisions] == ["way_back", "rolled_back"]
    assert "dev-0, dev-1, dev-2, dev-3, dev-4 go to 1 on pi" in way.ledger.decisions[0].reason


def test_a_board_that_a_person_takes_back_may_go_where_a_gate_may_not() -> None:
    taken = frozenset({"sha256:2"})
    for approved, ends_on in ((False, NEW), (True, "sha256:2")):
        halt = BoardHalt(target="pi", action="ROLLBACK", reason="", at_s=1000.0, is_return_approved=approved)
        way = Way([{}], state="running", halted=(halt,), taken_back=taken)
        way.step(1000.0)
        assert way.runs == {"dev-0": ends_on}


def test_a_device_that_had_its_orders_for_the_day_goes_back_the_next_day() -> None:
    spent = [900.0, 910.0, 920.0]
    way = Way([{}, {"orders": spent}], rollback={"maxOrdersPerDevicePerDay": 3})
    way.run(4000)
    assert way.state == "rolling_back"
    assert [one.device for one in way.sent()] == ["dev-0"]
    way.step(900.0 + DAY_S)
    way.step(1000.0 + DAY_S)
    assert [one.device for one in way.sent()] == ["dev-0", "dev-1"]
    assert way.state == "rolled_back"


def test_a_silent_device_is_given_up_on_and_a_removed_one_is_not_ordered() -> None:
    way = Way([{"silent": True}, {}, {}])
    way.enrolled.remove("dev-1")
    way.run(1000 + HORIZON_S - 20)
    assert way.state == "rolling_back"
    way.run(3000)
    assert way.state == "rolled_back"
    assert [one.device for one in way.sent()] == ["dev-0", "dev-2"]
    assert {key: way.numbers()[key] for key in ("silent", "removed", "returned")} == {
        "silent": 1,
        "removed": 1,
        "returned": 1,
    }


def test_one_board_goes_back_while_the_others_go_on() -> None:
    halt = BoardHalt(target="jetson", action="ROLLBACK", reason="bad build", at_s=1000.0)
    way = Way([{"target": "jetson"}, {"target": "pi"}, {"target": "jetson"}], state="running", halted=(halt,))
    assert is_board_returning(way.ledger.rollout)
    way.step(1000.0)
    assert [one.device for one in way.sent()] == ["dev-0", "dev-2"]
    way.step(1020.0)
    assert way.state == "running"
    assert not is_board_returning(way.ledger.rollout)
    assert way.ledger.rollout.halted[0].returned_s == 1020.0
    assert way.ledger.decisions[-1].action == "board_returned"
    assert way.ledger.decisions[-1].reason == "jetson: 2 of 2 devices back on what they ran before"
    way.step(1040.0)
    assert len(way.ledger.decisions) == 1


def test_a_cancelled_board_takes_back_only_what_nobody_heard() -> None:
    halt = BoardHalt(target="pi", action="CANCEL", reason="bad build", at_s=1000.0)
    unheard: dict[str, Any] = {"phase": None, "started_s": None}
    way = Way([{}, unheard, {"target": "jetson", **unheard}], state="running", halted=(halt,))
    way.step(1000.0)
    assert [one.device for one in way.sent()] == ["dev-1"]
    assert not is_board_returning(way.ledger.rollout)


def test_a_paused_board_keeps_its_devices_where_they_are() -> None:
    halt = BoardHalt(target="pi", action="PAUSE", reason="unsure", at_s=1000.0)
    way = Way([{}], state="running", halted=(halt,))
    way.step(1000.0)
    assert way.commands == []


def test_the_stronger_halt_of_a_board_stands() -> None:
    rollout = Way([{}]).ledger.rollout
    pause, cancel, back = (
        BoardHalt(target="pi", action=action, reason="", at_s=0.0) for action in ("PAUSE", "CANCEL", "ROLLBACK")
    )
    assert with_halt(with_halt(rollout, pause), back).halted == (back,)
    assert with_halt(with_halt(rollout, back), cancel).halted == (back,)


@pytest.mark.parametrize(
    ("one", "rollback", "floor", "expected"),
    [
        ({}, {}, 0, RollBack),
        ({"epoch": 1}, {}, 2, Withdraw),
        ({"previous": None}, {}, 0, Withdraw),
        ({"known": False}, {}, 0, Withdraw),
        ({}, {"maxOrdersPerDevicePerDay": 1}, 0, Withdraw),
    ],
)
def test_an_order_that_nobody_heard_is_taken_back_within_floor_and_budget(
    one: dict[str, Any], rollback: dict[str, Any], floor: int, expected: type
) -> None:
    way = Way([{**one, "phase": None, "started_s": None}], rollback=rollback, floor=floor)
    (command,) = take_back_unheard(way.ledger.rollout, 1.0, way.ledger.assignments)
    assert isinstance(command, expected)


one_device = st.fixed_dictionaries(
    {},
    optional={
        "previous": st.sampled_from(["1", "2", None]),
        "known": st.booleans(),
        "epoch": st.integers(0, 3),
        "phase": st.sampled_from(["confirmed", "failed", "installing"]),
        "silent": st.booleans(),
        "arm": st.sampled_from(["treated", "control", "graduated"]),
        "orders": st.lists(st.floats(0, 999), max_size=3),
        "target": st.sampled_from(["pi", "jetson"]),
    },
)


@settings(max_examples=150, deadline=None)
@given(
    devices=st.lists(one_device, min_size=1, max_size=8),
    floor=st.integers(0, 3),
    most=st.integers(1, 5),
    per_minute=st.none() | st.integers(1, 3),
    releases=st.lists(
        st.tuples(st.sampled_from("012"), st.none() | st.floats(0, 3), st.integers(0, 3)),
        max_size=3,
        unique_by=lambda one: one[0],
    ),
    taken=st.frozensets(st.sampled_from(["sha256:0", "sha256:1", "sha256:2"]), max_size=1),
    boards_only=st.booleans(),
)
def test_wherever_it_starts_every_device_ends_on_a_known_bundle_within_its_budget(
    devices: list[dict[str, Any]],
    floor: int,
    most: int,
    per_minute: int | None,
    releases: list[tuple[str, float | None, int]],
    taken: frozenset[str],
    boards_only: bool,
) -> None:
    for one in devices:
        one["orders"] = one.get("orders", [])[:most]
    halted = (BoardHalt(target="jetson", action="ROLLBACK", reason="", at_s=1000.0),) if boards_only else ()
    way = Way(
        devices,
        rollback={"maxOrdersPerDevicePerDay": most, **({"maximumPerMinute": per_minute} if per_minute else {})},
        floor=floor,
        good=tuple(good(version, misfit=misfit, epoch=epoch) for version, misfit, epoch in releases),
        taken_back=taken,
        state="running" if boards_only else "rolling_back",
        halted=halted,
    )
    for now_s in [*range(1000, 1800, 20), *range(87000, 88400, 20)]:
        way.step(float(now_s))
    assert way.state == ("running" if boards_only else "rolled_back")
    assert not is_board_returning(way.ledger.rollout)
    epoch_of = {f"sha256:{version}": epoch for version, _, epoch in releases}
    order_of = {one.device: one for one in way.ledger.assignments}
    for sent in way.sent():
        given_to = order_of[sent.device]
        is_previous = sent.bundle == given_to.previous_bundle and given_to.previous_known
        epochs = [given_to.previous_epoch] if is_previous else []
        epochs += [epoch_of[sent.bundle]] if sent.bundle in epoch_of else []
        assert epochs, "a bundle that nobody knows"
        assert max(epochs) >= floor
        assert sent.bundle not in taken
        assert not boards_only or given_to.target == "jetson"
    for name, at in way.orders.items():
        assert all(sum(end - DAY_S < one <= end for one in at) <= most for end in at), "more orders than the budget"
        ends_on = {NEW, order_of[name].rollback_bundle}
        assert way.runs[name] in ends_on
    times = [sent.at_s for sent in way.sent()]
    if per_minute is not None:
        assert all(sum(end - 60 < one <= end for one in times) <= per_minute for end in times)
    assert len({sent.device for sent in way.sent()}) == len(times), "a device was ordered back twice"
