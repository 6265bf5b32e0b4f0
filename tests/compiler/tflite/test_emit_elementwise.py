"""Arithmetic, comparisons, logic, choice and functions of one number, in LiteRT beside ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto

from edgewright.compiler.faults import UnsupportedModel
from edgewright.compiler.tflite.emitter.emit import emit
from edgewright.compiler.tflite.emitter.ports import Ports
from edgewright.compiler.tflite.file.model import Array
from tests.compiler.tflite.runs import run_litert, run_onnx
from tests.compiler.tflite.single_operator import (
    CHECKED,
    SEEDS,
    Fixed,
    Given,
    Grid,
    Stored,
    broadcast,
    check_float,
    check_integers,
    check_no_float,
    kinds,
    normal,
    quantized,
    shapes,
    single,
    uniform,
)

EIGHT = ("int8", "uint8")
ALL = (*EIGHT, "int16")
ARITHMETIC = ("Add", "Sub", "Mul", "Max", "Min")
COMPARISONS = ("Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual")
TIE = 1 / 64
"""Of a step: LiteRT brings integers of two encodings to one with 8 more bits before it compares them."""
NOT_REFERENCE = frozenset({"Ceil", "Round"})
"""LiteRT's reference resolver lacks them."""


def integers(seed: int, *shape: int, kind: type = np.int32, low: int = -9, high: int = 9) -> Array:
    return np.asarray(np.random.default_rng(seed).integers(low, high, shape), kind)


def truths(seed: int, *shape: int) -> Array:
    return np.asarray(np.random.default_rng(seed).random(shape) < 0.5)


def away_from_zero(array: Array) -> Array:
    return np.asarray(np.where(np.abs(array) < 0.1, 1, array), array.dtype)


def some_fixed(seed: int, arrays: list[Array]) -> list[Given]:
    """One of them may be a constant."""
    constant = seed % (2 * len(arrays))
    return [Fixed(each) if index == constant else each for index, each in enumerate(arrays)]


@pytest.mark.parametrize("op_type", [*ARITHMETIC, "Div", "Pow", *COMPARISONS])
@CHECKED
@given(shapes=broadcast(most=6), seed=SEEDS, turned=st.booleans())
def test_floats_of_any_two_shapes(op_type: str, shapes: tuple[tuple[int, ...], ...], seed: int, turned: bool) -> None:
    left, right = normal(seed, *shapes[0]), away_from_zero(normal(seed + 1, *shapes[1]))
    if op_type == "Pow":
        left = np.asarray(np.abs(left) + np.float32(0.1))
    check_float(single(op_type, *some_fixed(seed, [left, right]), turned=turned))


@pytest.mark.parametrize("op_type", [*ARITHMETIC, *COMPARISONS, "Mod", "Div", "Pow"])
@pytest.mark.parametrize("kind", [np.int32, np.int64])
@CHECKED
@given(shapes=broadcast(), seed=SEEDS)
def test_integers_of_any_two_shapes(op_type: str, kind: type, shapes: tuple[tuple[int, ...], ...], seed: int) -> None:
    arrays = [integers(seed, *shapes[0], kind=kind), integers(seed + 1, *shapes[1], kind=kind)]
    if op_type in {"Mod", "Div"}:
        arrays[1] = away_from_zero(arrays[1])
    if op_type == "Pow":
        arrays[1] = np.asarray(np.abs(arrays[1]) % 4)
    case = single(op_type, *arrays)
    if op_type in {"Div", "Pow"} and kind is np.int64:
        with pytest.raises(UnsupportedModel, match=f"{op_type} at .*computes int64, and TFLite's .* does not; cast to"):
            emit(case.graph)
    else:
        check_float(case)


@pytest.mark.parametrize("op_type", ["Sum", "Mean", "Max", "Min"])
@CHECKED
@given(shapes=st.integers(1, 4).flatmap(broadcast), seed=SEEDS)
def test_floats_of_any_number_of_shapes(op_type: str, shapes: tuple[tuple[int, ...], ...], seed: int) -> None:
    arrays = [normal(seed + index, *shape) for index, shape in enumerate(shapes)]
    check_float(single(op_type, *arrays))


@pytest.mark.parametrize("kind", [np.float32, np.int32])
@CHECKED
@given(shapes=broadcast(), seed=SEEDS)
def test_remainders_with_the_sign_of_the_dividend(kind: type, shapes: tuple[tuple[int, ...], ...], seed: int) -> None:
    left, right = (integers(seed + index, *shape, kind=kind) for index, shape in enumerate(shapes))
    reference = kind is np.float32  # the reference resolver has no ABS of integers
    check_float(single("Mod", left, away_from_zero(right), fmod=1), reference=reference)


@pytest.mark.parametrize("exponent", [2, 0.5, -0.5, -1, 3, 1.5])
@CHECKED
@given(shape=shapes(0, 5), seed=SEEDS)
def test_constant_powers(exponent: float, shape: tuple[int, ...], seed: int) -> None:
    model = check_float(single("Pow", uniform(seed, 0.5, 3, *shape), Fixed(np.array(exponent, np.float32))))
    assert kinds(model) == [{2: "MUL", 0.5: "SQRT", -0.5: "RSQRT", -1: "DIV"}.get(exponent, "POW")]


@CHECKED
@given(seed=SEEDS)
def test_a_power_whose_exponent_is_of_another_type(seed: int) -> None:
    check_float(single("Pow", normal(seed, 3, 4), Fixed(np.array([[2], [3], [1]], np.int64))))


@pytest.mark.parametrize("op_type", ["And", "Or", "Xor", "Equal"])
@CHECKED
@given(shapes=broadcast(), seed=SEEDS)
def test_truth_values(op_type: str, shapes: tuple[tuple[int, ...], ...], seed: int) -> None:
    check_float(single(op_type, truths(seed, *shapes[0]), truths(seed + 1, *shapes[1])))


@CHECKED
@given(shapes=broadcast(3), seed=SEEDS, kind=st.sampled_from([np.float32, np.int64, np.int32]))
def test_where(shapes: tuple[tuple[int, ...], ...], seed: int, kind: type) -> None:
    values: list[Array] = [integers(seed + index, *shape).astype(kind) for index, shape in enumerate(shapes[1:])]
    check_float(single("Where", truths(seed, *shapes[0]), *values))


@pytest.mark.parametrize(
    "op_type",
    [
        "Exp",
        "Abs",
        "Neg",
        "Sign",
        "Floor",
        "Ceil",
        "Round",
        "Sin",
        "Cos",
        "Reciprocal",
        "Log",
        "Sqrt",
        "IsNaN",
        "IsInf",
    ],
)
@CHECKED
@given(shape=shapes(0, 6), seed=SEEDS, turned=st.booleans())
def test_functions(op_type: str, shape: tuple[int, ...], seed: int, turned: bool) -> None:
    array = away_from_zero(normal(seed, *shape, scale=3))
    if op_type in {"Log", "Sqrt"}:
        array = np.asarray(np.abs(array))
    if op_type in {"IsNaN", "IsInf"}:
        strange = np.array([1, np.nan, np.inf, -np.inf], np.float32)
        array = np.asarray(strange[integers(seed, *shape, low=0, high=4)])
    check_float(single(op_type, array, turned=turned), reference=op_type not in NOT_REFERENCE)


@pytest.mark.parametrize("sides", [(1, 0), (0, 1), (1, 1)])
def test_infinities_by_sign(sides: tuple[int, int]) -> None:
    array = np.array([1, np.inf, -np.inf], np.float32)
    check_float(single("IsInf", array, detect_positive=sides[0], detect_negative=sides[1]))


@pytest.mark.parametrize("op_type", ["Neg", "Abs", "Sign"])
def test_functions_of_integers(op_type: str) -> None:
    check_float(single(op_type, integers(1, 3, 4)), reference=op_type != "Abs")


@pytest.mark.parametrize("source", [np.float32, np.int32, np.int64, np.bool_, np.int8, np.uint8])
@pytest.mark.parametrize("to", ["FLOAT", "INT32", "INT64", "BOOL", "FLOAT16", "INT8", "UINT8"])
def test_casts(source: type, to: str) -> None:
    array: Array = (np.abs(normal(3, 4, 5, scale=20)) * (np.arange(5) > 0)).astype(source)
    check_float(single("Cast", array, to=getattr(TensorProto, to)))


# -- integers


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("op_type", [*ARITHMETIC, "Sum"])
@CHECKED
@given(shapes=broadcast(), seed=SEEDS, turned=st.booleans())
def test_quantized_values_of_any_two_shapes(
    op_type: str, kind: str, shapes: tuple[tuple[int, ...], ...], seed: int, turned: bool
) -> None:
    arrays: list[Given] = [normal(seed + i, *shape, scale=1 + 3 * i) for i, shape in enumerate(shapes)]
    if seed % 3:
        index = seed % 2
        array = arrays[index]
        assert isinstance(array, np.ndarray)
        arrays[index] = Stored(array)
    check_integers(quantized(op_type, kind, *arrays, turned=turned))


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("op_type", [*ARITHMETIC, "Div"])
@CHECKED
@given(shape=shapes(1, 4), seed=SEEDS, number=st.sampled_from([0.7, -3.0, 1e-3, 250.0]))
def test_one_number_needs_no_scale_from_the_graph(
    op_type: str, kind: str, shape: tuple[int, ...], seed: int, number: float
) -> None:
    check_integers(quantized(op_type, kind, normal(seed, *shape), Fixed(np.array(number, np.float32))))


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("op_type", ["Max", "Min"])
@CHECKED
@given(shapes=broadcast(3), seed=SEEDS)
def test_quantized_extremes_of_three(op_type: str, kind: str, shapes: tuple[tuple[int, ...], ...], seed: int) -> None:
    check_integers(quantized(op_type, kind, *(normal(seed + i, *shape, scale=1 + i) for i, shape in enumerate(shapes))))


def test_extremes_of_one_encoding_are_one_operator() -> None:
    case = quantized("Max", "int8", normal(1, 2, 5), normal(2, 5), one_grid=True)
    assert kinds(check_integers(case, steps=0)) == ["MAXIMUM"]


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("op_type", ["Neg", "Abs"])
@CHECKED
@given(shape=shapes(1, 4), seed=SEEDS, turned=st.booleans())
def test_quantized_signs(op_type: str, kind: str, shape: tuple[int, ...], seed: int, turned: bool) -> None:
    check_integers(quantized(op_type, kind, np.asarray(normal(seed, *shape) + np.float32(0.3)), turned=turned))


@pytest.mark.parametrize("kind", EIGHT)
@pytest.mark.parametrize("op_type", ["Exp", "Log", "Sqrt"])
@CHECKED
@given(shape=shapes(1, 4), seed=SEEDS)
def test_quantized_functions(op_type: str, kind: str, shape: tuple[int, ...], seed: int) -> None:
    low = -2.0 if op_type == "Exp" else 0.2
    check_integers(quantized(op_type, kind, uniform(seed, low, 2.0, *shape)))


def test_quantized_roots_of_negative_numbers_do_not_end_the_run() -> None:
    array = np.array([-1, 0.25, 4], np.float32)
    case = quantized("Sqrt", "int8", array, grid=lambda _: Grid("int8", 1 / 100, -128))
    found = run_litert(emit(case.graph).model, {"x0": array})["y0"]
    np.testing.assert_allclose(found, [0, 0.5, 2], atol=0.03)


@pytest.mark.parametrize("where", ["grid", "one_grid"])
def test_sixteen_bits_around_another_number_than_zero_are_refused(where: str) -> None:
    """LiteRT's kernels, QUANTIZE and DEQUANTIZE among them, refuse them when the model is loaded."""
    lopsided = Grid("int16", 1e-3, 7)
    options: dict[str, Any] = {where: lopsided if where == "one_grid" else lambda _: lopsided}
    case = quantized("Add", "int16", normal(1, 9), normal(2, 9), **options)
    with pytest.raises(UnsupportedModel, match="its 16-bit integers mean 0 at 7, and TFLite's do at 0 alone; quantize"):
        emit(case.graph)


@pytest.mark.parametrize("kind", ALL)
def test_quantized_squares(kind: str) -> None:
    model = check_integers(quantized("Pow", kind, normal(1, 3, 4), Fixed(np.array(2, np.float32))))
    assert kinds(model) == ["MUL"]


@pytest.mark.parametrize("kind", EIGHT)
@pytest.mark.parametrize("op_type", COMPARISONS)
@CHECKED
@given(shapes=broadcast(), seed=SEEDS, same=st.booleans())
def test_quantized_comparisons(
    op_type: str, kind: str, shapes: tuple[tuple[int, ...], ...], seed: int, same: bool
) -> None:
    left, right = normal(seed, *shapes[0]), normal(seed + 1, *shapes[1])
    if same:
        check_integers(quantized(op_type, kind, left, right, one_grid=True))
        return
    given: Given = Fixed(np.array(0.2, np.float32)) if seed % 3 == 0 else right
    case = quantized(op_type, kind, left, given)
    x = [case.inputs.get(name, np.array(0.2, np.float32)) for name in ("x0", "x1")]
    apart = np.abs(x[0] - x[1]) > TIE * max(grid.scale for grid in case.grids.values())
    emitted = emit(case.graph, Ports(integer=True))
    check_no_float(emitted)
    inputs = {name: case.grids[name].signed(case.grids[name].integers(array)) for name, array in case.inputs.items()}
    found, expected = run_litert(emitted.model, inputs)["y0"], run_onnx(case.graph, case.inputs)["y0"]
    np.testing.assert_array_equal(found[apart], expected[apart])


@pytest.mark.parametrize("kind", ALL)
@CHECKED
@given(shapes=broadcast(3), seed=SEEDS)
def test_quantized_where(kind: str, shapes: tuple[tuple[int, ...], ...], seed: int) -> None:
    values = [normal(seed + index, *shape, scale=1 + index) for index, shape in enumerate(shapes[1:])]
    check_integers(quantized("Where", kind, truths(seed, *shapes[0]), *values))


# -- the rest


def test_seven_axes_do_not_broadcast() -> None:
    case = single("Add", np.ones((2,) * 7, np.float32), np.ones((1,) * 7, np.float32))
    with pytest.raises(UnsupportedModel, match=r"Add at .* up to 6 axes; reshape to fewer axes before it"):
        emit(case.graph)


FREE: list[tuple[str, list[Given], dict[str, Any]]] = [
    ("Add", [Fixed(normal(2, 4, 1, 1))], {}),
    ("Where", [normal(2, 3, 4, 3, 5), Fixed(normal(2, 3, 5))], {}),
    ("PRelu", [Fixed(normal(2, 4, 1, 1))], {}),
    ("ReduceMean", [Fixed(np.array([2, 3]))], {"keepdims": 0}),
    ("ReduceLogSumExp", [Fixed(np.array([2, 3]))], {"keepdims": 0}),
    ("Softmax", [], {"axis": 1}),
    ("ArgMax", [], {"axis": 1}),
    ("TopK", [Fixed(np.array([2]))], {"axis": 1, "outputs": 2}),
    ("GroupNormalization", [Fixed(normal(1, 4)), Fixed(normal(2, 4))], {"num_groups": 2}),
    ("InstanceNormalization", [Fixed(normal(1, 4)), Fixed(normal(2, 4))], {}),
]


@pytest.mark.parametrize(("op_type", "others", "attributes"), FREE)
@pytest.mark.parametrize("turned", [False, True])
def test_a_free_batch_stays_free(op_type: str, others: list[Given], attributes: dict[str, Any], turned: bool) -> None:
    first = truths(1, 3, 4, 3, 5) if op_type == "Where" else normal(1, 3, 4, 3, 5)
    case = single(op_type, first, *others, turned=turned, free_batch=True, **attributes)
    model = check_float(case, tolerance=1e-4)
    assert model.tensors[model.inputs[0].tensor].free[0] == -1


def test_nothing_is_refused() -> None:
    with pytest.raises(UnsupportedModel, match=r"input 'x0' has shape .*is empty"):
        emit(single("Abs", np.zeros((2, 0), np.float32)).graph)


def test_channels_stay_last_between_elementwise_operators() -> None:
    model = check_float(single("Add", normal(1, 2, 4, 3, 5), Fixed(normal(2, 4, 1, 1)), turned=True))
    assert kinds(model) == ["ADD", "TRANSPOSE"]
