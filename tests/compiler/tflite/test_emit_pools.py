"""Pools with any window: what counts at the borders counts, in float and in integers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewright.compiler.faults import UnsupportedModel
from edgewright.compiler.tflite.emitter.emit import emit
from edgewright.compiler.tflite.file.model import Array
from tests.compiler.tflite.single_operator import (
    CHECKED,
    SEEDS,
    Case,
    check_float,
    check_integers,
    kinds,
    normal,
    quantized,
    single,
)

MANY = settings(CHECKED, max_examples=30)
KINDS = st.sampled_from(["uint8", "int8", "int16"])
OPSET = 19
"""The first in which ceil_mode of AveragePool is defined as ONNX Runtime computes it."""


@st.composite
def pools(draw: st.DrawFn, axes: int = 2) -> tuple[Array, dict[str, Any]]:
    kernel = [draw(st.integers(1, 4)) for _ in range(axes)]
    sizes = [draw(st.integers(each, 11)) for each in kernel]
    attributes: dict[str, Any] = {"kernel_shape": kernel, "strides": [draw(st.integers(1, 3)) for _ in range(axes)]}
    if draw(st.booleans()):
        attributes["pads"] = [draw(st.integers(0, each // 2)) for each in kernel * 2]
        attributes["ceil_mode"] = draw(st.integers(0, 1))
    else:
        attributes["strides"] = [min(pair) for pair in zip(kernel, attributes["strides"], strict=True)]
        attributes["auto_pad"] = draw(st.sampled_from(["SAME_UPPER", "SAME_LOWER", "VALID"]))
    return normal(draw(SEEDS), draw(st.integers(1, 2)), draw(st.integers(1, 3)), *sizes), attributes


@MANY
@given(pools())
def test_max_pool(each: tuple[Array, dict[str, Any]]) -> None:
    x, attributes = each
    check_float(single("MaxPool", x, opset=OPSET, **attributes))


@MANY
@given(pools(), KINDS)
def test_max_pool_in_integers(each: tuple[Array, dict[str, Any]], kind: str) -> None:
    x, attributes = each
    check_integers(quantized("MaxPool", kind, x, **attributes))


@MANY
@given(pools(), st.integers(0, 1))
def test_average_pool(each: tuple[Array, dict[str, Any]], counted: int) -> None:
    x, attributes = each
    check_float(single("AveragePool", x, opset=OPSET, count_include_pad=counted, **attributes))


@MANY
@given(pools(), st.integers(0, 1), KINDS)
def test_average_pool_in_integers(each: tuple[Array, dict[str, Any]], counted: int, kind: str) -> None:
    """Also where a part of it is computed in float."""
    x, attributes = each
    check_integers(quantized("AveragePool", kind, x, count_include_pad=counted, **attributes), integer=False)


@MANY
@given(pools(), KINDS)
def test_pools_on_one_scale_stay_within_a_step(each: tuple[Array, dict[str, Any]], kind: str) -> None:
    x, attributes = each
    check_integers(quantized("AveragePool", kind, x, one_grid=True, **attributes), integer=False)


@MANY
@given(pools(axes=1), st.sampled_from(["MaxPool", "AveragePool"]))
def test_pools_over_a_sequence(each: tuple[Array, dict[str, Any]], op_type: str) -> None:
    x, attributes = each
    check_float(single(op_type, x, opset=OPSET, **attributes))


@MANY
@given(
    st.sampled_from(["GlobalAveragePool", "GlobalMaxPool"]),
    st.lists(st.integers(1, 9), min_size=1, max_size=2),
    KINDS,
    st.booleans(),
    SEEDS,
)
def test_global_pools(op_type: str, sizes: list[int], kind: str, one_grid: bool, seed: int) -> None:
    x = normal(seed, 2, 3, *sizes)
    check_float(single(op_type, x))
    check_integers(quantized(op_type, kind, x, one_grid=one_grid))


def test_a_global_mean_takes_no_operator_to_rescale() -> None:
    x = normal(1, 1, 4, 7, 6)
    assert "QUANTIZE" not in kinds(check_integers(quantized("GlobalAveragePool", "uint8", x)))
    alike = kinds(check_integers(quantized("GlobalAveragePool", "uint8", x, one_grid=True)))
    assert alike[1:-1] == ["AVERAGE_POOL_2D"] or "AVERAGE_POOL_2D" in alike


def positive(kind: str, **attributes: Any) -> Case:
    return quantized("MaxPool", kind, np.abs(normal(3, 1, 2, 8, 8)), one_grid=True, **attributes)


def test_zeros_around_what_is_never_negative_are_plain_padding() -> None:
    """PADV2 is what NPUs lack."""
    model = check_integers(positive("uint8", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]))
    assert "PAD" in kinds(model)
    assert "PADV2" not in kinds(model)


@pytest.mark.parametrize(
    ("outputs", "attributes", "reason"), [(1, {"dilations": [2, 2]}, "dilations"), (2, {}, "indices")]
)
def test_what_has_no_form_is_refused(outputs: int, attributes: dict[str, Any], reason: str) -> None:
    case = single("MaxPool", normal(1, 1, 2, 8, 8), outputs=outputs, kernel_shape=[2, 2], **attributes)
    with pytest.raises(UnsupportedModel, match=reason):
        emit(case.graph)
