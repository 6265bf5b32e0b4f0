"""The latency model finds out how long batches take, follows what changes, and is not misled by single slow runs."""

from __future__ import annotations

import random
import sys
import threading
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewright.runtime.server.schedule.latency_model import LatencyModel, bucket_sizes
from tests.runtime.server.schedule.simulation import MS, linear

SIZES = bucket_sizes(32)


def model_of(fixed_ms: float, row_ms: float) -> LatencyModel:
    cost = linear(fixed_ms, row_ms)
    return LatencyModel([(rows, cost(rows) / 1000) for rows in SIZES])


@given(st.integers(1, 4096))
def test_sizes_are_powers_of_two_and_the_largest(max_rows: int) -> None:
    sizes = bucket_sizes(max_rows)
    assert sizes[0] == 1
    assert sizes[-1] == max_rows
    assert sizes == sorted(set(sizes))
    assert all(later <= 2 * earlier for earlier, later in pairwise(sizes))


@given(st.floats(0.01, 50), st.floats(0.001, 5), st.integers(1, 200))
def test_a_line_is_found_and_followed_beyond_what_was_measured(fixed_ms: float, row_ms: float, rows: int) -> None:
    model = model_of(fixed_ms, row_ms)
    assert model.estimate_ns(rows) == pytest.approx(linear(fixed_ms, row_ms)(rows) * MS, rel=0.02)
    a_ns, b_ns = model.line()
    assert a_ns == pytest.approx(fixed_ms * MS, rel=0.02)
    assert b_ns == pytest.approx(row_ms * MS, rel=0.02)


def test_an_engine_that_is_not_linear_is_known_as_it_is() -> None:
    times_ms = {1: 1.0, 2: 2.0, 4: 4.0, 8: 2.5, 16: 5.0, 32: 10.0}  # compiled for 1 and for 8 rows
    model = LatencyModel([(rows, ms / 1000) for rows, ms in times_ms.items()])
    for rows, ms in times_ms.items():
        assert model.estimate_ns(rows) == pytest.approx(ms * MS)


@given(st.floats(0.1, 10), st.sampled_from(SIZES), st.integers(0, 100))
def test_a_lasting_change_arrives(factor: float, seen: int, seed: int) -> None:
    """A board that is throttled is slower for all sizes, also those that do not run now."""
    noise, model, cost = random.Random(seed), model_of(1, 0.5), linear(factor, 0.5 * factor)
    for _ in range(200):
        model.observe(seen, cost(seen) * MS * noise.lognormvariate(0, 0.05))
    assert model.estimate_ns(seen) == pytest.approx(cost(seen) * MS, rel=0.15)
    for rows in SIZES:
        before, after = linear(1, 0.5)(rows), cost(rows)
        assert min(before, after) * 0.85 < model.estimate_ns(rows) / MS < max(before, after) * 1.15
    if factor != 1:
        other = next(rows for rows in SIZES if rows != seen)
        moved = model.estimate_ns(other) / MS / linear(1, 0.5)(other)
        assert (moved - 1) * (factor - 1) >= 0 or abs(factor - 1) < 0.2


def test_single_slow_runs_say_little() -> None:
    model = model_of(1, 0.5)
    for turn in range(400):
        model.observe(1, (1.5 if turn % 20 else 150) * MS)
    assert model.estimate_ns(1) == pytest.approx(1.5 * MS, rel=0.12)


@given(st.lists(st.tuples(st.integers(1, 5000), st.floats(1, 1e12)), max_size=200))
def test_whatever_is_observed_estimates_stay_positive_and_finite(observed: list[tuple[int, float]]) -> None:
    model = model_of(0.05, 0.02)
    for rows, took_ns in observed:
        model.observe(rows, took_ns)
    for rows in (1, 3, 17, 32, 33, 5000):
        assert 0 < model.estimate_ns(rows) < 1e18
    a_ns, b_ns = model.line()
    assert a_ns >= 0
    assert b_ns >= 0
    assert model.single_ns == model.estimate_ns(1)


def test_one_measurement_is_taken_to_save_nothing() -> None:
    model = LatencyModel([(1, 0.002)])
    assert model.estimate_ns(10) == pytest.approx(20 * MS)


def test_a_size_between_is_known_once_it_has_run() -> None:
    model = LatencyModel([(1, 0.001), (4, 0.004), (8, 0.0025)])
    assert model.estimate_ns(7) < 3 * MS
    for _ in range(30):
        model.observe(7, 7 * MS)
        model.observe(8, 2.5 * MS)
    assert model.estimate_ns(7) == pytest.approx(7 * MS, rel=0.1)
    assert model.estimate_ns(8) == pytest.approx(2.5 * MS, rel=0.1), "which says nothing of its neighbours"


def test_two_threads_may_learn_and_ask_at_one_time() -> None:
    def learn(model: LatencyModel) -> None:
        for rows in range(4095, 4000, -1):
            model.observe(rows, 1e6)

    patience_s = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(100):
            model = LatencyModel([(1, 1e-3), (8192, 1e-2)])
            learner = threading.Thread(target=learn, args=(model,))
            learner.start()
            while learner.is_alive():
                assert model.estimate_ns(8000) > 0
    finally:
        sys.setswitchinterval(patience_s)
