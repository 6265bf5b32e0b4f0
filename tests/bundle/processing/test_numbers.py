"""Cast, normalise, dequantize, and the steps that only move numbers."""

from __future__ import annotations

import numpy as np
import pytest

from edgewright.bundle.steps import Cast, Dequantize, Normalise, Reshape, Transpose
from tests.bundle.processing.some_steps import run


@pytest.mark.parametrize(
    ("datatype", "expected"),
    [
        ("INT8", [-128, 127, 0, 2, -2, 127]),
        ("UINT8", [0, 255, 0, 2, 0, 255]),
        ("INT64", [-(2**63), 2**63 - 1, 0, 2, -2, 300]),
        ("UINT64", [0, 2**64 - 1, 0, 2, 0, 300]),
    ],
)
def test_cast_rounds_and_saturates(datatype: str, expected: list[int]) -> None:
    numbers = np.array([[-np.inf, np.inf, np.nan, 2.5, -1.5, 300]])
    assert run(Cast(tensor="x", datatype=datatype), numbers)[0].tolist() == [expected]  # type: ignore[arg-type]


def test_cast_between_integers_saturates() -> None:
    (found,) = run(Cast(tensor="x", datatype="INT8"), np.array([[0, 127, 128, 2**64 - 1]], np.uint64))
    assert found.tolist() == [[0, 127, 127, 127]]
    (found,) = run(Cast(tensor="x", datatype="UINT16"), np.array([[-1, 5]], np.int32))
    assert found.tolist() == [[0, 5]]


def test_normalise_is_the_training_formula() -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (2, 4, 5, 3), np.uint8)
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    expected = (pictures.astype(np.float32) * np.float32(1 / 255) - np.array(mean, np.float32)) / np.array(
        std, np.float32
    )
    (last,) = run(Normalise(tensor="x", mean=mean, std=std, scale=1 / 255), pictures)
    assert np.array_equal(last, expected)
    (first,) = run(Normalise(tensor="x", mean=mean, std=std, scale=1 / 255, axis=1), pictures.transpose(0, 3, 1, 2))
    assert np.array_equal(first, expected.transpose(0, 3, 1, 2))


def test_dequantize() -> None:
    (found,) = run(Dequantize(tensor="x", scale=0.5, zero_point=-128), np.array([[-128, 127]], np.int8))
    assert found.tolist() == [[0.0, 127.5]]
    assert found.dtype == np.float32


def test_moved_numbers() -> None:
    pictures = np.arange(24).reshape(1, 2, 3, 4)
    assert np.array_equal(run(Transpose(tensor="x", axes=(0, 3, 1, 2)), pictures)[0], pictures.transpose(0, 3, 1, 2))
    assert run(Reshape(tensor="x", shape=(24,)), pictures)[0].tolist() == [list(range(24))]
