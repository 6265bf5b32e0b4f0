"""Metrics, budgets and their intervals."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewright.compiler import metrics
from edgewright.compiler.faults import MetricError
from edgewright.compiler.metrics import BUILT_IN, Budget, compare, parse_budget

SCORES = st.integers(0, 2**32 - 1).map(lambda seed: np.random.default_rng(seed).normal(size=(40, 3)))


@pytest.mark.parametrize(
    ("text", "metric", "expected"),
    [
        ("1%", "top1", Budget(0.01, "points")),
        ("0.01", "top1", Budget(0.01, "points")),
        (".5 %", "auc", Budget(0.005, "points")),
        ("2%", "mse", Budget(0.02, "relative")),
        ("0.5dB", "snr", Budget(0.5, "dB")),
        ("0%", "top1", Budget(0.0, "points")),
        (None, "top1", Budget(0.01, "points")),
        (None, "snr", Budget(0.5, "dB")),
        (None, "distortion", Budget(0.05, "relative")),
    ],
)
def test_budget_is_read_in_the_metric_s_unit(text: str | None, metric: str, expected: Budget) -> None:
    assert parse_budget(text, BUILT_IN[metric]) == expected


@pytest.mark.parametrize(
    ("text", "metric"), [("1dB", "top1"), ("1%", "snr"), ("-1%", "top1"), ("x", "top1"), ("1", "top1"), ("nan%", "mse")]
)
def test_budget_of_another_unit_is_refused(text: str, metric: str) -> None:
    with pytest.raises(MetricError, match="--max-drop"):
        parse_budget(text, BUILT_IN[metric])


@given(SCORES, st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_a_model_loses_nothing_against_itself(scores: np.ndarray, seed: int) -> None:
    y = np.random.default_rng(seed).integers(0, 3, len(scores))
    for name, labels in (("top1", y), ("mse", scores + 1), ("agreement", None), ("distortion", None)):
        found = compare(BUILT_IN[name], scores, scores, labels)
        assert found.drop.value == 0
        assert found.drop.low <= 0 <= found.drop.high
        assert found.snr_db == metrics.MAX_SNR_DB
        assert found.argmax_agreement == 1


@given(st.integers(0, 60), st.integers(0, 60), st.integers(0, 200))
def test_mcnemar_interval_holds_its_value_and_is_antisymmetric(lost: int, gained: int, same: int) -> None:
    count = lost + gained + same
    if count == 0:
        return
    forth, back = metrics.mcnemar(lost, gained, count), metrics.mcnemar(gained, lost, count)
    assert -1 <= forth.low <= forth.value <= forth.high <= 1
    assert math.isclose(forth.low, -back.high, abs_tol=1e-12)


@given(st.integers(1, 500), st.data())
def test_wilson_interval_lies_between_zero_and_one(count: int, data: st.DataObject) -> None:
    successes = data.draw(st.integers(0, count))
    found = metrics.wilson(successes, count)
    assert 0 <= found.low <= found.value <= found.high <= 1


def test_mcnemar_covers_a_known_drop() -> None:
    random = np.random.default_rng(3)
    inside = 0
    for _ in range(400):
        before, after = random.random(300) < 0.9, random.random(300) < 0.86
        lost, gained = int((before & ~after).sum()), int((after & ~before).sum())
        found = metrics.mcnemar(lost, gained, 300)
        inside += found.low <= 0.04 <= found.high
    assert inside / 400 >= 0.93


@given(st.integers(0, 2**32 - 1), st.booleans())
@settings(max_examples=40, deadline=None)
def test_auc_is_the_share_of_ordered_pairs(seed: int, ties: bool) -> None:
    random = np.random.default_rng(seed)
    labels = np.array([0, 1, *random.integers(0, 2, 28)])
    values = random.integers(0, 5, 30).astype(float) if ties else random.normal(size=30)
    pairs = [(p > n) + 0.5 * (p == n) for p in values[labels == 1] for n in values[labels == 0]]
    assert math.isclose(metrics.area_under_curve(values, labels), float(np.mean(pairs)))


def test_drop_has_the_sign_of_worse() -> None:
    assert metrics.drop(BUILT_IN["top1"], 0.8, 0.9) == pytest.approx(0.1)
    assert metrics.drop(BUILT_IN["mse"], 1.1, 1.0) == pytest.approx(0.1)
    assert metrics.drop(BUILT_IN["snr"], 30.0, 32.0) == pytest.approx(2.0)


def test_one_percent_of_distortion_is_forty_db() -> None:
    truth = np.ones((10, 4))
    found = compare(BUILT_IN["distortion"], truth * 1.01, truth, None)
    assert found.drop.value == pytest.approx(0.01)
    assert found.snr_db == pytest.approx(40)


@given(SCORES, st.floats(0.01, 0.3))
@settings(max_examples=10, deadline=None)
def test_values_and_intervals_of_power_metrics_agree(scores: np.ndarray, amount: float) -> None:
    # Noise of a seed that scores never have: noise that is the scores again gives an interval without width.
    found = scores + np.random.default_rng(2**40).normal(size=scores.shape) * amount
    ratio = np.linalg.norm(found - scores) / np.linalg.norm(scores)
    distortion = compare(BUILT_IN["distortion"], found, scores, None)
    snr = compare(BUILT_IN["snr"], found, scores, scores)
    assert distortion.drop.value == pytest.approx(ratio)
    assert distortion.snr_db == snr.candidate.value == pytest.approx(-20 * math.log10(ratio))
    assert distortion.drop.low < ratio < distortion.drop.high
    assert snr.candidate.low == pytest.approx(-20 * math.log10(distortion.drop.high))


def test_intervals_are_the_same_every_time() -> None:
    random = np.random.default_rng(5)
    a, b, y = random.normal(size=(50, 2)), random.normal(size=(50, 2)), random.integers(0, 2, 50)
    assert compare(BUILT_IN["auc"], a, b, y) == compare(BUILT_IN["auc"], a, b, y)


@pytest.mark.parametrize(
    ("name", "shape", "labels"),
    [
        ("top1", (5, 3), None),
        ("top1", (5, 1), np.zeros(5, dtype=int)),
        ("top1", (5, 3), np.zeros(5)),
        ("auc", (5, 2), np.zeros(5, dtype=int)),
        ("auc", (5, 3), np.array([0, 1, 0, 1, 0])),
        ("mse", (5, 3), np.zeros(5)),
        ("nonsense", (5, 3), np.zeros(5, dtype=int)),
    ],
)
def test_metric_that_the_data_cannot_feed_is_refused(
    name: str, shape: tuple[int, int], labels: np.ndarray | None
) -> None:
    with pytest.raises(MetricError, match="--metric"):
        metrics.resolve_metric(name, np.zeros(shape), labels)


@pytest.mark.parametrize(
    ("shape", "labels", "expected"),
    [
        ((5, 3), np.zeros(5, dtype=int), "top1"),
        ((5, 3), None, "agreement"),
        ((5, 8, 8), None, "distortion"),
        ((5, 3), np.zeros((5, 3)), "mse"),
        ((5, 1), np.array([0, 1, 0, 1, 0]), "auc"),
    ],
)
def test_default_metric_fits_the_data(shape: tuple[int, ...], labels: np.ndarray | None, expected: str) -> None:
    assert metrics.resolve_metric(None, np.zeros(shape), labels).name == expected


def test_an_autoencoder_is_not_taken_for_a_classifier() -> None:
    outputs = np.zeros((5, 8))
    assert metrics.resolve_metric(None, outputs, None, [(5, 8)]).name == "distortion"
    assert metrics.resolve_metric(None, outputs, None, [(5, 9)]).name == "agreement"


def test_a_user_s_function_may_score_each_sample_or_all() -> None:
    outputs, y = np.array([[0.0, 1.0], [1.0, 0.0]]), np.array([1, 1])
    each = metrics.metric_from_function("m:f", lambda out, y: out.argmax(1) == y)
    whole = metrics.metric_from_function("m:f", lambda out, y: float((out.argmax(1) == y).mean()))
    assert each.value(outputs, y) == whole.value(outputs, y) == 0.5
    for bad in (lambda *_: float("nan"), lambda *_: [1.0, 2.0, 3.0], lambda *_: 1 / 0):
        with pytest.raises(MetricError, match="m:f"):
            metrics.metric_from_function("m:f", bad).value(outputs, y)
