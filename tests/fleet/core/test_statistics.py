"""The special functions and distances against scipy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special, stats
from scipy.spatial import distance

from edgewright.fleet.core import statistics
from edgewright.fleet.core.drift import divergence

counts = st.lists(st.integers(0, 10_000), min_size=2, max_size=40)


@given(a=st.floats(1, 20_000), b=st.floats(1, 20_000), x=st.floats(1e-6, 1 - 1e-6))
def test_incomplete_beta_is_scipys(a: float, b: float, x: float) -> None:
    assert math.exp(statistics.log_betainc(a, b, x)) == pytest.approx(special.betainc(a, b, x), rel=1e-7, abs=1e-12)


@given(a=st.floats(0.5, 2_000), x=st.floats(0, 5_000))
def test_incomplete_gamma_is_scipys(a: float, x: float) -> None:
    assert statistics.gamma_upper(a, x) == pytest.approx(special.gammaincc(a, x), rel=1e-8, abs=1e-12)


@given(alpha=st.floats(1e-8, 0.5), degrees=st.integers(1, 1000))
def test_chi_square_quantile_is_scipys(alpha: float, degrees: int) -> None:
    assert statistics.chi2_critical(alpha, degrees) == pytest.approx(stats.chi2.isf(alpha, degrees), rel=1e-6)


def test_normal_quantile_is_scipys() -> None:
    for alpha in (0.4, 0.05, 1e-3, 1e-6):
        assert statistics.normal_critical(alpha) == pytest.approx(stats.norm.isf(alpha), rel=1e-9)
        assert statistics.normal_upper(stats.norm.isf(alpha)) == pytest.approx(alpha, rel=1e-9)


@given(rows=st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 5000)), min_size=2, max_size=30))
def test_two_sample_chi_square_is_scipys(rows: list[tuple[int, int]]) -> None:
    one, other = [a for a, _ in rows], [b for _, b in rows]
    filled = np.array([[a, b] for a, b in rows if a + b]).T
    statistic, degrees = statistics.chi2_two_samples(one, other)
    if sum(one) == 0 or sum(other) == 0 or filled.shape[1] < 2:
        assert statistic == pytest.approx(0)
        return
    expected = stats.chi2_contingency(filled, correction=False)
    assert statistic == pytest.approx(expected.statistic, rel=1e-9, abs=1e-9)
    assert degrees == expected.dof


@given(rows=st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), min_size=2, max_size=20))
def test_distances_are_scipys_on_the_binned_data(rows: list[tuple[int, int]]) -> None:
    one, other = [a for a, _ in rows], [b for _, b in rows]
    if not sum(one) or not sum(other):
        assert divergence.ks(one, other) == divergence.js(one, other) == 0
        return
    values = np.arange(len(rows))
    expected = stats.ks_2samp(np.repeat(values, one), np.repeat(values, other), method="asymp").statistic
    assert divergence.ks(one, other) == pytest.approx(expected, abs=1e-9)
    assert divergence.js(one, other) == pytest.approx(distance.jensenshannon(one, other, base=2), abs=1e-7)


@given(row=counts)
def test_equal_histograms_are_at_distance_zero(row: list[int]) -> None:
    assert divergence.psi(row, row) == 0
    assert divergence.ks(row, row) == 0
    assert divergence.js(row, row) == 0


def test_psi_by_hand() -> None:
    expected = (10.5 / 31 - 20.5 / 31) * math.log(10.5 / 20.5) + (20.5 / 31 - 10.5 / 31) * math.log(20.5 / 10.5)
    assert divergence.psi([10, 20], [20, 10]) == pytest.approx(expected)


@given(one=counts, seed=st.integers(0, 99))
def test_joining_keeps_every_sample_and_enough_in_each_bin(one: list[int], seed: int) -> None:
    other = list(np.random.default_rng(seed).integers(0, 500, len(one)))
    for join in (divergence.join_neighbours, divergence.join_rare):
        left, right = join(one, other)
        assert (sum(left), sum(right)) == (sum(one), sum(other))
    left, right = divergence.join_neighbours(one, other)
    assert len(left) <= divergence.TEST_BINS
    if len(left) > 1:
        share = min(sum(one), sum(other)) / (sum(one) + sum(other))
        assert all(share * (a + b) >= divergence.MIN_EXPECTED for a, b in zip(left, right, strict=True))


def test_e_value_is_the_mixture_it_claims_to_be() -> None:
    limit, failures, executed = 0.02, 4, 30
    rates = np.linspace(limit, 1, 400_001)
    ratio = (rates / limit) ** failures * ((1 - rates) / (1 - limit)) ** (executed - failures)
    assert math.exp(statistics.log_e_value(failures, executed, limit)) == pytest.approx(
        np.trapezoid(ratio, rates) / (1 - limit), rel=1e-6
    )


def test_e_value_without_failures_in_a_huge_fleet_does_not_underflow() -> None:
    assert math.exp(statistics.log_e_value(0, 1_000_000, 0.02)) == pytest.approx(1 / 1_000_001, rel=1e-6)
