"""Prediction-powered accuracy against `ppi_py` 0.2.3 (its samples are these counts, one by one)."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewright.bundle.reference import Histogram, Reference, Source
from edgewright.fleet.core.gates.prediction_powered import powered_accuracy, powered_mean
from edgewright.fleet.core.sums.windows import Totals

PROMISED = (0.3, 0.5, 0.7, 0.9, 0.97)
PPI_PY = [
    ((200, 300, 500, 900, 2100), (6, 8, 14, 25, 47), (2, 5, 9, 24, 46), 0.87485, (0.8264257492082, 0.9232742507918)),
    ((10, 10, 10, 10, 10), (20, 20, 20, 20, 20), (5, 11, 13, 18, 20), 0.67, (0.5967983232284, 0.7432016767716)),
    ((4000, 10, 10, 10, 5000), (3, 1, 2, 5, 9), (3, 0, 2, 3, 4), 0.6, (0.4198153129449, 0.7801846870551)),
]
"""ppi_mean_pointestimate and ppi_mean_ci at alpha .1, with the weight of least variance cut to [0, 1]."""

bins = st.lists(st.integers(0, 50), min_size=5, max_size=5)


@pytest.mark.parametrize(("unlabelled", "labelled", "correct", "value", "ends"), PPI_PY)
def test_it_is_ppi_pys(
    unlabelled: tuple[int, ...],
    labelled: tuple[int, ...],
    correct: tuple[int, ...],
    value: float,
    ends: tuple[float, float],
) -> None:
    found = powered_mean(PROMISED, unlabelled, labelled, correct)
    assert found is not None
    assert found.value == pytest.approx(value, rel=1e-9)
    assert found.interval(0.1) == pytest.approx(ends, rel=1e-9)


@given(unlabelled=bins, other=bins, labelled=bins, data=st.data())
def test_counts_may_be_added_up_in_any_order(
    unlabelled: list[int], other: list[int], labelled: list[int], data: st.DataObject
) -> None:
    correct = [data.draw(st.integers(0, told)) for told in labelled]
    one = powered_mean(PROMISED, [a + b for a, b in zip(unlabelled, other, strict=True)], labelled, correct)
    two = powered_mean(PROMISED, [b + a for a, b in zip(unlabelled, other, strict=True)], labelled, correct)
    assert one == two
    if one is not None:
        assert 0 <= one.weight <= 1


def test_badly_calibrated_confidences_do_not_bend_it_and_good_ones_sharpen_it() -> None:
    real = (0.1, 0.4, 0.5, 0.8, 0.9)
    shares = (0.1, 0.1, 0.2, 0.2, 0.4)
    truth = sum(rate * share for rate, share in zip(real, shares, strict=True))
    values, covered, sharper = [], 0, 0
    for seed in range(300):
        chosen = random.Random(seed)
        labelled, correct, unlabelled = [0] * 5, [0] * 5, [0] * 5
        for place in chosen.choices(range(5), shares, k=120):
            labelled[place] += 1
            correct[place] += chosen.random() < real[place]
        for place in chosen.choices(range(5), shares, k=3000):
            unlabelled[place] += 1
        found = powered_mean(PROMISED, unlabelled, labelled, correct)
        alone = powered_mean(PROMISED, [0] * 5, labelled, correct)
        assert found is not None
        assert alone is not None
        values.append(found.value)
        low, high = found.interval(0.1)
        covered += low <= truth <= high
        sharper += found.standard_error < alone.standard_error
    assert sum(values) / len(values) == pytest.approx(truth, abs=0.007)
    assert covered >= 255
    assert sharper >= 285


def test_confidences_that_say_nothing_cost_nothing() -> None:
    found = powered_mean((0.5,) * 3, (100, 100, 100), (5, 5, 5), (3, 3, 3))
    assert found is not None
    assert (found.value, found.weight) == (0.6, 0)


def test_without_labels_there_is_no_accuracy_and_impossible_counts_are_refused() -> None:
    assert powered_mean(PROMISED, (5,) * 5, (0,) * 5, (0,) * 5) is None
    with pytest.raises(ValueError, match="same number of bins"):
        powered_mean(PROMISED, (5,) * 4, (0,) * 5, (0,) * 5)
    with pytest.raises(ValueError, match="more right answers"):
        powered_mean(PROMISED, (5,) * 5, (1,) * 5, (2,) * 5)


def test_the_sums_of_a_bundle_give_the_same_as_their_bins() -> None:
    confidence = Histogram(
        name="confidence",
        role="output",
        kind="numeric",
        edges=(0.4, 0.6, 0.8, 0.95),
        counts=(1, 1, 1, 1, 1),
        source=Source(tensor="scores", statistic="confidence"),
    )
    reference = Reference(histograms=(confidence,), confidence_table=PROMISED)
    for unlabelled, labelled, correct, value, _ in PPI_PY:
        counts = tuple(a + b for a, b in zip(unlabelled, labelled, strict=True))
        totals = Totals(histograms=(counts,), labelled=labelled, labelled_correct=correct)
        found = powered_accuracy(reference, totals)
        assert found is not None
        assert found.value == pytest.approx(value, rel=1e-9)
    assert powered_accuracy(reference, Totals(histograms=((1,) * 5,))) is None
    lying = Totals(histograms=((1,) * 5,), labelled=(1,) * 5, labelled_correct=(2,) * 5)
    assert powered_accuracy(reference, lying) is None
    plain = Reference(histograms=(confidence,), confidence_table=None)
    assert powered_accuracy(plain, Totals(histograms=((1,) * 5,), labelled=(1,) * 5, labelled_correct=(1,) * 5)) is None
