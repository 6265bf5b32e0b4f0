"""A canary that is worse is given up soon, one that is not is kept, and clients do not pay with errors."""

from __future__ import annotations

import random

import pytest

from edgewright.runtime.server.routes.evidence import MEDIAN_FROM, Evidence, RunningMedian
from tests.runtime.server.routes.model_stand_ins import House, StandInModel, job, status

MS = 1_000_000


def canary(options: str = "fraction = 0.1", seed: int = 1) -> tuple[House, StandInModel, StandInModel]:
    old, new = StandInModel("old"), StandInModel("new")
    house = House([old, new], draws=random.Random(seed).random)
    house.table.apply(f'[routes.r]\nkind = "canary"\nprimary = "old"\ncanary = "new"\n{options}')
    return house, old, new


def given_up(house: House) -> str:
    return str(house.table.statistics()["r"]["given_up"])


@pytest.mark.parametrize("share", [0.02, 0.1, 0.5])
def test_equal_arms_are_seldom_told_apart_however_often_one_looks(share: float) -> None:
    """The promise is a chance of at most 5 % for all looks together; 500 runs keep it with room for luck."""
    alarms = 0
    for seed in range(500):
        chance = random.Random(seed)
        evidence = Evidence(share, 0.05)
        alarms += any(evidence.add(newcomer=chance.random() < share) for _ in range(600))
    assert alarms <= 500 * 0.05 + 12


@pytest.mark.parametrize(("share", "odds", "within"), [(0.05, 50, 12), (0.1, 10, 40), (0.5, 8, 60)])
def test_a_worse_arm_is_seen_within_few_events(share: float, odds: float, within: int) -> None:
    late = 0
    for seed in range(100):
        chance = random.Random(seed)
        evidence = Evidence(share, 0.0005)
        of_newcomer = odds * share / (odds * share + 1 - share)
        late += not any(evidence.add(newcomer=chance.random() < of_newcomer) for _ in range(within))
    assert late <= 10


def test_long_trust_does_not_hide_a_fall() -> None:
    chance = random.Random(0)
    evidence = Evidence(0.1, 0.001)
    assert not any(evidence.add(newcomer=chance.random() < 0.1) for _ in range(30_000))
    assert any(evidence.add(newcomer=True) for _ in range(600))


def test_an_equal_canary_is_kept_and_gets_its_share() -> None:
    house, _, new = canary()
    for _ in range(3000):
        assert status(house.ask("r", job())) == 200
    assert len(new.jobs) == pytest.approx(300, abs=60)
    assert given_up(house) == ""


@pytest.mark.parametrize("when", ["submit", "answer"])
def test_a_failing_canary_is_given_up_and_no_client_notices(when: str) -> None:
    house, old, new = canary()
    setattr(new, f"{when}_status", 500)
    for _ in range(2000):
        assert house.ask("r", job())[0].model == "old"
    assert "fails more often" in given_up(house)
    counts = house.counts("r", "new")
    assert counts["errors"] + counts["refused"] < 10
    assert len(old.jobs) == 2000


def test_a_job_that_both_fail_is_evidence_once() -> None:
    old, new = StandInModel("old"), StandInModel("new")
    house = House([old, new], draws=lambda: 0.0)
    house.table.apply('[routes.r]\nkind = "canary"\nprimary = "old"\ncanary = "new"\nfraction = 0.5')
    old.answer_status = new.answer_status = 500
    assert status(house.ask("r", job())) == 500
    alone = Evidence(0.5, 0.0005)
    alone.add(newcomer=True)
    assert house.table.statistics()["r"]["log_evidence_errors"] == alone.log_wealth


def test_errors_that_both_make_alike_are_not_held_against_it() -> None:
    house, old, new = canary()
    chance = random.Random(9)
    for _ in range(3000):
        old.answer_status = new.answer_status = 503 if chance.random() < 0.3 else 200
        house.ask("r", job())
    assert given_up(house) == ""


@pytest.mark.parametrize(("factor", "kept"), [(1.0, True), (1.4, True), (1.7, False), (10.0, False)])
def test_a_slower_canary_is_given_up(factor: float, kept: bool) -> None:
    house, old, new = canary("fraction = 0.1\nmax_slowdown = 1.5")
    chance = random.Random(5)

    def takes(model: StandInModel, times: float) -> None:
        def pass_time() -> None:
            house.now_ns += int(times * MS * chance.uniform(0.95, 1.05))

        model.on_submit = pass_time

    takes(old, 1.0)
    takes(new, factor)
    for _ in range(2000):
        house.ask("r", job())
    assert (given_up(house) == "") == kept, house.table.statistics()


def test_a_noisy_board_is_not_held_against_the_canary() -> None:
    house, old, new = canary()
    chance = random.Random(6)

    def pass_time() -> None:
        house.now_ns += int(chance.lognormvariate(0, 1.0) * MS)

    old.on_submit = new.on_submit = pass_time
    for _ in range(5000):
        house.ask("r", job())
    assert given_up(house) == ""


def test_keys_stick_and_a_canary_that_is_not_loaded_costs_nothing() -> None:
    house, _, new = canary("fraction = 0.5")
    arms = {f"k{n}": {house.ask("r", job(key=f"k{n}"))[0].model for _ in range(3)} for n in range(40)}
    assert all(len(models) == 1 for models in arms.values())
    assert {"old"} in arms.values()
    assert {"new"} in arms.values()
    house.models.remove(new)
    assert all(house.ask("r", job(key=key))[0].model == "old" for key in arms)
    assert given_up(house) == ""


def test_the_median_needs_some_answers_and_follows_the_latest() -> None:
    median = RunningMedian()
    for _ in range(MEDIAN_FROM - 1):
        median.add(5)
    assert median.value is None
    median.add(5)
    assert median.value == 5
    for _ in range(300):
        median.add(9)
    assert median.value == 9
