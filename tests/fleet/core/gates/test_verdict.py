"""Who is stopped: a board, the rollout, or nobody."""

from __future__ import annotations

from typing import Any

import pytest

from edgewright.fleet.core.gates.status import GateStatus
from edgewright.fleet.core.gates.verdict import Verdict, decide
from edgewright.fleet.core.rows import BoardHalt

from ..order_rows import rollout

TWO = ("a", "b")


def gate(target: str | None, action: Any, outcome: Any = "fail") -> GateStatus:
    return GateStatus(gate="failure", target=target, outcome=outcome, action=action, reason=f"{target} {action}")


def halt(target: str, action: Any = "ROLLBACK") -> BoardHalt:
    return BoardHalt(target=target, action=action, reason="", at_s=0)


def on(boards: tuple[str, ...], *gates: GateStatus, **row: Any) -> Verdict:
    return decide(rollout(boards=boards, row=row), gates)


def test_nothing_is_asked_for() -> None:
    assert on(TWO, gate("a", None, "pass"), gate(None, None, "wait")) == Verdict()


def test_a_gate_of_one_board_stops_that_board() -> None:
    assert on(TWO, gate("a", "ROLLBACK")) == Verdict(boards=(gate("a", "ROLLBACK"),))


def test_the_board_of_a_release_with_one_board_is_the_rollout() -> None:
    assert on(("a",), gate("a", "ROLLBACK")) == Verdict(whole=gate("a", "ROLLBACK"))


def test_a_gate_over_all_boards_stops_the_rollout_and_boards_with_it() -> None:
    assert on(TWO, gate("a", "ROLLBACK"), gate(None, "CANCEL")) == Verdict(whole=gate(None, "CANCEL"))


def test_the_strongest_gate_of_a_board_speaks_for_it_once() -> None:
    assert on(TWO, gate("a", "PAUSE"), gate("a", "ROLLBACK"), gate("a", "CANCEL")).boards == (gate("a", "ROLLBACK"),)


def test_a_halt_that_was_carried_out_is_not_asked_for_again_but_a_stronger_one_is() -> None:
    assert on(TWO, gate("a", "CANCEL"), halted=(halt("a", "CANCEL"),)) == Verdict()
    assert on(TWO, gate("a", "ROLLBACK"), halted=(halt("a", "CANCEL"),)).boards == (gate("a", "ROLLBACK"),)


@pytest.mark.parametrize(
    ("first", "then", "whole"),
    [
        ("ROLLBACK", "ROLLBACK", "ROLLBACK"),
        ("ROLLBACK", "CANCEL", "CANCEL"),
        ("PAUSE", "ROLLBACK", "PAUSE"),
    ],
)
def test_the_last_board_that_stops_stops_the_rollout_by_the_weakest_action(first: Any, then: Any, whole: Any) -> None:
    verdict = on(TWO, gate("b", then), halted=(halt("a", first),))
    assert verdict.boards == (gate("b", then),)
    assert verdict.whole is not None
    assert (verdict.whole.action, verdict.whole.reason) == (whole, f"no board is left: b {then}")


def test_two_boards_that_stop_at_once_stop_the_rollout() -> None:
    verdict = on(TWO, gate("a", "ROLLBACK"), gate("b", "ROLLBACK"))
    assert len(verdict.boards) == 2
    assert verdict.whole is not None
    assert verdict.whole.action == "ROLLBACK"


def test_what_is_inconclusive_on_a_board_is_a_question_about_the_rollout() -> None:
    asked = gate("a", "PAUSE", "inconclusive")
    assert on(TWO, asked) == Verdict(whole=asked)
    assert on(TWO, asked, gate("b", "ROLLBACK")) == Verdict(whole=asked, boards=(gate("b", "ROLLBACK"),))


@pytest.mark.parametrize("row", [{"state": "paused"}, {"accepted_wave": 0}])
def test_who_was_asked_is_not_asked_again_but_a_rollback_comes_through(row: dict[str, Any]) -> None:
    assert on(TWO, gate("a", "PAUSE"), gate(None, "PAUSE"), **row) == Verdict()
    assert on(TWO, gate(None, "ROLLBACK"), **row).whole == gate(None, "ROLLBACK")
    assert on(TWO, gate("a", "ROLLBACK"), **row).boards == (gate("a", "ROLLBACK"),)
