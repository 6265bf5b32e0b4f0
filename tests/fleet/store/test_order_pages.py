"""What SQLite counts and pages is what the rows say, one by one."""

from __future__ import annotations

from collections import Counter
from typing import get_args

import pytest

from edgewright.fleet.core.rows import Assignment
from edgewright.fleet.store import order_pages, releases, rollouts
from edgewright.fleet.store.order_pages import State, Wanted
from tests.fleet.store.test_roster import History, fresh


def state_of(one: Assignment) -> str:
    if one.arm == "control":
        return "control"
    if one.withdrawn_s is not None:
        return "withdrawn"
    if one.rollback_command is not None:
        return "went_back" if one.rollback_phase == "confirmed" else "going_back"
    return one.phase or "ordered"


@pytest.mark.parametrize("seed", range(6))
def test_counts_and_pages_are_those_of_the_rows(seed: int) -> None:
    with fresh() as database:
        history = History(database, seed)
        for _ in range(200):
            history.step()
        with database.read() as connection:
            epochs = releases.epochs(connection)
            for rollout in history.rollouts:
                every = rollouts.assignments_of(connection, rollout.id)
                kinds = Counter((one.wave, one.target, one.arm, state_of(one)) for one in every)
                counted = order_pages.counts(connection, rollout.id)
                assert {(one.wave, one.target, one.arm, one.state): one.orders for one in counted} == kinds
                drawn = {one.block for one in every if one.block >= 0}
                blocks = order_pages.blocks(connection, rollout.id, next_block=2)
                found = {board: (each.drawn, each.observed) for board, each in blocks.items()}
                assert found == ({"board": (len(drawn), len(drawn & {0, 1}))} if drawn else {})
                pages: list[Assignment] = []
                while some := order_pages.page(
                    connection, rollout.id, epochs, limit=2, after=pages[-1].position if pages else -1
                ):
                    pages += some
                assert pages == every
                for state in get_args(State):
                    chosen = order_pages.page(connection, rollout.id, epochs, limit=99, of=Wanted(state=state))
                    assert list(chosen) == [one for one in every if state_of(one) == state]
                assert order_pages.page(connection, rollout.id, epochs, limit=99, of=Wanted(board="other")) == ()
