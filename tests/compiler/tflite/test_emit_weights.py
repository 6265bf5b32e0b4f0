"""Weights and biases in integers: channels of zeros, biases that their type does not hold, 16 bits."""

from __future__ import annotations

import numpy as np
import pytest

from edgewright.compiler.tflite.file.model import Model, Tensor
from tests.compiler.tflite.single_operator import Fixed, Weight, check_integers, normal, quantized


def constants(model: Model, operator: str) -> tuple[Tensor, Tensor]:
    found = next(each for each in model.operators if each.type == operator)
    return model.tensors[found.inputs[1]], model.tensors[found.inputs[2]]


@pytest.mark.parametrize(("kind", "bias"), [("uint8", "INT32"), ("int8", "INT32"), ("int16", "INT64")])
def test_the_bias_is_in_steps_of_the_products(kind: str, bias: str) -> None:
    filters = normal(1, 4, 3, 3, 3)
    case = quantized("Conv", kind, normal(2, 1, 3, 6, 6), Weight(filters, 0), Fixed(normal(3, 4)))
    weights, found = constants(check_integers(case), "CONV_2D")
    assert found.type == bias
    assert weights.quantization is not None
    assert found.quantization is not None
    assert len(weights.quantization.scales) == 4
    expected = np.float32(case.grids["x0"].scale) * np.asarray(weights.quantization.scales, np.float32)
    np.testing.assert_allclose(found.quantization.scales, expected, rtol=1e-6)


@pytest.mark.parametrize("kind", ["uint8", "int16"])
def test_a_channel_of_zeros_gives_its_bias(kind: str) -> None:
    filters = normal(1, 4, 3, 1, 1)
    filters[2] = 0
    check_integers(quantized("Conv", kind, normal(2, 1, 3, 5, 5), Weight(filters, 0), Fixed(normal(3, 4, scale=5))))


@pytest.mark.parametrize("kind", ["uint8", "int16"])
@pytest.mark.parametrize("axis", [0, None])
def test_a_bias_beyond_its_type_gets_room(kind: str, axis: int | None) -> None:
    """The products of such a channel are nothing beside the bias; cut off, it would give another number."""
    filters = normal(1, 4, 3) * 1e-9
    if axis is None:
        filters[:] *= 1e-3
    bias = np.array([1.0, 2.0, -3.0, 0.5], np.float32) * (1 if kind == "uint8" else 300)
    case = quantized("Gemm", kind, normal(2, 2, 3), Weight(filters.astype(np.float32), axis), Fixed(bias), transB=1)
    _, found = constants(check_integers(case), "FULLY_CONNECTED")
    assert found.data is not None
    assert np.abs(found.data.astype(np.int64)).max() < (2**31 - 1 if kind == "uint8" else 2**39)
