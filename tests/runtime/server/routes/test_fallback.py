"""A fallback answers whatever can be answered, once, and takes no second try where that would be wrong."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewright.runtime.server.pipeline import SequenceStep
from tests.runtime.server.routes.model_stand_ins import House, StandInModel, job, status

STATUSES = st.sampled_from([200, 400, 413, 429, 500, 503, 504])
BEHAVIOURS = st.tuples(st.sampled_from(["submit", "answer", "absent"]), STATUSES)


def chain(models: list[StandInModel], names: str = '"a", "b", "c"') -> House:
    house = House(models)
    house.table.apply(f'[routes.r]\nkind = "fallback"\nchain = [{names}]')
    return house


@given(st.lists(BEHAVIOURS, min_size=3, max_size=3))
def test_the_first_that_is_not_at_fault_decides(behaviours: list[tuple[str, int]]) -> None:
    models, expected = [], 0
    for name, (when, wanted) in zip("abc", behaviours, strict=True):
        if when == "absent":
            expected = expected if 0 < expected < 500 else 503
            continue
        models.append(StandInModel(name, **{f"{when}_status": wanted}))  # type: ignore[arg-type]
        expected = expected if 0 < expected < 500 else wanted
    house = chain(models)
    assert status(house.ask("r", job())) == expected


def test_jobs_in_flight_go_on_when_they_fail() -> None:
    first, second = StandInModel("a", holds=True), StandInModel("b", holds=True)
    house = chain([first, second], '"a", "b"')
    outcomes = house.ask("r", job())
    first.answer_status = 504
    first.held.pop()()
    assert outcomes == []
    second.held.pop()()
    assert status(outcomes) == 200
    assert outcomes[0].notes == {"edgewright_arm": "b", "edgewright_model": "b"}
    assert house.table.statistics()["r"]["fell_back"] == 1
    assert house.counts("r", "a")["errors"] == 1


@pytest.mark.parametrize("reason", ["deadline", "gone", "sequence"])
def test_nobody_is_asked_in_vain(reason: str) -> None:
    first, second = StandInModel("a", answer_status=503, holds=True), StandInModel("b")
    house = chain([first, second], '"a", "b"')
    asked = job(
        deadline_ns=10 if reason == "deadline" else None,
        sequence=SequenceStep("s", start=True, end=False) if reason == "sequence" else None,
    )
    outcomes = house.ask("r", asked)
    house.now_ns = 10
    if reason == "gone":
        asked.cancel()
    first.held.pop()()
    assert status(outcomes) == 503
    assert second.jobs == []


def test_the_route_has_tensors_while_any_place_is_there() -> None:
    house = chain([StandInModel("c")])
    assert house.route("r").signature.model == "r"
    assert status(house.ask("r", job())) == 200
    house.models.clear()
    assert status(house.ask("r", job())) == 503
