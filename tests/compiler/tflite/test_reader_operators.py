"""Every operator that is read computes in ONNX Runtime what LiteRT computes, and is itself after emission."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from edgewright.compiler.graph import operator_counts
from edgewright.compiler.tflite.file.model import Quantization
from tests.compiler.tflite.single_operator import CHECKED, SEEDS, normal, uniform
from tests.compiler.tflite.tflite_operator import (
    SOFTMAX,
    Bias,
    Case,
    Fixed,
    Given,
    Like,
    Out,
    Stored,
    Weight,
    check_float,
    check_int8,
)

SAME, VALID = 0, 1
SIDES = st.integers(3, 9)
CHANNELS = st.integers(1, 5)
SMALL = st.integers(1, 3)
ACTIVATIONS = st.sampled_from([0, 1, 2, 3])
LIKE_INPUT = Out(like_input=True)


def ints(*numbers: int) -> Fixed:
    return Fixed(np.asarray(numbers, np.int32))


def windows(draw: st.DrawFn) -> dict[str, int]:
    strides = draw(SMALL), draw(SMALL)
    options = {"padding": draw(st.sampled_from([SAME, VALID])), "strideH": strides[0], "strideW": strides[1]}
    if strides == (1, 1):
        options |= {"dilationHFactor": draw(st.integers(1, 2)), "dilationWFactor": draw(st.integers(1, 2))}
    return options


@st.composite
def convolutions(draw: st.DrawFn) -> Case:
    seed, kernel, groups = draw(SEEDS), (draw(SMALL), draw(SMALL)), draw(st.sampled_from([1, 1, 2]))
    channels, out = draw(CHANNELS), draw(CHANNELS)
    x = normal(seed, draw(st.integers(1, 2)), draw(st.integers(6, 9)), draw(st.integers(6, 9)), channels * groups)
    filters = Weight(normal(seed + 1, out * groups, *kernel, channels), draw(st.sampled_from([0, 0, None])))
    bias = (Bias(normal(seed + 2, out * groups)),)
    options = windows(draw) | {"fusedActivationFunction": draw(ACTIVATIONS)}
    return Case("CONV_2D", (x, filters, *bias), options)


@CHECKED
@given(case=convolutions())
def test_convolutions(case: Case) -> None:
    check_float(case)
    check_int8(case)


@st.composite
def depthwise(draw: st.DrawFn) -> Case:
    seed, kernel, channels, multiplier = draw(SEEDS), (draw(SMALL), draw(SMALL)), draw(CHANNELS), draw(SMALL)
    x = normal(seed, draw(st.integers(1, 2)), draw(st.integers(6, 9)), draw(st.integers(6, 9)), channels)
    filters = Weight(normal(seed + 1, 1, *kernel, channels * multiplier), 3)
    options = windows(draw) | {
        "depthMultiplier": multiplier,
        "fusedActivationFunction": draw(ACTIVATIONS),
    }
    return Case("DEPTHWISE_CONV_2D", (x, filters, Bias(normal(seed + 2, channels * multiplier))), options)


@CHECKED
@given(case=depthwise())
def test_depthwise_convolutions(case: Case) -> None:
    check_float(case)
    check_int8(case)


@st.composite
def transposed(draw: st.DrawFn) -> Case:
    seed, kernel, strides = draw(SEEDS), (draw(SMALL), draw(SMALL)), (draw(SMALL), draw(SMALL))
    sizes, channels, out = (draw(SIDES), draw(SIDES)), draw(CHANNELS), draw(CHANNELS)
    same = draw(st.booleans())
    full = [(size - 1) * stride + each for size, stride, each in zip(sizes, strides, kernel, strict=True)]
    target = [size * stride for size, stride in zip(sizes, strides, strict=True)] if same else full
    if not same:
        target = [max(a, b) for a, b in zip(target, full, strict=True)]
    inputs: tuple[Given, ...] = (
        ints(1, *target, out),
        Weight(normal(seed, out, *kernel, channels)),
        normal(seed + 1, 1, *sizes, channels),
        Bias(normal(seed + 2, out)),
    )
    options = {"padding": SAME if same else VALID, "strideH": strides[0], "strideW": strides[1]}
    return Case("TRANSPOSE_CONV", inputs, options, data=2)


@CHECKED
@given(case=transposed())
def test_transposed_convolutions(case: Case) -> None:
    check_float(case)
    check_int8(case)


@CHECKED
@given(
    seed=SEEDS,
    kind=st.sampled_from(["AVERAGE_POOL_2D", "MAX_POOL_2D"]),
    size=st.tuples(SIDES, SIDES),
    kernel=st.tuples(SMALL, SMALL),
    strides=st.tuples(SMALL, SMALL),
    padding=st.sampled_from([SAME, VALID]),
    activation=ACTIVATIONS,
)
def test_pools(
    seed: int,
    kind: str,
    size: tuple[int, int],
    kernel: tuple[int, int],
    strides: tuple[int, int],
    padding: int,
    activation: int,
) -> None:
    options = {
        "padding": padding, "strideH": strides[0], "strideW": strides[1], "filterHeight": kernel[0],
        "filterWidth": kernel[1], "fusedActivationFunction": activation,
    }  # fmt: skip
    case = Case(kind, (normal(seed, 2, *size, 3),), options)
    check_float(case)
    check_int8(case, LIKE_INPUT)


@CHECKED
@given(seed=SEEDS, rank=st.integers(1, 4), keeps=st.booleans(), biased=st.booleans(), activation=ACTIVATIONS)
def test_fully_connected(seed: int, rank: int, keeps: bool, biased: bool, activation: int) -> None:
    shape = (2, 3, 1, 7)[-rank:]
    assume(rank > 1 or not keeps)
    bias = (Bias(normal(seed + 2, 5)),) if biased else ()
    case = Case(
        "FULLY_CONNECTED",
        (normal(seed, *shape), Weight(normal(seed + 1, 5, 7), None), *bias),
        {"keepNumDims": keeps, "fusedActivationFunction": activation},
    )
    check_float(case)
    if biased:
        check_int8(case)


@pytest.mark.parametrize("axis", [0, None])
def test_fully_connected_that_keeps_axes_without_a_bias(axis: int | None) -> None:
    zeros = Bias(np.zeros(5, np.float32))
    case = Case("FULLY_CONNECTED", (normal(1, 2, 3, 7), Weight(normal(2, 5, 7), axis), zeros), {"keepNumDims": True})
    assert "MatMul" in operator_counts(check_float(case))
    assert "MatMul" in operator_counts(check_int8(case))


@CHECKED
@given(seed=SEEDS, adj_x=st.booleans(), adj_y=st.booleans(), rank=st.integers(2, 4))
def test_batch_matmul(seed: int, adj_x: bool, adj_y: bool, rank: int) -> None:
    batch = (2, 3)[: rank - 2]
    left, right = (4, 3) if adj_x else (3, 4), (5, 4) if adj_y else (4, 5)
    case = Case(
        "BATCH_MATMUL", (normal(seed, *batch, *left), normal(seed + 1, *batch, *right)), {"adjX": adj_x, "adjY": adj_y}
    )
    check_float(case)
    check_int8(case)


SHAPES = st.sampled_from(
    [((2, 3), (2, 3)), ((1, 4, 5, 3), (3,)), ((1, 4, 5, 3), (1, 1, 1, 3)), ((2, 4, 3), (4, 1)), ((1, 4, 4, 2), ())]
)


@CHECKED
@given(
    seed=SEEDS,
    kind=st.sampled_from(["ADD", "SUB", "MUL", "DIV"]),
    shapes=SHAPES,
    activation=ACTIVATIONS,
    constant=st.booleans(),
)
def test_arithmetic(seed: int, kind: str, shapes: tuple[tuple[int, ...], ...], activation: int, constant: bool) -> None:
    right = uniform(seed + 1, 0.5, 2, *shapes[1])
    options = {"fusedActivationFunction": activation}
    case = Case(kind, (normal(seed, *shapes[0]), Stored(right) if constant else right), options)
    check_float(case)
    if kind != "DIV":
        check_int8(case)


@CHECKED
@given(seed=SEEDS, kind=st.sampled_from(["MAXIMUM", "MINIMUM"]), shapes=SHAPES)
def test_maximum_and_minimum(seed: int, kind: str, shapes: tuple[tuple[int, ...], ...]) -> None:
    case = Case(kind, (normal(seed, *shapes[0]), Like(normal(seed + 1, *shapes[1]))))
    check_float(case)
    check_int8(case, LIKE_INPUT)


@CHECKED
@given(seed=SEEDS, kind=st.sampled_from(["POW", "SQUARED_DIFFERENCE"]), shapes=SHAPES)
def test_powers_and_squared_differences(seed: int, kind: str, shapes: tuple[tuple[int, ...], ...]) -> None:
    case = Case(kind, (uniform(seed, 0.1, 2, *shapes[0]), uniform(seed + 1, 0.1, 2, *shapes[1])))
    check_float(case)


COMPARISONS = ["EQUAL", "NOT_EQUAL", "GREATER", "GREATER_EQUAL", "LESS", "LESS_EQUAL"]


@CHECKED
@given(seed=SEEDS, kind=st.sampled_from(COMPARISONS), shapes=SHAPES)
def test_comparisons(seed: int, kind: str, shapes: tuple[tuple[int, ...], ...]) -> None:
    inputs = (np.rint(normal(seed, *shapes[0])), np.rint(normal(seed + 1, *shapes[1])))
    check_float(Case(kind, inputs, result="BOOL"))


@CHECKED
@given(seed=SEEDS, kind=st.sampled_from(["LOGICAL_AND", "LOGICAL_OR"]))
def test_logic(seed: int, kind: str) -> None:
    check_float(Case(kind, (normal(seed, 2, 3) > 0, normal(seed + 1, 2, 3) > 0), result="BOOL"))
    check_float(Case("LOGICAL_NOT", (normal(seed, 2, 3) > 0,), result="BOOL"))


@CHECKED
@given(seed=SEEDS, kind=st.sampled_from(["SELECT", "SELECT_V2"]))
def test_select(seed: int, kind: str) -> None:
    check_float(Case(kind, (normal(seed, 2, 3) > 0, normal(seed + 1, 2, 3), normal(seed + 2, 2, 3))))


FUNCTIONS = (
    "ABS", "CEIL", "COS", "ELU", "EXP", "FLOOR", "HARD_SWISH", "LOGISTIC", "NEG", "RELU", "RELU6", "RELU_N1_TO_1",
    "ROUND", "SIGN", "SIN", "SQUARE", "TANH",
)  # fmt: skip


@pytest.mark.parametrize("kind", FUNCTIONS)
def test_functions(kind: str) -> None:
    for seed, shape in enumerate([(3,), (2, 5), (1, 4, 3, 2)]):
        check_float(Case(kind, (normal(seed, *shape, scale=3),)))


@pytest.mark.parametrize("kind", ["LOG", "SQRT", "RSQRT"])
def test_functions_of_positive_numbers(kind: str) -> None:
    check_float(Case(kind, (uniform(1, 0.1, 4, 2, 5),)))


@CHECKED
@given(seed=SEEDS, kind=st.sampled_from(["RELU", "RELU6", "HARD_SWISH", "ABS", "ELU"]))
def test_functions_in_int8(seed: int, kind: str) -> None:
    check_int8(Case(kind, (normal(seed, 2, 5, scale=3),)))


@pytest.mark.parametrize(
    ("kind", "fixed"), [("LOGISTIC", Quantization((1 / 256,), (-128,))), ("TANH", Quantization((1 / 128,), (0,)))]
)
def test_functions_of_fixed_encoding(kind: str, fixed: Quantization) -> None:
    check_int8(Case(kind, (normal(3, 2, 5, scale=3),)), Out(fixed=fixed))


@CHECKED
@given(seed=SEEDS, alpha=st.sampled_from([0.01, 0.1, 0.3, 0.9]))
def test_leaky_relu(seed: int, alpha: float) -> None:
    case = Case("LEAKY_RELU", (normal(seed, 2, 4, 4, 3),), {"alpha": alpha})
    check_float(case)
    check_int8(case)


@pytest.mark.parametrize("approximate", [False, True])
def test_gelu(approximate: bool) -> None:
    check_float(Case("GELU", (normal(3, 2, 5, scale=2),), {"approximate": approximate}))


@CHECKED
@given(seed=SEEDS, shape=st.sampled_from([(1, 1, 3), (4, 5, 3)]))
def test_prelu(seed: int, shape: tuple[int, ...]) -> None:
    case = Case("PRELU", (normal(seed, 1, 4, 5, 3), Stored(uniform(seed + 1, 0.05, 0.5, *shape))))
    check_float(case)
    check_int8(case)


@CHECKED
@given(seed=SEEDS, shape=st.sampled_from([(2, 5), (1, 3, 4, 6)]))
def test_softmax(seed: int, shape: tuple[int, ...]) -> None:
    case = Case("SOFTMAX", (normal(seed, *shape),), {"beta": 1.0})
    check_float(case)
    check_int8(case, Out(fixed=SOFTMAX))
    check_float(Case("SOFTMAX", (normal(seed, *shape),), {"beta": 0.5}))
    check_float(Case("LOG_SOFTMAX", (normal(seed, *shape),)))
    check_float(Case("L2_NORMALIZATION", (normal(seed, *shape),)))


REDUCTIONS = ["MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN", "REDUCE_PROD"]


@CHECKED
@given(seed=SEEDS, kind=st.sampled_from(REDUCTIONS), axes=st.sets(st.integers(-4, 3), min_size=1), keeps=st.booleans())
def test_reductions(seed: int, kind: str, axes: set[int], keeps: bool) -> None:
    case = Case(kind, (normal(seed, 2, 4, 3, 5), ints(*sorted(axes))), {"keepDims": keeps})
    check_float(case)
    if kind == "MEAN":
        check_int8(case)
    elif kind in {"REDUCE_MAX", "REDUCE_MIN"}:  # LiteRT's own sums of int8 are far from the sums of what they mean
        check_int8(case, LIKE_INPUT)


@CHECKED
@given(seed=SEEDS, kind=st.sampled_from(["ARG_MAX", "ARG_MIN"]), axis=st.integers(-3, 2))
def test_arg_max_and_min(seed: int, kind: str, axis: int) -> None:
    case = Case(kind, (normal(seed, 2, 4, 3), ints(axis)), {"outputType": 2}, result="INT32")
    check_float(case)
    check_int8(case, emitted=True)


MOVES = [
    Case("RESHAPE", (normal(1, 2, 3, 4), ints(4, -1)), {"newShape": (4, -1)}),
    Case("SQUEEZE", (normal(1, 2, 1, 4, 1),), {"squeezeDims": (1,)}),
    Case("EXPAND_DIMS", (normal(1, 2, 3), ints(-1))),
    Case("TRANSPOSE", (normal(1, 2, 3, 4, 5), ints(2, 0, 3, 1))),
    Case("PAD", (normal(1, 1, 3, 4, 2), Fixed(np.asarray([[0, 0], [1, 2], [0, 3], [0, 0]], np.int32)))),
    Case("CONCATENATION", (normal(1, 2, 3), Like(normal(2, 2, 4))), {"axis": -1}),
    Case("SPLIT", (ints(1), normal(1, 2, 6)), {"numSplits": 3}, outputs=3, data=1),
    Case("SPLIT_V", (normal(1, 2, 6), ints(1, -1, 2), ints(1)), {"numSplits": 3}, outputs=3),
    Case("SLICE", (normal(1, 3, 4, 5), ints(0, 1, 2), ints(3, -1, 2))),
    Case("STRIDED_SLICE", (normal(1, 3, 6), ints(0, 1), ints(3, -1), ints(1, 2)), {"beginMask": 1, "endMask": 1}),
    Case("STRIDED_SLICE", (normal(1, 3, 6), ints(2, 5), ints(3, 0), ints(1, -2)), {"shrinkAxisMask": 1}),
    Case("STRIDED_SLICE", (normal(1, 3, 6), ints(0, 0), ints(0, 0), ints(-1, -1)), {"beginMask": 3, "endMask": 3}),
    Case("PACK", (normal(1, 2, 3), Like(normal(2, 2, 3))), {"axis": 1, "valuesCount": 2}),
    Case("UNPACK", (normal(1, 2, 3),), {"axis": 1, "num": 3}, outputs=3),
    Case("GATHER", (normal(1, 4, 5), ints(2, 0, 0)), {"axis": 1}),
    Case("TILE", (normal(1, 2, 3), ints(2, 3))),
    Case("BROADCAST_TO", (normal(1, 1, 3), ints(2, 4, 3))),
    Case("DEPTH_TO_SPACE", (normal(1, 1, 3, 2, 12),), {"blockSize": 2}),
    Case("SPACE_TO_DEPTH", (normal(1, 1, 4, 6, 3),), {"blockSize": 2}),
    Case("SPACE_TO_BATCH_ND", (normal(1, 1, 5, 6, 3), ints(2, 3), Fixed(np.asarray([[1, 2], [0, 0]], np.int32)))),
    Case("BATCH_TO_SPACE_ND", (normal(1, 6, 4, 2, 3), ints(2, 3), Fixed(np.asarray([[1, 2], [0, 1]], np.int32)))),
    Case("MIRROR_PAD", (normal(1, 4, 5), Fixed(np.asarray([[1, 2], [0, 3]], np.int32))), {"mode": 0}),
    Case("MIRROR_PAD", (normal(1, 4, 5), Fixed(np.asarray([[0, 1], [1, 1]], np.int32))), {"mode": 1}),
]


@pytest.mark.parametrize("case", MOVES, ids=lambda case: f"{case.kind}-{len(case.inputs)}")
def test_moves(case: Case) -> None:
    check_float(case)
    check_int8(case, LIKE_INPUT, steps=0)


def test_pad_with_a_value() -> None:
    pads = Fixed(np.asarray([[0, 0], [1, 2], [0, 3], [0, 0]], np.int32))
    check_float(Case("PADV2", (normal(1, 1, 3, 4, 2), pads, Stored(np.asarray([0.75], np.float32)))))
    check_int8(
        Case("PADV2", (normal(1, 1, 3, 4, 2), pads, Like(np.asarray([0.5], np.float32)))), LIKE_INPUT, emitted=False
    )


@CHECKED
@given(
    seed=SEEDS,
    kind=st.sampled_from(["RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR"]),
    size=st.tuples(SIDES, SIDES),
    target=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    mode=st.sampled_from([{}, {"alignCorners": True}, {"halfPixelCenters": True}]),
)
def test_resizing(seed: int, kind: str, size: tuple[int, int], target: tuple[int, int], mode: dict[str, bool]) -> None:
    case = Case(kind, (normal(seed, 1, *size, 2), ints(*target)), mode)
    check_float(case, tolerance=1e-4)
    check_int8(case, LIKE_INPUT)


@pytest.mark.parametrize(
    ("array", "kind"), [(normal(1, 2, 3, scale=9), "INT32"), (np.arange(6, dtype=np.int32), "FLOAT32")]
)
def test_cast(array: np.ndarray, kind: str) -> None:
    check_float(Case("CAST", (array,), {}, result=kind))
