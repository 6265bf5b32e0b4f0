"""Experiments: what is found, what is not, and that looking often does no harm."""

from __future__ import annotations

import itertools
import math
import random
from typing import Any

import msgspec
import pytest

from edgewright.fleet.core.experiment import Experiment, Memory, Plan, as_rollout, faults_of, learn, result_of
from edgewright.fleet.core.observations import Block, Metric, Observation
from edgewright.fleet.core.policy.sections import MetricLimit
from edgewright.fleet.core.rows import ReleaseBundle


def experiment(**plan: Any) -> Experiment:
    values = {"model": "m", "baseline": "1", "candidate": "2", "primary": "errors"} | plan
    return Experiment(
        id="x-1",
        plan=Plan(**values),
        baseline=(ReleaseBundle(target="board", digest="sha256:1"),),
        candidate=(ReleaseBundle(target="board", digest="sha256:2"),),
        seed=3,
        created_s=0.0,
    )


def blocks(
    count: int, seed: int, *, loss: float = 0.0, slow: float = 1.0, treated: int = 1, silent: float = 0.0
) -> list[Block]:
    """Devices with error rates and speeds of their own."""
    chosen = random.Random(seed)

    def device(is_treated: bool) -> Observation:
        rate = min(1.0, chosen.betavariate(2, 18) + (loss if is_treated else 0))
        each_us = chosen.lognormvariate(8, 0.5) * (slow if is_treated else 1)
        return Observation(
            device="d",
            is_treated=is_treated,
            heard=not (is_treated and chosen.random() < silent),
            requests=40,
            failures=sum(chosen.random() < rate for _ in range(40)),
            latency_us_sum=int(40 * each_us),
        )

    return [
        Block(number=number, target="board", observations=(*[device(True) for _ in range(treated)], device(False)))
        for number in range(count)
    ]


def test_a_better_a_worse_and_an_equal_candidate_are_told_apart() -> None:
    found = []
    for loss in (-0.06, 0.06, 0.0):
        one = experiment()
        found.append(result_of(one, learn(one, Memory(), blocks(400, 1, loss=loss))).finding)
    assert found == ["better", "worse", "undecided"]


def test_a_verdict_needs_blocks_however_clear_they_look() -> None:
    one = experiment()
    assert result_of(one, Memory()).finding == "undecided"
    few = result_of(one, learn(one, Memory(), blocks(29, 1, loss=0.8)))
    assert few.finding == "undecided"
    assert few.primary.blocks == 29


@pytest.mark.parametrize("primary", ["errors", "latency"])
@pytest.mark.parametrize("treated", [1, 4])
def test_looking_after_every_block_decides_on_equals_no_more_often_than_promised(primary: Metric, treated: int) -> None:
    one = experiment(primary=primary, alpha=0.1, share=treated / (treated + 1))
    wrong = 0
    for seed in range(100):
        memory, decided = Memory(), False
        for block in blocks(80, seed, treated=treated):
            memory = learn(one, memory, [block])
            decided |= result_of(one, memory).finding in {"better", "worse"}
        wrong += decided
    assert wrong <= 10 + 3 * math.sqrt(9)


@pytest.mark.parametrize("treated", [1, 2])
def test_a_difference_of_latencies_is_nothing_on_average_over_all_draws(treated: int) -> None:
    """Also where one device of the block is far slower than the others, and the arms are of unlike size."""
    one, total = experiment(primary="latency"), 0.0
    for arm in itertools.combinations(range(3), treated):
        seen = [
            Observation(device="d", is_treated=place in arm, heard=True, requests=1, latency_us_sum=each_us)
            for place, each_us in enumerate((1000, 2000, 50_000))
        ]
        total += learn(one, Memory(), [Block(number=0, target="b", observations=tuple(seen))]).effects["latency"].total
    assert total == pytest.approx(0, abs=1e-9)


def test_the_interval_of_latency_is_in_percent_around_the_truth() -> None:
    one = experiment(primary="latency")
    primary = result_of(one, learn(one, Memory(), blocks(600, 2, slow=1.3))).primary
    assert primary.unit == "%"
    assert primary.low is not None
    assert primary.high is not None
    assert primary.low < 30 < primary.high
    assert primary.low > 10


def test_a_guardrail_fails_on_more_than_its_limit_and_not_below_it() -> None:
    given = (MetricLimit(metric="latency", max_loss=10.0),)
    one = experiment(guardrails=given)
    slow = result_of(one, learn(one, Memory(), blocks(300, 3, loss=-0.06, slow=2.0)))
    assert slow.finding == "guardrail_failed"
    assert "latency" in slow.reason
    fast = result_of(one, learn(one, Memory(), blocks(300, 3, loss=-0.06, slow=1.0)))
    assert fast.finding == "better"
    assert not fast.guardrails[0].failed


def test_an_arm_that_loses_devices_proves_nothing() -> None:
    one = experiment()
    found = result_of(one, learn(one, Memory(), blocks(2500, 4, loss=-0.06, silent=0.4)))
    assert found.finding == "sample_ratio_mismatch"
    assert "loses units" in found.reason
    whole = result_of(one, learn(one, Memory(), blocks(500, 4, loss=-0.06)))
    assert not whole.sample_ratio.mismatch


def test_requests_are_counted_one_by_one_against_the_split() -> None:
    one = experiment(unit="requests", share=0.2)
    found = result_of(one, learn(one, Memory(), blocks(2000, 5)))
    assert found.sample_ratio.candidate == 80_000
    assert found.sample_ratio.mismatch


def test_memory_through_json_goes_on_with_the_same_bits() -> None:
    one = experiment(guardrails=(MetricLimit(metric="latency"),))
    straight, stored = Memory(), Memory()
    for block in blocks(50, 6):
        straight = learn(one, straight, [block])
        stored = msgspec.json.decode(msgspec.json.encode(learn(one, stored, [block])), type=Memory)
    assert straight == stored
    assert straight == learn(one, Memory(), blocks(50, 6))


@pytest.mark.parametrize(
    ("plan", "fault"),
    [
        ({"candidate": "1"}, "both 1"),
        ({"primary": "inputs"}, "cannot be compared"),
        ({"unit": "requests", "primary": "crashes"}, "belongs to a device"),
        ({"guardrails": (MetricLimit(metric="errors"),)}, "named twice"),
    ],
)
def test_a_plan_that_makes_no_sense_is_refused(plan: dict[str, Any], fault: str) -> None:
    assert fault in str(faults_of(experiment(**plan).plan))


def test_a_plan_that_makes_sense_is_not() -> None:
    assert faults_of(experiment(guardrails=(MetricLimit(metric="crashes"),)).plan) is None


def test_the_share_of_the_candidate_is_what_the_draw_leaves_of_the_controls() -> None:
    assert as_rollout(experiment(share=0.2)).policy.control.fractions == (0.8,)
