"""Weights in half precision: LiteRT runs them, values are the nearest float16, and what would be lost stays float32."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgewright.compiler.tflite.file.half_weights import LEAST_ELEMENTS, survives, with_half_weights
from edgewright.compiler.tflite.file.model import Array, Model, Operator, Port, Tensor
from edgewright.compiler.tflite.file.read import read
from edgewright.compiler.tflite.file.write import write
from tests.compiler.tflite.file_models import dense, same
from tests.compiler.tflite.runs import run_litert

RNG = np.random.default_rng(5)
WEIGHT = RNG.normal(size=(96, 64)).astype(np.float32)
BIAS = RNG.normal(size=96).astype(np.float32)
NET = dense(WEIGHT, BIAS)
FLOAT32S = hnp.arrays(np.float32, st.integers(1, 30), elements=st.floats(width=32))


def picture_net() -> Model:
    """A convolution and a depthwise one, on (1, 9, 9, 4)."""
    conv = RNG.normal(size=(8, 3, 3, 4)).astype(np.float32)
    depth = RNG.normal(size=(1, 3, 3, 8)).astype(np.float32)
    bias = RNG.normal(size=8).astype(np.float32)
    same_padding = {"strideW": 1, "strideH": 1, "padding": 0}
    return Model(
        tensors=(
            Tensor("x", "FLOAT32", (1, 9, 9, 4)),
            Tensor("conv", "FLOAT32", conv.shape, data=conv),
            Tensor("bias", "FLOAT32", bias.shape, data=bias),
            Tensor("h", "FLOAT32", (1, 9, 9, 8)),
            Tensor("depth", "FLOAT32", depth.shape, data=depth),
            Tensor("y", "FLOAT32", (1, 9, 9, 8)),
        ),
        operators=(
            Operator("CONV_2D", (0, 1, 2), (3,), same_padding),
            Operator("DEPTHWISE_CONV_2D", (3, 4, 2), (5,), {**same_padding, "depthMultiplier": 1}),
        ),
        inputs=(Port("x", 0),),
        outputs=(Port("y", 5),),
        signature="serving_default",
    )


def rounded(model: Model) -> Model:
    """Weights of at least two dimensions rounded to float16 and kept in float32."""

    def nearest(array: Array) -> Array:
        return array.astype(np.float16).astype(np.float32) if array.ndim > 1 else array

    tensors = (
        tensor if tensor.data is None else replace(tensor, data=nearest(tensor.data)) for tensor in model.tensors
    )
    return replace(model, tensors=tuple(tensors))


@pytest.mark.parametrize("reference", [False, True], ids=["xnnpack", "reference"])
@pytest.mark.parametrize("model", [NET, picture_net()], ids=["dense", "picture"])
def test_litert_computes_as_with_rounded_weights(model: Model, *, reference: bool) -> None:
    """Bit for bit: the arithmetic stays that of float32."""
    inputs = {"x": RNG.normal(size=model.tensors[0].shape).astype(np.float32)}
    found = run_litert(write(with_half_weights(model)), inputs, reference=reference)
    expected = run_litert(write(rounded(model)), inputs, reference=reference)
    np.testing.assert_array_equal(found["y"], expected["y"])


def test_a_file_of_half_the_size_that_is_read_again() -> None:
    half = with_half_weights(NET)
    content = write(half)
    assert len(content) < 0.56 * len(write(NET))
    same(half, read(content, "half"))
    assert [(operator.type, operator.version) for operator in half.operators] == [
        ("DEQUANTIZE", 3),
        ("FULLY_CONNECTED", 1),
    ]
    assert half.tensors[2].data is BIAS, "small constants that are no weights stay"


@given(FLOAT32S)
def test_the_error_bound(array: Array) -> None:
    """2^-11 of each value, or 2^-25 below 2^-14: at most 2^-11 of the largest."""
    if not survives(array):
        largest = np.abs(array).max()
        assert not np.isfinite(largest) or largest > 65504 or 0 < largest < 2.0**-14
        return
    exact = array.astype(np.float64)
    error = np.abs(array.astype(np.float16).astype(np.float64) - exact)
    assert np.all(error <= np.maximum(np.abs(exact) * 2.0**-11, 2.0**-25))
    assert np.all(error <= np.abs(exact).max() * 2.0**-11)


@pytest.mark.parametrize("value", [65505.0, np.inf, -np.inf, np.nan])
def test_weights_that_would_be_lost_stay(value: float) -> None:
    weight = WEIGHT.copy()
    weight[3, 4] = value
    assert with_half_weights(dense(weight, BIAS)).tensors[1].type == "FLOAT32"
    assert len(with_half_weights(dense(weight, BIAS)).operators) == 1


def test_weights_below_the_precision_of_halves_stay() -> None:
    assert len(with_half_weights(dense(WEIGHT * np.float32(1e-6), BIAS)).operators) == 1
    assert len(with_half_weights(dense(WEIGHT * np.float32(0), BIAS)).operators) == 2


def test_a_shared_constant_is_dequantized_once() -> None:
    twice = replace(
        NET,
        tensors=(*NET.tensors, Tensor("z", "FLOAT32", (1, 96), free=(-1, 96))),
        operators=(*NET.operators, Operator("FULLY_CONNECTED", (0, 1, 2), (4,))),
        outputs=(*NET.outputs, Port("z", 4)),
    )
    half = with_half_weights(twice)
    assert [operator.type for operator in half.operators] == ["DEQUANTIZE", *["FULLY_CONNECTED"] * 2]
    found = run_litert(half, {"x": np.ones((1, 64), np.float32)})
    np.testing.assert_array_equal(found["y"], found["z"])


@pytest.mark.parametrize(("size", "type_"), [(LEAST_ELEMENTS, None), (LEAST_ELEMENTS - 1, "FLOAT32")])
def test_other_constants_where_they_are_large(size: int, type_: str | None) -> None:
    table = Tensor("t", "FLOAT32", (size,), data=np.ones(size, np.float32))
    model = Model(
        (Tensor("x", "FLOAT32", (size,)), table, Tensor("y", "FLOAT32", (size,))),
        (Operator("ADD", (0, 1), (2,)),),
        (Port("x", 0),),
        (Port("y", 2),),
    )
    assert (with_half_weights(model).tensors[1].data is None) == (type_ is None)


def test_a_constant_that_is_an_output_stays() -> None:
    model = replace(NET, outputs=(*NET.outputs, Port("w", 1)))
    assert len(with_half_weights(model).operators) == 1
