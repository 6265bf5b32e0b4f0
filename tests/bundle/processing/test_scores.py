"""Softmax, sigmoid, argmax, top-k: against scipy, and at the edges."""

from __future__ import annotations

import numpy as np
import scipy.special

from edgewright.bundle.steps import Argmax, Sigmoid, Softmax, TopK
from tests.bundle.processing.some_steps import run

SCORES = np.random.default_rng(0).normal(0, 30, (5, 3, 10)).astype(np.float32)


def test_softmax() -> None:
    np.testing.assert_allclose(run(Softmax(tensor="x"), SCORES)[0], scipy.special.softmax(SCORES, axis=-1), atol=1e-7)
    huge = np.array([[1e38, -1e38, 1e38]], np.float32)
    np.testing.assert_array_equal(run(Softmax(tensor="x"), huge)[0], [[0.5, 0.0, 0.5]])


def test_sigmoid() -> None:
    np.testing.assert_allclose(run(Sigmoid(tensor="x"), SCORES)[0], scipy.special.expit(SCORES), atol=1e-7)
    ends = np.array([[-np.inf, np.inf, np.nan]], np.float32)
    np.testing.assert_array_equal(run(Sigmoid(tensor="x"), ends)[0], [[0.0, 1.0, np.nan]])


def test_argmax_takes_the_first_of_equals_and_no_nan() -> None:
    scores = np.array([[1, 5, 5], [np.nan, -3, -2], [np.nan, np.nan, np.nan]], np.float32)
    assert run(Argmax(tensor="x"), scores)[0].tolist() == [1, 2, 0]


def test_top_k_is_a_stable_sort() -> None:
    scores = np.array([[2, 7, 7, np.nan, 1]], np.float32)
    values, indices, labels = run(TopK(tensor="x", k=4, labels=("a", "b", "c", "d", "ü")), scores)
    assert values.tolist() == [[7, 7, 2, 1]]
    assert indices.tolist() == [[1, 2, 0, 4]]
    assert labels.tolist() == [["b", "c", "a", "ü"]]


def test_of_many_equals_the_first_come_first() -> None:
    scores = np.tile(np.array([1, 0], np.float32), 200)[None]
    assert run(TopK(tensor="x", k=5), scores)[1].tolist() == [[0, 2, 4, 6, 8]]


def test_top_k_of_unsigned_numbers() -> None:
    values, indices = run(TopK(tensor="x", k=2), np.array([[0, 255, 3]], np.uint8))
    assert (values.tolist(), indices.tolist()) == ([[255, 3]], [[1, 2]])
