"""False alarms at the stated chance, however often one looks; and alarms where there is something to find."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable

import msgspec
import pytest

from edgewright.fleet.core.observations import Evidence
from edgewright.fleet.core.sequential import combine, mean, odds, predictive, sample_ratio, sign

ALPHA = 0.1
RUNS = 300
BLOCKS = 250
MOST_FALSE = RUNS * ALPHA + 3 * math.sqrt(RUNS * ALPHA * (1 - ALPHA))
"""Three standard deviations above the promise: the seeds are fixed, so this is a margin and not a gamble."""

Step = Callable[[Evidence, random.Random], Evidence]


def alarms(step: Step, runs: int = RUNS, blocks: int = BLOCKS) -> int:
    """Return how many runs were ever above 1/ALPHA."""
    found = 0
    for seed in range(runs):
        chosen, evidence = random.Random(seed), Evidence()
        for _ in range(blocks):
            evidence = step(evidence, chosen)
        found += combine.log_e(evidence) >= math.log(1 / ALPHA)
    return found


def crash_step(effect: float, treated: int = 1, control: int = 1, missing: float = 0.0) -> Step:
    """Devices whose own rate of crashes differs by a factor of a hundred; some are never heard of."""

    def step(evidence: Evidence, chosen: random.Random) -> Evidence:
        arms = [True] * treated + [False] * control
        chosen.shuffle(arms)
        slots = []
        for is_treated in arms:
            rate = min(1.0, 10 ** chosen.uniform(-2.5, -0.5) * (effect if is_treated else 1))
            if chosen.random() >= missing:
                slots.append((is_treated, chosen.random() < rate))
        return odds.advance(evidence, slots)

    return step


def error_step(loss: float, limit: float, treated: int = 1, control: int = 1, rows: int = 20) -> Step:
    """Devices whose own error rate differs, with as many rows as they happen to have."""

    def device(chosen: random.Random, extra: float) -> float:
        n = chosen.randint(1, rows)
        rate = min(1.0, chosen.betavariate(1, 9) + extra)
        return sum(chosen.random() < rate for _ in range(n)) / n

    def step(evidence: Evidence, chosen: random.Random) -> Evidence:
        d = mean.difference([device(chosen, loss) for _ in range(treated)], [device(chosen, 0) for _ in range(control)])
        return evidence if d is None else mean.advance(evidence, d, limit)

    return step


def latency_step(factor: float, limit: float, treated: int = 1, control: int = 1) -> Step:
    """Heavy tails: now and then a device is a hundred times slower."""

    def device(chosen: random.Random) -> float:
        return chosen.lognormvariate(0, 1) * (100 if chosen.random() < 0.02 else 1)

    def step(evidence: Evidence, chosen: random.Random) -> Evidence:
        worse = sign.is_worse(
            [factor * device(chosen) for _ in range(treated)], [device(chosen) for _ in range(control)], limit
        )
        return evidence if worse is None else sign.advance(evidence, worse)

    return step


def answer_step(shift: float, rows: int = 30) -> Step:
    """Each device has its own mix of answers."""

    def device(chosen: random.Random, move: float) -> list[float]:
        mix = [chosen.gammavariate(3, 1) for _ in range(5)]
        mix = [value / sum(mix) for value in mix]
        mix[0], mix[4] = mix[0] * (1 - move), mix[4] + mix[0] * move
        answers = chosen.choices(range(5), mix, k=rows)
        return [answers.count(place) / rows for place in range(5)]

    return lambda evidence, chosen: predictive.advance(evidence, device(chosen, shift), device(chosen, 0))


def whole_arm(treated: int, control: int) -> Step:
    return error_step(0.02, 0.02, treated, control)


@pytest.mark.parametrize(
    "step",
    [
        pytest.param(crash_step(1.0), id="crashes of unlike devices"),
        pytest.param(crash_step(1.0, treated=9, control=1), id="crashes, nine to one"),
        pytest.param(crash_step(1.0, missing=0.3), id="crashes, a third never heard of"),
        pytest.param(crash_step(0.7), id="fewer crashes than before"),
        pytest.param(error_step(0.02, 0.02), id="a loss at the limit"),
        pytest.param(error_step(0.0, 0.0, treated=9, control=1), id="errors, nine to one, no loss allowed"),
        pytest.param(latency_step(1.2, 0.2), id="latency at the limit, heavy tails"),
        pytest.param(latency_step(1.0, 0.0, treated=9, control=1), id="latency, nine to one"),
        pytest.param(latency_step(1.0, 0.0, treated=1, control=2), id="latency, one to two"),
        pytest.param(answer_step(0.0), id="answers of unlike devices"),
    ],
)
def test_no_more_false_alarms_than_promised(step: Step) -> None:
    assert alarms(step) <= MOST_FALSE


@pytest.mark.parametrize(
    ("step", "blocks"),
    [
        pytest.param(crash_step(4.0), 300, id="four times the crashes"),
        pytest.param(crash_step(4.0, treated=9, control=1), 120, id="four times the crashes, nine to one"),
        pytest.param(error_step(0.08, 0.01), 300, id="7 points above the limit, at most 20 rows a device"),
        pytest.param(latency_step(3.0, 0.2), 200, id="three times as slow"),
        pytest.param(answer_step(0.5), 250, id="half of the first answer moved to the last"),
    ],
)
def test_what_is_wrong_is_found(step: Step, blocks: int) -> None:
    assert alarms(step, runs=40, blocks=blocks) >= 36


def test_arms_of_the_planned_size_pass_and_a_lopsided_draw_is_seen() -> None:
    false = 0
    for seed in range(100):
        chosen, counts = random.Random(seed), [0, 0]
        ever = False
        for _ in range(500):
            counts[chosen.random() < 0.5] += 1
            ever |= sample_ratio.log_e_value(counts, (0.5, 0.5), 1000) >= math.log(1 / ALPHA)
        false += ever
    assert false <= 100 * ALPHA + 9
    assert sample_ratio.log_e_value((5000, 5500), (0.5, 0.5)) > math.log(1 / ALPHA)
    with pytest.raises(ValueError, match="add up to 1"):
        sample_ratio.log_e_value((1, 2), (0.5, 0.4))


@pytest.mark.parametrize("step", [crash_step(2.0), error_step(0.1, 0), latency_step(2, 0), answer_step(0.4)])
def test_a_replay_through_json_gives_the_same_bits(step: Step) -> None:
    straight, stored = Evidence(), Evidence()
    one, other = random.Random(5), random.Random(5)
    for _ in range(60):
        straight = step(straight, one)
        stored = msgspec.json.decode(msgspec.json.encode(step(stored, other)), type=Evidence)
    assert straight == stored
    assert all(math.isfinite(value) for value in json.loads(msgspec.json.encode(straight))["log_wealth"])


def test_the_peak_is_the_highest_and_stays() -> None:
    evidence = Evidence()
    heights = [0.0]
    for worse in (True, True, True, False, False, True, False):
        evidence = sign.advance(evidence, worse)
        heights.append(combine.log_e_now(evidence))
        assert combine.log_e(evidence) == pytest.approx(max(heights))
    assert combine.log_e_now(evidence) < combine.log_e(evidence)


def test_other_bins_start_learning_anew_and_keep_what_was_won() -> None:
    evidence = Evidence()
    for _ in range(10):
        evidence = predictive.advance(evidence, (1, 0), (0, 1))
    wider = predictive.advance(evidence, (1, 0, 0), (0, 0, 1))
    assert combine.log_e_now(wider) == pytest.approx(combine.log_e_now(evidence))
    assert len(wider.learnt) == 9


def test_pooled_psi_is_the_worst_histogram_of_several() -> None:
    evidence = predictive.advance(Evidence(), (0.25, 0.25, 0.4, 0.1), (0.25, 0.25, 0.1, 0.4))
    assert predictive.pooled_psi(evidence, (2, 2)) == pytest.approx(2 * 0.6 * math.log(4))


@pytest.mark.parametrize(("d", "limit"), [(1.1, 0), (-2, 0), (math.nan, 0), (0, 1), (0, -0.1)])
def test_a_bet_that_could_not_be_fair_is_refused(d: float, limit: float) -> None:
    with pytest.raises(ValueError, match="shares"):
        mean.advance(Evidence(), d, limit)


def test_histograms_that_are_none_are_refused() -> None:
    for one, other in (((1.0,), (0.5, 0.5)), ((), ()), ((2.0, 0.0), (0.5, 0.5)), ((-0.5, 1.0), (0.5, 0.5))):
        with pytest.raises(ValueError, match=r"histograms|shares"):
            predictive.advance(Evidence(), one, other)
