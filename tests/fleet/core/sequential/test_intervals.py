"""Confidence sequences: GrowthBook's numbers, and the coverage that they promise."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special

from edgewright.fleet.core.sequential.intervals import difference_interval, interval, rate_interval

GROWTHBOOK = [
    (
        5000,
        0.05,
        (1000, 52.0, 9.1),
        (980, 71.0, 14.2),
        (0.02044897959183673, 0.008007252449443704, 0.03289070673422976),
    ),
    (500, 0.01, (40, 4.0, 0.9), (41, 3.0, 0.5), (-0.026829268292682937, -0.11483751440914108, 0.06117897782377521)),
]
"""gbstats 0.8.0, SequentialTwoSidedTTest, absolute difference: variation minus baseline."""


@pytest.mark.parametrize(("tuned", "alpha", "baseline", "variation", "expected"), GROWTHBOOK)
def test_a_difference_has_growthbooks_interval(
    tuned: int,
    alpha: float,
    baseline: tuple[int, float, float],
    variation: tuple[int, float, float],
    expected: tuple[float, float, float],
) -> None:
    found = difference_interval(variation, baseline, alpha, tuned)
    assert found is not None
    assert (found.estimate, found.low, found.high) == pytest.approx(expected, rel=1e-9)


def test_a_mean_is_inside_its_interval_at_all_times() -> None:
    missed = 0
    for seed in range(200):
        chosen, total, squares, ever = random.Random(seed), 0.0, 0.0, False
        for steps in range(1, 300):
            value = chosen.gauss(0.1, 0.3)
            total, squares = total + value, squares + value * value
            found = interval(steps, total, squares, 0.1)
            ever |= steps > 30 and found is not None and not found.low <= 0.1 <= found.high
        missed += ever
    assert missed <= 20 + 3 * math.sqrt(18)


def test_one_value_has_no_interval() -> None:
    assert interval(1, 0.5, 0.25, 0.05) is None
    assert difference_interval((1, 1, 1), (5, 1, 1), 0.05) is None
    assert rate_interval(0, 0, 0.05) is None


@given(st.integers(1, 3000), st.floats(0, 1), st.floats(0.001, 0.4))
def test_a_rate_is_disproved_at_the_edges_and_nowhere_inside(executed: int, share: float, alpha: float) -> None:
    failures = round(share * executed)
    found = rate_interval(failures, executed, alpha)
    assert found is not None

    def log_e(rate: float) -> float:
        mixture = special.betaln(failures + 1, executed - failures + 1)
        return float(mixture - special.xlogy(failures, rate) - special.xlog1py(executed - failures, -rate))

    assert 0 <= found.low <= found.estimate <= found.high <= 1
    for edge, sure in ((found.low, 0.0), (found.high, 1.0)):
        if edge != sure:
            assert log_e(edge) == pytest.approx(-math.log(alpha), abs=1e-6)
    assert log_e(found.estimate) < -math.log(alpha)


def test_a_rate_is_inside_its_interval_at_all_times() -> None:
    missed = 0
    for seed in range(150):
        chosen, failures, ever = random.Random(seed), 0, False
        for executed in range(1, 200):
            failures += chosen.random() < 0.07
            found = rate_interval(failures, executed, 0.1)
            ever |= found is not None and not found.low <= 0.07 <= found.high
        missed += ever
    assert missed <= 15 + 3 * math.sqrt(13.5)
