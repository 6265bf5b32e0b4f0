"""Activation functions and clamps, float and in integers, in LiteRT beside ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewright.compiler.tflite.file.model import Array
from edgewright.compiler.tflite.file.schema import ACTIVATIONS
from tests.compiler.tflite.single_operator import (
    CHECKED,
    SEEDS,
    Case,
    Fixed,
    Given,
    Stored,
    Weight,
    check_float,
    check_integers,
    grid_of,
    kinds,
    normal,
    quantized,
    shapes,
    single,
)

EIGHT = ("int8", "uint8")
ALL = (*EIGHT, "int16")
FLOAT: list[tuple[str, dict[str, Any]]] = [
    ("Relu", {}),
    ("Sigmoid", {}),
    ("Tanh", {}),
    ("HardSigmoid", {}),
    ("HardSigmoid", {"alpha": 1 / 6, "beta": 0.5}),
    ("HardSigmoid", {"alpha": 0.4, "beta": 0.1}),
    ("HardSigmoid", {"alpha": -0.4, "beta": 0.6}),
    ("HardSwish", {}),
    ("LeakyRelu", {}),
    ("LeakyRelu", {"alpha": 1.7}),
    ("LeakyRelu", {"alpha": -0.5}),
    ("Elu", {}),
    ("Elu", {"alpha": 1.7}),
    ("Celu", {}),
    ("Celu", {"alpha": 0.6}),
    ("Selu", {}),
    ("Selu", {"alpha": 1.2, "gamma": 0.8}),
    ("ThresholdedRelu", {"alpha": 0.3}),
    ("Gelu", {}),
    ("Gelu", {"approximate": "tanh"}),
    ("Softplus", {}),
    ("Softsign", {}),
    ("Mish", {}),
    ("Erf", {}),
]
NOT_REFERENCE = frozenset({"Elu", "Celu", "Selu"})
"""LiteRT's reference resolver lacks ELU."""
BOUNDS = [(0, 6), (-1, 1), (-0.3, 0.7), (0, None), (None, 0.5), (0.2, 0.9)]


def bound(number: float | None, kind: type = np.float32) -> Given:
    return None if number is None else Fixed(np.array(number, kind))


@pytest.mark.parametrize(("op_type", "attributes"), FLOAT)
@CHECKED
@given(shape=shapes(0, 6), seed=SEEDS, turned=st.booleans())
def test_floats(op_type: str, attributes: dict[str, Any], shape: tuple[int, ...], seed: int, turned: bool) -> None:
    array = normal(seed, *shape, scale=3)
    array.flat[0] = 1  # what is near zero throughout is a difference of larger numbers
    case = single(op_type, array, turned=turned, **attributes)
    check_float(case, reference=op_type not in NOT_REFERENCE)


def test_softplus_of_large_numbers_stays_finite() -> None:
    large = np.array([-200, -30, 0, 30, 200], np.float32)
    check_float(single("Softplus", large))
    check_float(single("Mish", large))


@pytest.mark.parametrize("bounds", BOUNDS)
@CHECKED
@given(shape=shapes(0, 5), seed=SEEDS, turned=st.booleans())
def test_clips(bounds: tuple[float | None, float | None], shape: tuple[int, ...], seed: int, turned: bool) -> None:
    check_float(single("Clip", normal(seed, *shape, scale=3), *map(bound, bounds), turned=turned))


@pytest.mark.parametrize("kind", [np.int32, np.int64])
def test_clips_of_integers(kind: type) -> None:
    array: Array = np.arange(-5, 9).astype(kind)
    check_float(single("Clip", array, bound(-2, kind), bound(6, kind)))
    check_float(single("Clip", array, bound(0, kind), bound(6, kind)))
    if kind is np.int32:  # ONNX Runtime has none for int64
        check_float(single("Relu", array))


def test_bounds_that_are_computed() -> None:
    low, high = np.array(-0.5, np.float32), np.array(0.4, np.float32)
    check_float(single("Clip", normal(1, 3, 4), low, high))
    check_float(single("Clip", normal(1, 3, 4), None, high))


@CHECKED
@given(shape=shapes(1, 4), seed=SEEDS, turned=st.booleans())
def test_prelu(shape: tuple[int, ...], seed: int, turned: bool) -> None:
    slope = normal(seed + 1, *(shape[1:2] or (1,)), *[1] * (len(shape) - 2))
    check_float(single("PRelu", normal(seed, *shape), Fixed(slope), turned=turned))
    check_float(single("PRelu", normal(seed, *shape), slope, turned=turned))


# -- integers


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize(
    ("op_type", "attributes"),
    [
        ("Relu", {}),
        ("Sigmoid", {}),
        ("Tanh", {}),
        ("LeakyRelu", {"alpha": 0.2}),
        ("LeakyRelu", {"alpha": -0.5}),
        ("HardSigmoid", {}),
        ("HardSigmoid", {"alpha": 1 / 6}),
        ("HardSigmoid", {"alpha": 0.3, "beta": 0.0}),
        ("HardSigmoid", {"alpha": 0.3, "beta": -0.2}),
    ],
)
@CHECKED
@given(shape=shapes(1, 5), seed=SEEDS, turned=st.booleans(), scale=st.sampled_from([0.5, 3.0]))
def test_quantized(
    op_type: str, attributes: dict[str, Any], kind: str, shape: tuple[int, ...], seed: int, turned: bool, scale: float
) -> None:
    case = quantized(op_type, kind, normal(seed, *shape, scale=scale), turned=turned, **attributes)
    steps = {("Tanh", "int16"): 4, ("Sigmoid", "int16"): 2}.get((op_type, kind), 1)  # their tables are interpolated
    check_integers(case, steps=rescaled(case, steps))


def rescaled(case: Case, steps: int) -> int:
    """Fixed encodings are up to 1 from zero; where the graph's is finer, their steps are several of its own."""
    grid = case.grids["y0"]
    coarse = {"int16": 1 / 32768}.get(grid.kind, 1 / 128)
    return max(1, round(steps * coarse / grid.scale)) + (coarse > grid.scale)


@pytest.mark.parametrize("kind", EIGHT)
@pytest.mark.parametrize("op_type", ["HardSwish", "Elu", "Celu", "Gelu"])
@CHECKED
@given(shape=shapes(1, 5), seed=SEEDS, turned=st.booleans())
def test_quantized_in_eight_bits(op_type: str, kind: str, shape: tuple[int, ...], seed: int, turned: bool) -> None:
    case = quantized(op_type, kind, normal(seed, *shape, scale=3), turned=turned)
    check_integers(case, reference=op_type not in NOT_REFERENCE)


@pytest.mark.parametrize("kind", EIGHT)
@CHECKED
@given(shape=shapes(2, 4), seed=SEEDS, turned=st.booleans())
def test_quantized_prelu(kind: str, shape: tuple[int, ...], seed: int, turned: bool) -> None:
    slope = normal(seed + 1, shape[1], *[1] * (len(shape) - 2), scale=0.3)
    check_integers(quantized("PRelu", kind, normal(seed, *shape), Stored(slope), turned=turned))
    check_integers(quantized("PRelu", kind, normal(seed, *shape), Fixed(np.array(0.25, np.float32)), turned=turned))


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("bounds", BOUNDS)
@CHECKED
@given(shape=shapes(1, 4), seed=SEEDS)
def test_quantized_clips(
    bounds: tuple[float | None, float | None], kind: str, shape: tuple[int, ...], seed: int
) -> None:
    check_integers(quantized("Clip", kind, normal(seed, *shape, scale=3), *map(bound, bounds)))


@pytest.mark.parametrize("kind", ALL)
def test_clips_that_the_encoding_does_not_do(kind: str) -> None:
    wide = grid_of(np.array([-4, 4], np.float32), kind)
    case = quantized("Clip", kind, normal(1, 40, scale=2), bound(-0.5), bound(1.5), grid=lambda _: wide)
    assert kinds(check_integers(case)) == ["QUANTIZE", "MAXIMUM", "MINIMUM"]


def test_a_hard_sigmoid_of_a_wider_encoding_is_rounded_on() -> None:
    wide = grid_of(np.array([-1, 2], np.float32), "int8")
    case = quantized("HardSigmoid", "int8", normal(1, 40, scale=4), grid=lambda _: wide)
    assert kinds(check_integers(case)) == ["MUL", "ADD", "QUANTIZE"]


# -- clamps behind operators


@pytest.mark.parametrize("op_type", ["Add", "Sub", "Mul", "Div"])
@pytest.mark.parametrize(("bounds", "name"), [((0, None), "RELU"), ((0, 6), "RELU6"), ((-1, 1), "RELU_N1_TO_1")])
def test_floats_take_clamps_along(op_type: str, bounds: tuple[float | None, ...], name: str) -> None:
    right = np.asarray(np.abs(normal(2, 4)) + np.float32(0.2))
    model = check_float(single(op_type, normal(1, 3, 4, scale=4), right, clamp=bounds))
    assert [(each.type, each.options["fusedActivationFunction"]) for each in model.operators] == [
        (op_type.upper(), ACTIVATIONS[name])
    ]


@pytest.mark.parametrize("op_type", ["Add", "Sub", "Mul"])
def test_integers_that_are_no_quantized_numbers_take_clamps_along(op_type: str) -> None:
    left, right = np.arange(-6, 6).astype(np.int32), np.arange(12).astype(np.int32)
    model = check_float(single(op_type, left, right, clamp="Relu"))
    assert kinds(model) == [op_type.upper()]


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("op_type", ["Add", "Sub", "Mul"])
@pytest.mark.parametrize("bounds", [(0, None), (0, 6), (-1, 1)])
def test_integers_take_clamps_along(op_type: str, kind: str, bounds: tuple[float | None, ...]) -> None:
    wide = grid_of(np.array([-8, 8], np.float32), kind)
    case = quantized(op_type, kind, normal(1, 3, 8, scale=3), normal(2, 8), clamp=bounds, grid=lambda _: wide)
    assert kinds(check_integers(case)) == [op_type.upper()]


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("op_type", ["Add", "Mul", "Max"])
@pytest.mark.parametrize("bounds", [(-0.5, 1.5), (None, 1)])
def test_integers_stay_integers_before_other_clamps(op_type: str, kind: str, bounds: tuple[float | None, ...]) -> None:
    wide = grid_of(np.array([-4, 4], np.float32), kind)
    case = quantized(op_type, kind, normal(1, 3, 8, scale=2), normal(2, 8), clamp=bounds, grid=lambda _: wide)
    written = kinds(check_integers(case))
    assert op_type.upper() in written or "MAXIMUM" in written
    assert "MINIMUM" in written


@pytest.mark.parametrize("kind", EIGHT)
def test_a_rounding_that_ends_where_the_clamp_does_is_enough(kind: str) -> None:
    narrow = grid_of(np.array([0, 0.75], np.float32), kind)
    case = quantized("Sigmoid", kind, normal(1, 30, scale=3), clamp=(0, 0.75), grid=lambda _: narrow)
    assert kinds(check_integers(case, steps=2)) == ["LOGISTIC", "QUANTIZE"]


def test_a_convolution_before_another_clamp_stays_in_integers() -> None:
    wide = grid_of(np.array([-4, 4], np.float32), "int8")
    filters = Weight(normal(2, 3, 4, 1, 1), axis=0)
    case = quantized(
        "Conv", "int8", normal(1, 1, 4, 5, 5), filters, clamp=(-0.5, 1.5), grid=lambda _: wide, turned=True
    )
    assert kinds(check_integers(case))[:3] == ["CONV_2D", "MAXIMUM", "MINIMUM"]
