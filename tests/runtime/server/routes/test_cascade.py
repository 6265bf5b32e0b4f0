"""A cascade sends on the rows that a stage is not sure of, and puts the answers back in order."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from edgewright.runtime.routes import RoutesError
from edgewright.runtime.server.pipeline import Outcome, SequenceStep
from edgewright.runtime.server.routes.confidence import confidence
from tests.runtime.server.routes.model_stand_ins import House, StandInModel, job, spec, status

TEXT = '[routes.r]\nkind = "cascade"\nstages = ["a", "b", "c"]\nthreshold = 0.8'


def probabilities(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """The first input is the first probability: the rows say themselves how sure the model is."""
    first = x[:, 0]
    return np.stack([first, 1 - first], axis=1)


def better(amount: float) -> StandInModel:
    name = {0.0: "a", 0.2: "b", 0.4: "c"}[amount]
    return StandInModel(name, lambda x: probabilities(np.minimum(x + np.float32(amount), 1)))


def cascade(text: str = TEXT) -> tuple[House, list[StandInModel]]:
    models = [better(0.0), better(0.2), better(0.4)]
    house = House(list(models))
    house.table.apply(text)
    return house, models


@given(arrays(np.float32, st.tuples(st.integers(1, 12), st.just(2)), elements=st.floats(0.5, 1, width=32)))
def test_each_row_is_answered_by_the_first_stage_that_is_sure(x: NDArray[np.float32]) -> None:
    house, models = cascade()
    outcomes = house.ask("r", job(x))
    stages = [model.function(x) for model in models]
    expected = stages[2].copy()
    for stage in (stages[1], stages[0]):
        sure = stage.max(axis=1) >= 0.8
        expected[sure] = stage[sure]
    assert outcomes[0].outputs is not None
    np.testing.assert_array_equal(outcomes[0].outputs["y"], expected)
    assert models[1].jobs == [] or models[1].jobs[0].rows == int((stages[0].max(axis=1) < 0.8).sum())


def test_notes_and_counts_tell_which_stages_answered() -> None:
    house, models = cascade()
    x = np.array([[0.9, 0], [0.5, 0], [0.7, 0], [0.95, 0]], np.float32)
    outcome = house.ask("r", job(x))[0]
    assert outcome.notes["edgewright_arm"] == "a,b,c"
    assert house.table.statistics()["r"]["rows_passed_on"] == {"a": 2, "b": 1}
    assert [model.jobs[0].rows for model in models] == [4, 2, 1]
    assert house.ask("r", job(x[:1]))[0].notes == {"edgewright_arm": "a", "edgewright_model": "a"}
    assert house.ask("r", job(x[1:2]))[0].notes == {"edgewright_arm": "c", "edgewright_model": "c"}


@pytest.mark.parametrize("fault", ["submit", "answer", "absent"])
def test_an_answer_stands_when_the_next_stages_fail(fault: str) -> None:
    house, models = cascade()
    for model in models[1:]:
        if fault == "absent":
            house.models.remove(model)
        setattr(model, f"{fault}_status", 503)
    x = np.array([[0.9, 0], [0.5, 0]], np.float32)
    outcome = house.ask("r", job(x))[0]
    assert outcome.outputs is not None
    np.testing.assert_array_equal(outcome.outputs["y"], probabilities(x))
    assert house.table.statistics()["r"]["jobs_not_passed_on"] == 1


@pytest.mark.parametrize("fault", ["submit", "answer"])
def test_a_first_stage_that_fails_is_passed_over(fault: str) -> None:
    house, models = cascade()
    setattr(models[0], f"{fault}_status", 503)
    assert house.ask("r", job())[0].notes["edgewright_model"] == "b"
    setattr(models[0], f"{fault}_status", 413)
    assert status(house.ask("r", job())) == 413


def test_a_failing_middle_stage_is_passed_over_for_its_rows() -> None:
    house, models = cascade()
    models[1].answer_status = 500
    outcome = house.ask("r", job(np.array([[0.9, 0], [0.5, 0]], np.float32)))[0]
    assert outcome.outputs is not None
    np.testing.assert_allclose(outcome.outputs["y"][:, 0], [0.9, 0.9], rtol=1e-6)


def test_a_client_that_goes_cancels_the_stage_that_runs() -> None:
    house, models = cascade()
    models[1].holds = True
    asked = job(np.array([[0.9, 0], [0.5, 0]], np.float32))
    house.ask("r", asked)
    asked.cancel()
    assert models[1].jobs[0].cancelled


def test_without_rows_of_its_own_a_job_goes_on_as_a_whole() -> None:
    outputs = (spec("y", (2,)),)
    small = StandInModel("a", lambda x: np.array([0.6, 0.4], x.dtype), outputs=outputs)
    large = StandInModel("b", lambda x: np.array([0.1, 0.9], x.dtype), outputs=outputs)
    house = House([small, large])
    house.table.apply('[routes.r]\nkind = "cascade"\nstages = ["a", "b"]')
    assert house.ask("r", job())[0].model == "b"


def test_stages_whose_rows_have_other_lengths_are_never_mixed() -> None:
    outputs = (spec("y", (-1, -1)),)
    small = StandInModel("a", probabilities, outputs=outputs)
    large = StandInModel("b", lambda x: np.repeat(x, 2, axis=1), outputs=outputs)
    house = House([small, large])
    house.table.apply('[routes.r]\nkind = "cascade"\nstages = ["a", "b"]\noutput = "y"')
    outcome = house.ask("r", job(np.array([[0.9, 0], [0.5, 0]], np.float32)))[0]
    assert outcome.outputs is not None
    assert outcome.outputs["y"].shape == (2, 4)


def test_a_stage_that_gives_too_few_rows_is_answered_as_its_failure() -> None:
    house, models = cascade()
    models[1].function = lambda x: probabilities(x)[:0]
    assert status(house.ask("r", job(np.array([[0.9, 0], [0.5, 0], [0.6, 0]], np.float32)))) == 500


def test_a_client_that_cannot_take_its_answer_is_not_told_again() -> None:
    house, _ = cascade()
    told: list[Outcome] = []

    def broken(outcome: Outcome) -> None:
        told.append(outcome)
        raise ConnectionError("gone")

    with contextlib.suppress(ConnectionError):
        house.route("r").submit(job(np.array([[0.9, 0], [0.5, 0]], np.float32)), broken)
    assert len(told) == 1


def test_what_cannot_be_judged_is_refused() -> None:
    house, models = cascade()
    assert status(house.ask("r", job(sequence=SequenceStep("s", start=True, end=False)))) == 400
    with pytest.raises(RoutesError, match="there is no output 'z'"):
        house.table.apply(TEXT + '\noutput = "z"')
    for model in models:
        model.outputs = (spec("y", (-1, 2), "INT8"),)
        model.__post_init__()
    assert status(house.ask("r", job())) == 503
    with pytest.raises(RoutesError, match="'y' is INT8"):
        house.table.apply(TEXT.replace("0.8", "0.7"))


@given(arrays(np.float32, (3, 4), elements=st.floats(-20, 20, width=32)))
def test_confidence_is_the_greatest_of_the_softmax(logits: NDArray[np.float32]) -> None:
    exact = np.exp(logits.astype(np.float64))
    expected = (exact / exact.sum(axis=1, keepdims=True)).max(axis=1)
    np.testing.assert_allclose(confidence(logits, softmax=True), expected, rtol=1e-9)
    np.testing.assert_allclose(confidence(expected[:, None], softmax=None), np.maximum(expected, 1 - expected))


def test_probabilities_and_logits_are_told_apart() -> None:
    both = np.array([[0.1, 0.9], [0.7, 0.3]], np.float32)
    np.testing.assert_allclose(confidence(both, None), [0.9, 0.7])
    np.testing.assert_allclose(confidence(both * 2, None), confidence(both * 2, softmax=True))
    assert np.isnan(confidence(np.array([[np.nan, 1]], np.float32), None)).all()
    assert confidence(np.array([[3.0]], np.float32), None)[0] == pytest.approx(0.952574, rel=1e-5)
    assert np.isnan(confidence(np.array([[np.inf, 1]], np.float32), None)).all()
