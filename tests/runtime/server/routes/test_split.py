"""Splits keep their shares, keys stay where they are, and changes move few of them."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewright.runtime.server.pipeline import SequenceStep
from edgewright.runtime.server.routes.sticky import by_draw, by_key
from tests.runtime.server.routes.model_stand_ins import House, StandInModel, job, status

WEIGHTS = st.lists(st.floats(0, 1000), min_size=1, max_size=8).filter(lambda weights: sum(weights) > 0.001)
KEYS = [f"sensor-{number}" for number in range(4000)]


@given(WEIGHTS)
def test_draws_that_are_spread_evenly_give_the_weights(weights: list[float]) -> None:
    chosen = [by_draw(weights, (n + 0.5) / 2000) for n in range(2000)]
    for index, weight in enumerate(weights):
        assert chosen.count(index) / 2000 == pytest.approx(weight / sum(weights), abs=0.002)


@given(WEIGHTS, st.floats(0, 1, exclude_max=True))
def test_an_arm_without_weight_gets_nothing(weights: list[float], draw: float) -> None:
    assert weights[by_draw(weights, draw)] > 0
    labels = [str(index) for index in range(len(weights))]
    assert weights[by_key(weights, labels, "salt", str(draw))] > 0


@settings(max_examples=20)
@given(st.lists(st.floats(1, 100), min_size=2, max_size=5))
def test_keys_are_shared_out_by_weight(weights: list[float]) -> None:
    labels = [str(index) for index in range(len(weights))]
    chosen = [by_key(weights, labels, "route", key) for key in KEYS]
    for index, weight in enumerate(weights):
        assert chosen.count(index) / len(KEYS) == pytest.approx(weight / sum(weights), abs=0.04)


@settings(max_examples=20)
@given(st.lists(st.floats(1, 100), min_size=2, max_size=5), st.floats(0, 200), st.data())
def test_a_changed_weight_moves_keys_to_or_from_that_arm_only(
    weights: list[float], weight: float, data: st.DataObject
) -> None:
    changed = data.draw(st.integers(0, len(weights) - 1))
    labels = [str(index) for index in range(len(weights))]
    after = [weight if index == changed else old for index, old in enumerate(weights)]
    moved = 0
    for key in KEYS[:1000]:
        old, new = by_key(weights, labels, "route", key), by_key(after, labels, "route", key)
        if old != new:
            moved += 1
            assert new == changed if weight > weights[changed] else old == changed
    expected = abs(weights[changed] / sum(weights) - weight / sum(after))
    assert moved / 1000 == pytest.approx(expected, abs=0.06)


def split(by: str) -> House:
    house = House([StandInModel("a"), StandInModel("b", version="2")], draws=random.Random(3).random)
    arms = '[{ model = "a", weight = 75 }, { model = "b", version = "2", weight = 25 }]'
    house.table.apply(f'[routes.r]\nkind = "split"\narms = {arms}\nby = "{by}"')
    return house


def test_jobs_are_dealt_out_counted_and_told_of() -> None:
    house = split("weight")
    told = [house.ask("r", job(2))[0].notes for _ in range(2000)]
    shares = [sum(each["edgewright_arm"] == label for each in told) for label in ("a", "b@2")]
    assert shares[1] == pytest.approx(500, abs=80)
    assert {"edgewright_arm": "b@2", "edgewright_model": "b"} in told
    assert [house.counts("r", label)["jobs"] for label in ("a", "b@2")] == shares
    assert house.counts("r", "a")["rows"] == shares[0] * 2


def test_a_key_stays_and_jobs_without_one_are_dealt_out() -> None:
    house = split("key")
    for key in KEYS[:50]:
        assert len({house.ask("r", job(key=key))[0].model for _ in range(5)}) == 1
    assert {house.ask("r", job())[0].model for _ in range(50)} == {"a", "b"}


@pytest.mark.parametrize("by", ["weight", "key"])
def test_the_steps_of_a_sequence_stay_together(by: str) -> None:
    house = split(by)
    models = set()
    for number in range(20):
        step = SequenceStep(str(number), start=False, end=False)
        chosen = {house.ask("r", job(key=str(n), sequence=step))[0].model for n in range(5)}
        assert len(chosen) == 1
        models |= chosen
    assert models == {"a", "b"}


def test_an_arm_that_is_not_loaded_is_503_and_the_other_serves() -> None:
    house = split("weight")
    house.models.pop()
    outcomes = [house.ask("r", job()) for _ in range(100)]
    assert {status(each) for each in outcomes} == {200, 503}
    refusal = next(each[0].refusal for each in outcomes if each[0].refusal)
    assert refusal.message == "a route leads to 'b@2', which is not loaded"
    assert house.counts("r", "b@2")["jobs"] == 0
