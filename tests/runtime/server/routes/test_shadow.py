"""A shadow changes nothing for anybody, keeps to its budget, and leaves only counts behind."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewright.runtime.routes import RoutesError
from edgewright.runtime.server.pipeline import Outcome, SequenceStep
from edgewright.runtime.server.routes.agreement import MAX_CLASSES, Agreement
from edgewright.runtime.server.routes.shadow import BusyBudget
from tests.runtime.server.routes.model_stand_ins import House, StandInModel, job, spec, status

SECOND = 1_000_000_000


def shadow(options: str = "fraction = 1.0\nmax_busy_share = 1.0") -> tuple[House, StandInModel, StandInModel]:
    seen, unseen = StandInModel("seen"), StandInModel("unseen", lambda x: x[:, ::-1])
    house = House([seen, unseen])
    house.table.apply(f'[routes.r]\nkind = "shadow"\nprimary = "seen"\nshadow = "unseen"\n{options}')
    return house, seen, unseen


def told(house: House) -> Any:
    return house.table.statistics()["r"]


@given(
    st.lists(
        st.tuples(st.sampled_from(["ask", "answer", "turn", "copy"]), st.sampled_from([200, 400, 500])), max_size=30
    )
)
def test_the_primarys_answers_are_what_they_would_be_without_it(steps: list[tuple[str, int]]) -> None:
    """Whatever happens in whatever order: each answer comes in the primary's own turn, and is the primary's own."""
    house, seen, unseen = shadow()
    seen.holds = unseen.holds = True
    asked: list[list[Outcome]] = []
    for step, outcome_status in steps:
        if step == "ask":
            asked.append(house.ask("r", job(1)))
        elif step == "answer" and seen.held:
            seen.answer_status = outcome_status
            before = sum(map(len, asked))
            seen.held.pop(0)()
            assert sum(map(len, asked)) == before + 1
            assert len(unseen.jobs) <= len(seen.jobs)
        elif step == "turn":
            waiting, copies = len(seen.held), len(unseen.jobs)
            house.turn()
            assert len(unseen.jobs) == copies or waiting == 0
        elif step == "copy" and unseen.held:
            unseen.answer_status = outcome_status
            unseen.held.pop(0)()
    assert all(each[0].notes["edgewright_model"] == "seen" for each in asked if each)
    assert len(unseen.held) <= 1


def test_agreement_is_counted_and_outputs_go_nowhere() -> None:
    house, _, unseen = shadow()
    outcome = house.ask("r", job(np.array([[1, 0], [0, 1], [1, 1]], np.float32)))[0]
    assert outcome.notes == {"edgewright_arm": "seen", "edgewright_model": "seen"}
    assert unseen.jobs == []
    house.turn()
    agreement = told(house)["agreement"]
    assert agreement["joint"] == [[1, 1], [1, 0]]
    assert (agreement["rows"], agreement["disagreed_rows"]) == (3, 2)


def test_a_copy_outlives_the_clients_patience_but_not_its_own() -> None:
    house, _, unseen = shadow()
    asked = job(deadline_ns=5)
    house.ask("r", asked)
    asked.cancel()
    house.now_ns = SECOND
    house.turn()
    assert not unseen.jobs[0].cancelled
    assert unseen.jobs[0].deadline_ns == 6 * SECOND


def test_no_copy_is_run_while_jobs_wait_or_too_many_run_or_it_is_hot() -> None:
    house, seen, unseen = shadow()
    unseen.holds = True
    for _ in range(3):
        house.ask("r", job())
    house.turn()
    assert len(unseen.jobs) == 1
    assert told(house)["skipped"] == {"in_flight": 2}
    unseen.held.pop()()
    house.table.hot = True
    house.ask("r", job())
    house.table.hot = False
    seen.holds = True
    house.ask("r", job())
    house.ask("r", job())
    seen.held.pop(0)()
    assert told(house)["skipped"] == {"in_flight": 2, "hot": 1, "jobs_wait": 1}
    seen.held.pop(0)()
    house.ask("r", job(sequence=SequenceStep("s", start=True, end=False)))
    house.turn()
    assert told(house)["skipped"]["jobs_wait"] == 2
    assert len(unseen.jobs) == 1


def test_a_shadow_that_fails_or_is_absent_harms_nobody() -> None:
    house, _, unseen = shadow()
    for change in ("submit_status", "answer_status"):
        setattr(unseen, change, 500)
        assert status(house.ask("r", job())) == 200
        house.turn()
    house.models.remove(unseen)
    assert status(house.ask("r", job())) == 200
    house.turn()
    assert told(house)["skipped"] == {"refused_500": 2, "refused_503": 1}
    assert told(house)["agreement"]["rows"] == 0


@given(st.floats(0.01, 1), st.lists(st.tuples(st.integers(0, SECOND), st.integers(0, SECOND)), max_size=60))
def test_the_busy_share_is_kept(share: float, steps: list[tuple[int, int]]) -> None:
    """Never more than the share of the time, plus what may be saved up, plus the one copy that used up the rest."""
    budget, now_ns, spent, largest = BusyBudget(share, 0), 0, 0, 0
    for pause_ns, cost_ns in steps:
        now_ns += pause_ns
        if budget.allows(now_ns):
            budget.spend(cost_ns)
            spent, largest = spent + cost_ns, max(largest, cost_ns)
    assert spent <= share * (now_ns + SECOND) + largest + 1


def test_a_spent_budget_is_earned_again() -> None:
    house, _, unseen = shadow("fraction = 1.0\nmax_busy_share = 0.1")
    unseen.compute_ns = SECOND // 2
    for _ in range(2):
        house.ask("r", job())
        house.turn()
    assert told(house)["skipped"] == {"budget": 1}
    house.now_ns += 5 * SECOND
    house.ask("r", job())
    house.turn()
    assert len(unseen.jobs) == 2


@given(st.integers(2, 200), st.integers(1, 20), st.integers(0, 2**32 - 1))
def test_joint_histograms_are_bounded_and_complete(classes: int, rows: int, seed: int) -> None:
    chance = np.random.default_rng(seed)
    first, second = chance.normal(size=(2, rows, classes))
    agreement = Agreement("auto", 0.01)
    agreement.add(first, second, batched=True)
    joint: Any = agreement.as_dict()["joint"]
    assert len(joint) == min(classes, MAX_CLASSES)
    assert sum(map(sum, joint)) == rows
    folded = np.minimum(first.argmax(1), MAX_CLASSES - 1)
    assert [sum(row) for row in joint] == np.bincount(folded, minlength=len(joint)).tolist()
    assert agreement.disagreed == int((first.argmax(1) != second.argmax(1)).sum())


def test_values_agree_within_a_relative_tolerance() -> None:
    agreement = Agreement("values", 0.1)
    primary = np.array([[100, 1], [100, 1], [np.nan, 1], [0, 0], [np.inf, 1], [1, 1]], np.float32)
    shadow_says = np.array([[91, 5], [89, 1], [np.nan, 1], [0, 0], [np.inf, 1], [np.nan, 1]], np.float32)
    agreement.add(primary, shadow_says, batched=True)
    assert (agreement.rows, agreement.disagreed) == (6, 2)
    assert agreement.largest_difference == pytest.approx(0.11, abs=1e-6)
    agreement.add(primary, shadow_says[:2], batched=True)
    assert agreement.incomparable == 1


def test_strings_agree_when_they_are_equal() -> None:
    agreement = Agreement("auto", 0.1)
    agreement.add(np.array([[b"cat"], [b"dog"]], object), np.array([[b"cat"], [b"cow"]], object), batched=True)
    assert (agreement.rows, agreement.disagreed) == (2, 1)


def test_an_output_that_is_not_there_is_refused_when_routes_are_set() -> None:
    with pytest.raises(RoutesError, match="there is no output 'z'"):
        shadow('output = "z"')
    plain = StandInModel("a", outputs=(spec("y", (-1, 2)), spec("z", (-1, 2))))
    house = House([plain])
    text = '[routes.r]\nkind = "shadow"\nprimary = "a"\nshadow = "b"\noutput = "z"'
    assert house.table.apply(text) == ["b"]


def test_the_model_that_is_tried_is_told_how_it_did() -> None:
    seen, unseen = StandInModel("seen"), StandInModel("unseen", lambda x: x[:, ::-1])
    counted: list[tuple[object, ...]] = []
    house = House([seen, unseen], count_shadow=lambda *counts: counted.append(counts))
    house.table.apply(
        '[routes.r]\nkind = "shadow"\nprimary = "seen"\nshadow = "unseen"\nfraction = 1.0\nmax_busy_share = 1.0'
    )
    house.ask("r", job(1))
    house.turn()
    agreement = told(house)["agreement"]
    assert counted == [("unseen", "1", agreement["rows"], agreement["disagreed_rows"])]
