"""Every state, outcome and gate that the core knows has its words and its colour."""

from __future__ import annotations

from collections import Counter
from typing import get_args

import msgspec

from edgewright.fleet.console.gate_cards import GATE_NAME, gate_card
from edgewright.fleet.console.rollout_cards import OUTCOME_TONE, STATE_TONE, rollout_card
from edgewright.fleet.core.gates.status import GateName, GateStatus
from edgewright.fleet.core.observations import Metric
from edgewright.fleet.core.outcomes import Outcome
from edgewright.fleet.core.policy.policy import policy_from
from edgewright.fleet.core.rows import Assignment, BoardHalt, Number, ReleaseBundle, Rollout, RolloutState
from edgewright.fleet.rollout_cli import STATES
from edgewright.fleet.store.order_pages import BlockCount, OrderCount, State
from edgewright.fleet.views import RolloutView


def view(*arms: str, halted: tuple[BoardHalt, ...] = (), wave: int = 0) -> RolloutView:
    rollout = Rollout(
        id="r-1",
        model="digits",
        version="2",
        bundles=(ReleaseBundle(target="big", digest="b"), ReleaseBundle(target="small", digest="s")),
        policy=policy_from(
            {"waves": [{"add": 2, "sites": ["hall"]}, {"add": "rest", "requireApproval": True}]}, where="test"
        ),
        seed=1,
        created_s=0.0,
        wave=wave,
        halted=halted,
    )
    orders = tuple(
        Assignment(
            device=f"dev-{place}",
            target="big" if place < 2 else "small",
            wave=0,
            position=place,
            version="2",
            bundle="b",
            previous_version="1",
            previous_bundle="a",
            command=f"c-{place}",
            dispatched_s=0.0,
            arm=arm,  # type: ignore[arg-type]
            block=place // 2,
        )
        for place, arm in enumerate(arms)
    )
    kinds = Counter((one.target, one.arm) for one in orders)
    counts = tuple(
        OrderCount(wave=0, target=target, arm=arm, state="control" if arm == "control" else "ordered", orders=number)
        for (target, arm), number in kinds.items()
    )
    blocks = {
        target: BlockCount(drawn=len(drawn), observed=sum(block < 1 for block in drawn))
        for target in ("big", "small")
        if (drawn := {one.block for one in orders if one.target == target})
    }
    return RolloutView(rollout=rollout, gates=(), assignments=orders, counts=counts, blocks=blocks, next_block=1)


def test_nothing_is_without_a_word_or_a_colour() -> None:
    assert set(STATE_TONE) == set(get_args(RolloutState))
    assert set(get_args(Outcome)) <= set(OUTCOME_TONE)
    every = {name for part in get_args(GateName) for name in (get_args(part) or (part,))}
    assert every == set(GATE_NAME)
    assert set(get_args(Metric)) <= every


def test_the_command_line_knows_the_states_of_the_store() -> None:
    assert get_args(State) == STATES


def test_a_wave_of_many_draws_some_and_counts_all() -> None:
    seen = view("treated", "treated")
    many = (msgspec.structs.replace(seen.counts[0], orders=50_000),)
    wave = rollout_card(msgspec.structs.replace(seen, counts=many), 10.0, is_newest=True).waves[0]
    assert (wave.summary, len(wave.dots), wave.hidden) == ("50000 ordered", 2, 49_998)


def test_boards_show_their_arms_and_blocks() -> None:
    halt = BoardHalt(target="small", action="ROLLBACK", reason="small: hot", at_s=1.0)
    card = rollout_card(view("treated", "control", "treated", "graduated", halted=(halt,)), 10.0, is_newest=True)
    big, small = card.boards
    assert (big.treated, big.control, big.graduated, big.blocks) == (1, 1, 0, "1 of 1")
    assert (small.treated, small.control, small.graduated, small.blocks) == (1, 0, 1, "0 of 1")
    assert (big.chip.text, small.chip.text) == ("goes on", "going back")
    assert (big.may_roll_back, small.may_roll_back) == (True, False)
    assert small.reason == "hot", "the row names the board already"


def test_waves_say_whom_they_take_and_controls_have_one_of_their_own() -> None:
    plans = [wave.plan for wave in rollout_card(view("treated", "control"), 10.0, is_newest=True).waves]
    assert plans == ["2 devices (hall)", "all the others, with approval", "the controls"]
    assert len(rollout_card(view("treated"), 10.0, is_newest=True).waves) == 2


def test_a_board_that_was_not_stopped_ends_as_its_rollout_does() -> None:
    seen = view("treated", "control")
    done = msgspec.structs.replace(seen, rollout=msgspec.structs.replace(seen.rollout, state="completed"))
    assert {board.chip.text for board in rollout_card(done, 10.0, is_newest=True).boards} == {"completed"}


def test_a_wave_counts_what_its_devices_do() -> None:
    summary = rollout_card(view("treated", "control", "treated", "control"), 10.0, is_newest=True).waves[0].summary
    assert sorted(summary.split(", ")) == ["2 controls", "2 ordered"]


def test_what_is_queued_what_waits_and_what_was_taken_back_look_different() -> None:
    assert len({OUTCOME_TONE[name] for name in ("queued", "control", "recalled", "succeeded", "failed")}) == 5


def test_a_control_waits_and_says_in_which_block() -> None:
    dots = rollout_card(view("treated", "control"), 10.0, is_newest=True).waves[0].dots
    assert [dot.tone for dot in dots] == ["calm", "control"]
    assert dots[1].title == "dev-1, big: waits as a control in block 0"


def test_gates_that_stopped_something_come_first_and_the_many_others_are_chips() -> None:
    quiet = [
        GateStatus(gate="errors", target=f"b{place}", outcome="wait", action=None, reason="", numbers={})
        for place in range(20)
    ]
    loud = GateStatus(gate="failure", target="big", outcome="fail", action="ROLLBACK", reason="big: hot", numbers={})
    card = rollout_card(msgspec.structs.replace(view("treated"), gates=(*quiet, loud)), 10.0, is_newest=True)
    assert card.gates[0].chip.text == "fail"
    assert (len(card.gates), len(card.more_gates)) == (9, 12)


def test_a_gate_shows_its_e_value() -> None:
    numbers: dict[str, Number] = {
        "blocks": 7,
        "estimate": 0.03,
        "low": 0.01,
        "high": 0.05,
        "e_value": 410.0,
        "e_threshold": 400.0,
    }
    gate = GateStatus(
        gate="accuracy", target="big", outcome="fail", action="ROLLBACK", reason="big: worse", numbers=numbers
    )
    card = gate_card(gate)
    assert (card.name, card.reason) == ("Accuracy on big", "worse")
    assert card.facts == (("blocks", "7"), ("estimate", "0.03 (0.01 to 0.05)"), ("E-value", "410, stops at 400"))
    pooled = msgspec.structs.replace(gate, target=None, reason="all boards: worse")
    assert gate_card(pooled).name == "Accuracy, all boards"
