"""Ranges: inside of what was seen, with zero in them, and each calibrator does what it is for."""

from __future__ import annotations

import math
import time
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from edgewright.compiler.quantize.calibration.calibrators import PERCENTILE, expected_error, value_range
from edgewright.compiler.quantize.calibration.statistics import TensorStatistics
from edgewright.compiler.quantize.scheme import Calibrator

CALIBRATORS: tuple[Calibrator, ...] = ("min-max", "percentile", "entropy", "mse")
Floats = NDArray[np.float32]

values = hnp.arrays(
    np.float32,
    st.integers(0, 60),
    elements=st.one_of(
        st.floats(width=32, allow_nan=False, allow_infinity=False), st.floats(-9, 9, width=32), st.just(0.0)
    ),
)


def heavy_tail(sign: int = 0) -> TensorStatistics:
    """A bell with a few values far outside."""
    random = np.random.default_rng(3)
    bell = random.normal(size=200_000).astype(np.float32)
    bell[:10] = 100 * np.resize([1, -1], 10)
    return TensorStatistics.of(bell if sign == 0 else sign * np.abs(bell))


def squared_error(numbers: Floats, low: float, high: float, levels: int) -> float:
    """Really rounded."""
    step = (high - low) / (levels - 1)
    zero_point = round(-low / step)
    rounded = (np.clip(np.rint(numbers.astype(np.float64) / step) + zero_point, 0, levels - 1) - zero_point) * step
    return float(np.mean((numbers - rounded) ** 2))


@given(values, st.sampled_from(CALIBRATORS), st.sampled_from([16, 255, 256, 65536]), st.booleans())
@settings(max_examples=500, deadline=None)
def test_ranges_hold_zero_and_stay_inside_of_what_was_seen(
    numbers: Floats, calibrator: Calibrator, levels: int, symmetric: bool
) -> None:
    tensor = TensorStatistics.of(numbers)
    low, high = value_range(tensor, calibrator, levels, symmetric)
    assert low <= 0 <= high
    assert low < high or not numbers.any()
    if symmetric:
        assert low == -high
        assert high <= max(-tensor.low, tensor.high)
    else:
        assert min(tensor.low, 0) <= low
        assert high <= max(tensor.high, 0)


@given(values, st.sampled_from(CALIBRATORS), st.randoms())
@settings(max_examples=200, deadline=None)
def test_the_order_does_not_matter(numbers: Floats, calibrator: Calibrator, random: object) -> None:
    shuffled = numbers[np.array(random.sample(range(len(numbers)), len(numbers)), dtype=np.intp)]  # type: ignore[attr-defined]
    cut = len(numbers) // 3
    merged = TensorStatistics.of(shuffled[cut:]).merged(TensorStatistics.of(shuffled[:cut]))
    assert value_range(merged, calibrator, 256) == value_range(TensorStatistics.of(numbers), calibrator, 256)


@given(values, st.sampled_from([16, 256]), st.booleans())
@settings(max_examples=300, deadline=None)
def test_least_squares_expects_no_more_than_all_of_the_range(numbers: Floats, levels: int, symmetric: bool) -> None:
    tensor = TensorStatistics.of(numbers)
    best = expected_error(tensor, *value_range(tensor, "mse", levels, symmetric), levels)
    whole = expected_error(tensor, *value_range(tensor, "min-max", levels, symmetric), levels)
    assert best <= whole * 1.01 + 1e-300 or math.isinf(whole)


@pytest.mark.parametrize("calibrator", CALIBRATORS[1:])
@pytest.mark.parametrize("sign", [0, 1, -1])
@pytest.mark.parametrize("symmetric", [False, True])
def test_a_heavy_tail_gets_a_narrower_range(calibrator: Calibrator, sign: int, symmetric: bool) -> None:
    tensor = heavy_tail(sign)
    low, high = value_range(tensor, calibrator, 16 if calibrator == "mse" else 256, symmetric)
    assert high - low < 80
    assert high >= 3 or (sign < 0 and not symmetric)
    assert low <= -3 or (sign > 0 and not symmetric)


def test_least_squares_is_the_best_of_all_when_really_rounded() -> None:
    random = np.random.default_rng(4)
    numbers = random.standard_t(3, size=100_000).astype(np.float32)
    tensor = TensorStatistics.of(numbers)
    found = {name: squared_error(numbers, *value_range(tensor, name, 256), 256) for name in CALIBRATORS}
    assert found["mse"] == min(found.values())
    assert found["mse"] < found["min-max"] * 0.9
    predicted = expected_error(tensor, *value_range(tensor, "mse", 256), 256)
    assert predicted == pytest.approx(found["mse"], rel=0.1)


def test_an_even_spread_keeps_all_of_its_range() -> None:
    numbers = np.linspace(-1, 3, 100_001, dtype=np.float32)
    for calibrator in CALIBRATORS:
        low, high = value_range(TensorStatistics.of(numbers), calibrator, 256)
        assert (low, high) == pytest.approx((-1, 3), abs=0.15), calibrator


def test_percentile_leaves_out_as_many_as_it_says() -> None:
    numbers = np.random.default_rng(5).normal(size=1_000_000).astype(np.float32)
    low, high = value_range(TensorStatistics.of(numbers), "percentile", 256)
    rest = (1 - PERCENTILE / 100) / 2
    assert np.mean(numbers > high) == pytest.approx(rest, rel=0.1)
    assert np.mean(numbers < low) == pytest.approx(rest, rel=0.1)


@pytest.mark.parametrize("zeros", [0, 10**7])
def test_zeros_do_not_move_a_range(zeros: int) -> None:
    """ReLU makes any number of them, and they are exact in every range."""
    numbers = np.abs(np.random.default_rng(6).standard_t(4, size=50_000)).astype(np.float32)
    plain = TensorStatistics.of(numbers)
    more = plain
    if zeros:
        more = more.merged(TensorStatistics.of(np.zeros(zeros, np.float32)))
    for calibrator in ("mse", "entropy"):
        assert value_range(more, calibrator, 256) == pytest.approx(value_range(plain, calibrator, 256), rel=0.1)


def test_entropy_agrees_with_its_definition() -> None:
    """The same divergence, bin by bin as the paper has it."""
    random = np.random.default_rng(7)
    numbers = np.abs(random.laplace(size=40_000)).astype(np.float32)
    tensor = TensorStatistics.of(numbers)
    counts = np.concatenate([np.zeros(tensor.histogram.first), tensor.histogram.counts])
    counts[0] = counts[1]
    width = 2.0**tensor.histogram.exponent

    def divergence(end: int) -> float:
        reference = counts[:end].copy()
        reference[-1] += counts[end:].sum()
        spread = np.zeros(end)
        edges = end * np.arange(257) // 256
        for start, stop in pairwise(edges):
            group = reference[start:stop] > 0
            if group.any():
                spread[start:stop][group] = counts[start:stop].sum() / group.sum()
        p, q = reference / reference.sum(), spread / spread.sum()
        here = p > 0
        return float(np.sum(p[here] * np.log(p[here] / q[here]))) if (q[here] > 0).all() else math.inf

    low, high = value_range(tensor, "entropy", 256)
    found = divergence(round(high / width))
    tried = [divergence(end) for end in range(256, len(counts), 97)]
    assert low == 0
    assert found <= min(tried) * 1.02
    assert found < divergence(len(counts))


def test_sixteen_bits_keep_everything_but_the_rarest() -> None:
    tensor = heavy_tail()
    assert value_range(tensor, "entropy", 65536) == (tensor.low, tensor.high)


@pytest.mark.parametrize("calibrator", CALIBRATORS)
@pytest.mark.parametrize("peak", [1e-45, 1e-40, 1e38, 3e38])
def test_the_smallest_and_largest_numbers(calibrator: Calibrator, peak: float) -> None:
    low, high = value_range(TensorStatistics.of(np.array([0, peak, -peak], np.float32)), calibrator, 256)
    assert math.isfinite(high - low)
    assert high - low > 0


def test_no_calibrator_is_slow() -> None:
    tensor = heavy_tail()
    for calibrator in CALIBRATORS:
        took = []
        for _ in range(5):
            start = time.thread_time()
            value_range(tensor, calibrator, 256)
            took.append(time.thread_time() - start)
        assert min(took) < 0.02, calibrator
