"""The distances between histograms are scipy's, to 1e-9, on any counts."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.spatial import distance
from scipy.special import rel_entr

from edgewright.fleet.core.drift import divergence
from edgewright.fleet.core.statistics import chi2_two_samples, chi2_upper

Pair = tuple[list[int], list[int]]


@st.composite
def pairs(draw: st.DrawFn, *, least: int = 0, most: int = 10_000) -> Pair:
    bins = draw(st.integers(1, 40))
    one, other = (draw(st.lists(st.integers(least, most), min_size=bins, max_size=bins)) for _ in range(2))
    one[draw(st.integers(0, bins - 1))] += 1
    other[draw(st.integers(0, bins - 1))] += 1
    return one, other


def shares(pair: Pair) -> tuple[np.ndarray, np.ndarray]:
    return np.array(pair[0]) / sum(pair[0]), np.array(pair[1]) / sum(pair[1])


@given(pairs())
@example(([5, 0], [5, 0]))
@example(([5, 0], [0, 7]))
def test_psi_is_the_sum_of_both_relative_entropies(pair: Pair) -> None:
    p, q = shares(pair)
    expected = float(rel_entr(p, q).sum() + rel_entr(q, p).sum())
    assert divergence.psi_plain(*pair) == pytest.approx(expected, rel=1e-9, abs=1e-9)


@given(pairs())
def test_smoothed_psi_is_the_plain_one_of_counts_with_half_a_count_more(pair: Pair) -> None:
    p, q = ((np.array(one) + 0.5) / (sum(one) + 0.5 * len(one)) for one in pair)
    expected = float(stats.entropy(p, q) + stats.entropy(q, p))
    assert divergence.psi(*pair) == pytest.approx(expected, rel=1e-9, abs=1e-9)


@given(pairs())
def test_js_is_scipys_distance_with_base_two(pair: Pair) -> None:
    expected = float(np.nan_to_num(distance.jensenshannon(*shares(pair), base=2)))
    # scipy takes the root of a sum that rounds to 1e-17 where the histograms are equal
    assert divergence.js(*pair) ** 2 == pytest.approx(expected**2, rel=1e-9, abs=1e-9)
    if expected > 1e-6:
        assert divergence.js(*pair) == pytest.approx(expected, rel=1e-9, abs=1e-9)


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")  # scipy's own, in the p-value
@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")
@pytest.mark.filterwarnings("ignore:divide by zero encountered:RuntimeWarning")
@settings(max_examples=60)
@given(pairs(most=300))
def test_ks_is_scipys_distance_of_the_binned_samples(pair: Pair) -> None:
    samples = [np.repeat(np.arange(len(one)), one) for one in pair]
    expected = stats.ks_2samp(*samples, method="asymp").statistic
    assert divergence.ks(*pair) == pytest.approx(expected, rel=1e-9, abs=1e-9)


@given(st.floats(0, 40), st.integers(1, 10**7), st.integers(1, 10**7))
@example(1.0, 1000, 1000)
@example(0.9999999999, 2, 2)
def test_the_p_value_of_ks_is_kolmogorovs_law(z: float, n: int, m: int) -> None:
    expected = float(stats.kstwobign.sf(z))
    assert divergence.kolmogorov_upper(z) == pytest.approx(expected, rel=1e-9, abs=1e-12)
    distance_of_z = min(1.0, z / math.sqrt(n * m / (n + m)))
    expected = float(stats.kstwobign.sf(distance_of_z * math.sqrt(n * m / (n + m))))
    assert divergence.ks_p_value(distance_of_z, n, m) == pytest.approx(expected, rel=1e-9, abs=1e-12)


@given(pairs())
def test_chi_square_is_scipys_test_of_homogeneity(pair: Pair) -> None:
    filled = np.array([column for column in zip(*pair, strict=True) if sum(column)]).T
    statistic, degrees = chi2_two_samples(*pair)
    if filled.shape[1] < 2:
        assert (statistic, degrees) == (0.0, 0)
        return
    expected = stats.chi2_contingency(filled, correction=False)
    assert statistic == pytest.approx(expected.statistic, rel=1e-9, abs=1e-9)
    assert degrees == expected.dof
    assert chi2_upper(statistic, degrees) == pytest.approx(expected.pvalue, rel=1e-9, abs=1e-12)


@given(pairs())
def test_joining_bins_keeps_the_sums_and_never_shows_more(pair: Pair) -> None:
    for join in (divergence.join_neighbours, divergence.join_rare):
        joined = join(*pair)
        assert [sum(one) for one in joined] == [sum(one) for one in pair]
        assert divergence.psi_plain(*joined) <= divergence.psi_plain(*pair) + 1e-9
        assert divergence.js(*joined) <= divergence.js(*pair) + 1e-9


def test_nothing_counted_is_no_distance() -> None:
    for one, other in (([], []), ([0, 0], [1, 2]), ([1, 2], [0, 0])):
        assert divergence.psi_plain(one, other) == divergence.js(one, other) == divergence.ks(one, other) == 0.0
    assert divergence.ks_p_value(0.5, 0, 10) == 1.0
