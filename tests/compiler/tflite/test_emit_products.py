"""Gemm and MatMul in all their forms."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewright.compiler.faults import UnsupportedModel
from edgewright.compiler.tflite.emitter.emit import emit
from tests.compiler.tflite.single_operator import (
    CHECKED,
    SEEDS,
    Fixed,
    Given,
    Weight,
    check_float,
    check_integers,
    kinds,
    normal,
    quantized,
    single,
)

MANY = settings(CHECKED, max_examples=30)
KINDS = st.sampled_from(["uint8", "int8", "int16"])
SIDES = st.integers(1, 6)


@st.composite
def gemms(draw: st.DrawFn) -> tuple[list[Given], dict[str, Any]]:
    m, k, n, seed = draw(SIDES), draw(SIDES), draw(SIDES), draw(SEEDS)
    attributes: dict[str, Any] = {
        "transA": draw(st.integers(0, 1)),
        "transB": draw(st.integers(0, 1)),
        "alpha": draw(st.sampled_from([1.0, 0.5, -2.0])),
        "beta": draw(st.sampled_from([1.0, 0.25, -1.0])),
    }
    a = normal(seed, k, m) if attributes["transA"] else normal(seed, m, k)
    b = normal(seed + 1, n, k) if attributes["transB"] else normal(seed + 1, k, n)
    axis = draw(st.sampled_from([None, 0 if attributes["transB"] else 1]))
    given: list[Given] = [a, b if draw(st.booleans()) else Weight(b, axis)]
    shape = draw(st.sampled_from([None, (), (1,), (n,), (1, n), (m, 1), (m, n)]))
    if shape is not None:
        c = normal(seed + 2, *shape)
        given.append(c if shape and draw(st.booleans()) else Fixed(c))
    return given, attributes


def fixed(given: list[Given]) -> list[Given]:
    return [Fixed(each.array) if isinstance(each, Weight) else each for each in given]


@MANY
@given(gemms())
def test_gemm(each: tuple[list[Given], dict[str, Any]]) -> None:
    given, attributes = each
    check_float(single("Gemm", *fixed(given), **attributes))


@MANY
@given(gemms(), KINDS)
def test_gemm_in_integers(each: tuple[list[Given], dict[str, Any]], kind: str) -> None:
    """Also where a part of it is computed in float."""
    given, attributes = each
    check_integers(quantized("Gemm", kind, *given, **attributes), integer=False)


@pytest.mark.parametrize("kind", ["uint8", "int16"])
@pytest.mark.parametrize("alpha", [1.0, 0.5])
def test_a_row_and_a_factor_stay_integers(kind: str, alpha: float) -> None:
    given: list[Given] = [normal(1, 3, 5), Weight(normal(2, 4, 5), 0), Fixed(normal(3, 4))]
    model = check_integers(quantized("Gemm", kind, *given, transB=1, alpha=alpha, beta=2.0))
    assert kinds(model) == ["FULLY_CONNECTED"]


@st.composite
def matmuls(draw: st.DrawFn) -> list[Given]:
    m, k, n, seed = draw(SIDES), draw(SIDES), draw(SIDES), draw(SEEDS)
    batch = draw(st.lists(st.integers(1, 3), max_size=2).map(tuple))
    shared = tuple(draw(st.sampled_from([size, 1])) for size in batch)[draw(st.integers(0, len(batch))) :]
    sides = draw(st.permutations([batch, shared]))
    left = draw(st.sampled_from([(k,), (*sides[0], m, k)]))
    right = draw(st.sampled_from([(k,), (*sides[1], k, n)]))
    constant = draw(st.sampled_from([None, 0, 1]))
    given: list[Given] = [normal(seed, *left), normal(seed + 1, *right)]
    if constant is not None:
        array = normal(seed + constant, *(left, right)[constant])
        axis = array.ndim - 2 + constant
        given[constant] = Weight(array, draw(st.sampled_from([None, axis if axis >= 0 and array.ndim > 1 else None])))
    return given


@MANY
@given(matmuls())
def test_matmul(given: list[Given]) -> None:
    check_float(single("MatMul", *fixed(given)))


@MANY
@given(matmuls(), KINDS)
def test_matmul_in_integers(given: list[Given], kind: str) -> None:
    check_integers(quantized("MatMul", kind, *given), integer=False)


@pytest.mark.parametrize("kind", ["uint8", "int16"])
@pytest.mark.parametrize(
    ("given", "written"),
    [
        ([normal(1, 2, 3, 5), Weight(normal(2, 5, 4), 1)], ["FULLY_CONNECTED"]),
        ([Weight(normal(1, 3, 5), 0), normal(2, 2, 5, 4)], ["TRANSPOSE", "FULLY_CONNECTED", "TRANSPOSE"]),
        ([normal(1, 2, 3, 5), normal(2, 2, 5, 4)], ["BATCH_MATMUL"]),
    ],
)
def test_integers_stay_integers(kind: str, given: list[Given], written: list[str]) -> None:
    assert kinds(check_integers(quantized("MatMul", kind, *given))) == written


@pytest.mark.parametrize("kind", ["uint8", "int16"])
@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize("per_channel", [False, True])
def test_constants_that_integer_kernels_lack_are_multiplied_in_float(kind: str, side: int, per_channel: bool) -> None:
    given: list[Given] = [normal(1, 2, 3, 5), normal(2, 2, 5, 4)]
    array = given[side]
    assert isinstance(array, np.ndarray)
    given[side] = Weight(array, 1 + side if per_channel else None)
    lacking = per_channel or (kind == "int16" and side == 0)
    model = check_integers(quantized("MatMul", kind, *given), integer=not lacking)
    assert ("DEQUANTIZE" in kinds(model)) == lacking


def test_weights_alone_in_integers_leave_the_data_as_it_is() -> None:
    """TFLite's products of floats and int8 weights would round the data: 1 % of the result."""
    case = quantized("MatMul", "uint8", normal(1, 3, 5), Weight(normal(2, 5, 4), 1))
    for node in list(case.graph.graph):
        if node.op_type == "QuantizeLinear":
            behind = next(iter(node.outputs[0].uses())).node
            source = node.inputs[0]
            assert source is not None
            behind.outputs[0].replace_all_uses_with(source, replace_graph_outputs=True)
            case.graph.graph.remove([behind, node])
    case.graph.graph.outputs[0].name = "y0"
    model = check_float(case)
    assert kinds(model) == ["DEQUANTIZE", "FULLY_CONNECTED"]
    assert [tensor.type for tensor in model.tensors if tensor.data is not None and tensor.data.ndim == 2] == ["INT8"]


def test_too_many_axes_are_refused() -> None:
    shape = (1, 1, 1, 1, 2, 3)
    with pytest.raises(UnsupportedModel, match="6 axes"):
        emit(single("MatMul", normal(1, *shape), np.swapaxes(normal(2, *shape), -1, -2).copy()).graph)
