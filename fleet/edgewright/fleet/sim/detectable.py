"""How small a fault a rollout can still find, wave by wave: the smallest effect that its gates prove in 8 of 10 runs.

The tests are the real ones with the thresholds of the policy. Devices are drawn independently of each other; where
failures cluster by site, it takes more devices.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence

import msgspec

from ..core.gates.comparisons import COMPARISONS
from ..core.gates.weights import enabled_metrics, weights_of
from ..core.observations import Evidence, Metric
from ..core.rows import Rollout
from ..core.sequential import mean, sign
from ..core.statistics import log_e_value
from .trace import TracedBoard

POWER = 0.8
RUNS = 100
MOST_DEVICES = 20_000
"""More are not simulated: the effect found there is small enough."""
MOST_BLOCKS = 600
TIMES_THE_LIMIT = (
    1.1,
    1.15,
    1.2,
    1.25,
    1.3,
    1.4,
    1.5,
    1.6,
    1.8,
    2,
    2.25,
    2.5,
    3,
    3.5,
    4,
    5,
    6,
    7.5,
    10,
    15,
    20,
    30,
    45,
)
POINTS = (0.5, 1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10, 15, 20, 30, 50)
PERCENT_SLOWER = (5, 10, 15, 20, 22.5, 25, 27.5, 30, 35, 40, 50, 75, 100)


class Stage(msgspec.Struct, frozen=True, kw_only=True):
    """How much is known when a wave is over."""

    devices: int
    """That got the release so far."""
    blocks: int
    """Of the most common board, so far."""
    treated_per_block: float = 1.0
    controls_per_block: float = 1.0


class Detectable(msgspec.Struct, frozen=True, kw_only=True):
    """The smallest effects found with a chance of 80 % by the end of a wave; None: none that was tried."""

    devices: int
    failure_percentage: float | None
    accuracy_points: float | None
    slower_percentage: float | None


def detectable(rollout: Rollout, board: TracedBoard, stages: Sequence[Stage]) -> tuple[Detectable, ...]:
    """Return what each stage can find."""
    failures = _failures(rollout, stages)
    accuracy = _accuracy(rollout, board, stages)
    slower = _slower(rollout, board, stages)
    return tuple(
        Detectable(
            devices=stage.devices, failure_percentage=failed, accuracy_points=points, slower_percentage=percentage
        )
        for stage, failed, points, percentage in zip(stages, failures, accuracy, slower, strict=True)
    )


def _failures(rollout: Rollout, stages: Sequence[Stage]) -> list[float | None]:
    gate = rollout.policy.failure_gate
    if not gate.enabled:
        return [None] * len(stages)
    limit = gate.max_failure_percentage / 100
    last = min(stages[-1].devices, MOST_DEVICES)
    bounds = _bounds(limit, last, threshold=-math.log(rollout.policy.alpha * weights_of(rollout).pooled))
    rates = [share for share in (limit * times for times in TIMES_THE_LIMIT) if share < 1]
    found = {
        share: [_found_after(share, bounds, gate.min_failures, last, seed) for seed in range(RUNS)] for share in rates
    }

    def chance(share: float, devices: int) -> float:
        return sum(after <= devices for after in found[share]) / RUNS

    smallest = []
    for stage in stages:
        devices = min(stage.devices, MOST_DEVICES)
        if devices < gate.min_failures:  # so few are stopped where all of them fail
            smallest.append(100 * POWER ** (1 / max(1, devices)))
        else:
            smallest.append(next((100 * share for share in rates if chance(share, devices) >= POWER), None))
    return smallest


def _bounds(limit: float, devices: int, *, threshold: float) -> list[int]:
    """Return after how many devices at most the n-th failure is proof; 0 where it never is."""
    bounds = [0]
    executed = 1
    while bounds[-1] < devices:
        failures = len(bounds)
        executed = max(executed, failures)
        if log_e_value(failures, executed, limit) < threshold:
            bounds.append(0)
            if failures > 1000:
                break
            continue
        low, high = executed, 2 * executed
        while high < devices and log_e_value(failures, high, limit) >= threshold:
            low, high = high, 2 * high
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if log_e_value(failures, middle, limit) >= threshold else (low, middle)
        executed = low
        bounds.append(low)
    return bounds


def _found_after(share: float, bounds: Sequence[int], floor: int, devices: int, seed: int) -> float:
    """Return after how many devices one run is stopped."""
    chance = random.Random(f"{share}/{seed}")  # noqa: S311  (a simulation is to be repeatable)
    executed = 0
    for failures in range(1, len(bounds)):
        executed += 1 + int(math.log(1.0 - chance.random()) / math.log1p(-share))
        if executed > devices:
            break
        if failures >= floor and executed <= bounds[failures]:
            return executed
    return math.inf


def _accuracy(rollout: Rollout, board: TracedBoard, stages: Sequence[Stage]) -> list[float | None]:
    limit = _limit(rollout, "accuracy")
    spread = board.spread_percentage / 100

    def step(points: float) -> Callable[[Evidence, random.Random, Stage], Evidence]:
        def advance(evidence: Evidence, chance: random.Random, stage: Stage) -> Evidence:
            apart = spread * math.sqrt(1 / stage.treated_per_block + 1 / stage.controls_per_block)
            return mean.advance(evidence, max(-1.0, min(1.0, chance.gauss(points / 100, apart))), limit)

        return advance

    return _smallest(rollout, "accuracy", stages, POINTS, step)


def _slower(rollout: Rollout, board: TracedBoard, stages: Sequence[Stage]) -> list[float | None]:
    limit = _limit(rollout, "latency")
    spread = board.spread_percentage / 100

    def step(percentage: float) -> Callable[[Evidence, random.Random, Stage], Evidence]:
        def advance(evidence: Evidence, chance: random.Random, stage: Stage) -> Evidence:
            apart = spread * math.sqrt(1 / stage.treated_per_block + 1 / stage.controls_per_block)
            return sign.advance(evidence, chance.gauss(math.log1p(percentage / 100), apart) > math.log1p(limit))

        return advance

    return _smallest(rollout, "latency", stages, PERCENT_SLOWER, step)


def _limit(rollout: Rollout, metric: Metric) -> float:
    given = [one.max_loss for one in rollout.policy.control_gate.metrics if one.metric == metric]
    return COMPARISONS[metric].limit(given[0] if given else None)


def _smallest(
    rollout: Rollout,
    metric: Metric,
    stages: Sequence[Stage],
    effects: Sequence[float],
    step: Callable[[float], Callable[[Evidence, random.Random, Stage], Evidence]],
) -> list[float | None]:
    weight = weights_of(rollout).metric
    if metric not in enabled_metrics(rollout.policy) or not weight or not stages[-1].blocks:
        return [None] * len(stages)
    threshold = -math.log(rollout.policy.alpha * weight)
    smallest: list[float | None] = [None] * len(stages)
    for effect in reversed(effects):
        after = [_proof_after(step(effect), stages, threshold, f"{metric}/{effect}/{run}") for run in range(RUNS // 2)]
        hits = [sum(blocks <= stage.blocks for blocks in after) / len(after) for stage in stages]
        if max(hits) < POWER:
            break
        smallest = [effect if hit >= POWER else before for hit, before in zip(hits, smallest, strict=True)]
    return smallest


def _proof_after(
    advance: Callable[[Evidence, random.Random, Stage], Evidence], stages: Sequence[Stage], threshold: float, seed: str
) -> float:
    chance = random.Random(seed)  # noqa: S311  (a simulation is to be repeatable)
    evidence, blocks = Evidence(), 0
    for stage in stages:
        while blocks < min(stage.blocks, MOST_BLOCKS):
            evidence = advance(evidence, chance, stage)
            blocks += 1
            if evidence.peak >= threshold:
                return blocks
    return math.inf
