"""Conv and ConvTranspose with any window: LiteRT says what ONNX Runtime says, in float and in integers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewright.compiler.faults import UnsupportedModel
from edgewright.compiler.tflite.emitter.emit import emit
from edgewright.compiler.tflite.file.model import Array
from tests.compiler.tflite.runs import run_litert, run_onnx
from tests.compiler.tflite.single_operator import (
    CHECKED,
    SEEDS,
    Case,
    Fixed,
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


@dataclass(frozen=True, eq=False)
class Convolution:
    x: Array
    filters: Array
    bias: Array | None
    attributes: dict[str, Any]

    @property
    def addend(self) -> list[Fixed]:
        return [] if self.bias is None else [Fixed(self.bias)]


@st.composite
def convolutions(draw: st.DrawFn, axes: int = 2) -> Convolution:
    seed = draw(SEEDS)
    groups, inputs, outputs = draw(st.integers(1, 3)), draw(st.integers(1, 3)), draw(st.integers(1, 3))
    kernel = [draw(st.integers(1, 4)) for _ in range(axes)]
    dilations = [draw(st.integers(1, 2)) for _ in range(axes)]
    sizes = [draw(st.integers((k - 1) * d + 1, 11)) for k, d in zip(kernel, dilations, strict=True)]
    attributes: dict[str, Any] = {
        "group": groups,
        "strides": [draw(st.integers(1, 3)) for _ in range(axes)],
        "dilations": dilations,
    }
    if draw(st.booleans()):
        attributes["pads"] = [draw(st.integers(0, 2)) for _ in range(2 * axes)]
    else:
        ways = ["SAME_UPPER", "SAME_LOWER", "VALID"] if max(dilations) == 1 else ["VALID"]  # ONNX Runtime's limit
        attributes["auto_pad"] = draw(st.sampled_from(ways))
    x = normal(seed, draw(st.integers(1, 2)), groups * inputs, *sizes)
    filters = normal(seed + 1, groups * outputs, inputs, *kernel)
    return Convolution(x, filters, draw(st.sampled_from([None, normal(seed + 2, groups * outputs)])), attributes)


def float_case(op_type: str, each: Convolution) -> Case:
    return single(op_type, each.x, Fixed(each.filters), *each.addend, **each.attributes)


def integer_case(op_type: str, each: Convolution, kind: str, axis: int | None) -> Case:
    return quantized(op_type, kind, each.x, Weight(each.filters, axis), *each.addend, **each.attributes)


@MANY
@given(convolutions())
def test_conv_in_float(each: Convolution) -> None:
    check_float(float_case("Conv", each))


@MANY
@given(convolutions(), KINDS, st.sampled_from([0, None]))
def test_conv_in_integers(each: Convolution, kind: str, axis: int | None) -> None:
    check_integers(integer_case("Conv", each, kind, axis))


@MANY
@given(convolutions(axes=1), KINDS)
def test_conv_over_a_sequence(each: Convolution, kind: str) -> None:
    check_float(float_case("Conv", each))
    check_integers(integer_case("Conv", each, kind, 0))


def test_every_channel_a_group_is_depthwise_with_its_multiplier() -> None:
    x, filters = normal(1, 1, 3, 7, 6), normal(2, 6, 1, 3, 3)
    model = check_float(single("Conv", x, Fixed(filters), group=3))
    found = next(operator for operator in model.operators if operator.type == "DEPTHWISE_CONV_2D")
    assert found.options["depthMultiplier"] == 2


@pytest.mark.parametrize(
    ("pads", "strides", "padded"),
    [
        ([1, 1, 1, 1], [1, 1], False),
        ([1, 1, 1, 1], [2, 2], True),
        ([0, 0, 1, 1], [2, 2], False),
        ([0] * 4, [2, 2], False),
    ],
)
def test_only_what_same_does_not_pad_is_padded(pads: list[int], strides: list[int], padded: bool) -> None:
    """PyTorch's padding of 1 at stride 2 over an even size reads before the picture; SAME would read behind it."""
    model = check_float(single("Conv", normal(1, 1, 2, 8, 8), Fixed(normal(2, 3, 2, 3, 3)), pads=pads, strides=strides))
    assert ("PAD" in kinds(model)) == padded


def test_a_free_batch_stays_free() -> None:
    case = single("Conv", normal(1, 1, 3, 9), Fixed(normal(2, 4, 3, 3)), free_batch=True)
    model = check_float(case)
    assert [model.tensors[port.tensor].free[0] for port in (*model.inputs, *model.outputs)] == [-1, -1]
    x = normal(3, 5, 3, 9)
    np.testing.assert_allclose(run_litert(model, {"x0": x})["y0"], run_onnx(case.graph, {"x0": x})["y0"], atol=1e-5)


@pytest.mark.parametrize(
    ("shape", "filters", "reason"),
    [
        ((1, 2, 4, 4, 4), Fixed(normal(1, 2, 2, 3, 3, 3)), "3 spatial axes"),
        ((1, 2, 6, 6), normal(1, 2, 2, 3, 3), "computed"),
    ],
)
def test_what_has_no_form_is_refused(shape: tuple[int, ...], filters: Fixed | Array, reason: str) -> None:
    with pytest.raises(UnsupportedModel, match=reason):
        emit(single("Conv", normal(2, *shape), filters).graph)


@st.composite
def transposed(draw: st.DrawFn, axes: int = 2) -> Convolution:
    seed, groups = draw(SEEDS), draw(st.integers(1, 2))
    inputs, outputs = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    kernel = [draw(st.integers(1, 4)) for _ in range(axes)]
    dilations = [draw(st.integers(1, 2)) for _ in range(axes)]
    strides = [draw(st.integers(1, 3)) for _ in range(axes)]
    sizes = [draw(st.integers(2, 6)) for _ in range(axes)]
    attributes: dict[str, Any] = {"group": groups, "strides": strides, "dilations": dilations}
    way = draw(st.sampled_from(["pads", "auto_pad", "output_shape"]))
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    if way == "pads":
        attributes["pads"] = [draw(st.integers(0, min(2, (each - 1) // 2))) for each in reach] * 2
        attributes["output_padding"] = [draw(st.integers(0, stride - 1)) for stride in strides]
    elif way == "auto_pad":
        attributes["auto_pad"] = draw(st.sampled_from(["SAME_UPPER", "SAME_LOWER", "VALID"]))
    else:
        natural = [(size - 1) * stride + each for size, stride, each in zip(sizes, strides, reach, strict=True)]
        attributes["output_shape"] = [each - draw(st.integers(0, min(2, each - 1))) for each in natural]
    x = normal(seed, draw(st.integers(1, 2)), groups * inputs, *sizes)
    filters = normal(seed + 1, groups * inputs, outputs, *kernel)
    return Convolution(x, filters, draw(st.sampled_from([None, normal(seed + 2, groups * outputs)])), attributes)


@MANY
@given(transposed())
def test_transposed_in_float(each: Convolution) -> None:
    check_float(float_case("ConvTranspose", each))


@MANY
@given(transposed(), KINDS, st.sampled_from([1, None]))
def test_transposed_in_integers(each: Convolution, kind: str, axis: int | None) -> None:
    check_integers(integer_case("ConvTranspose", each, kind, axis))


@MANY
@given(transposed(axes=1))
def test_transposed_over_a_sequence(each: Convolution) -> None:
    check_float(float_case("ConvTranspose", each))


def test_what_same_cuts_off_needs_no_slice() -> None:
    x, filters = normal(1, 1, 2, 5, 4), Fixed(normal(2, 2, 3, 4, 4))
    model = check_float(single("ConvTranspose", x, filters, strides=[2, 2], pads=[1, 1, 1, 1]))
    assert kinds(model) == ["TRANSPOSE", "TRANSPOSE_CONV", "TRANSPOSE"]


def test_the_whole_shape_of_a_transposed_result_fixes_the_batch() -> None:
    model = check_float(single("ConvTranspose", normal(1, 1, 2, 5), Fixed(normal(2, 2, 3, 4)), free_batch=True))
    assert not any(model.tensors[port.tensor].free for port in model.inputs)
