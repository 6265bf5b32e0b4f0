"""Rewrites for Ethos-U: the same bits as before in LiteRT's reference kernels, and none where that does not hold."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

import tests.compiler.ethos_u_nets as nets
from edgewright.compiler.lower.ethos_u.cpu_operators import CpuOperator
from edgewright.compiler.lower.ethos_u.rewrites.blocks import depth_to_space, space_to_depth
from edgewright.compiler.lower.ethos_u.rewrites.gather import gather_by_slices
from edgewright.compiler.lower.ethos_u.rewrites.mean import mean_of_each, mean_of_lines
from edgewright.compiler.lower.ethos_u.rewrites.repeat import MAX_FACTOR, nearest, repeat_pixels
from edgewright.compiler.lower.ethos_u.rewrites.table import SUGGESTIONS, Suggestion, rewrite, suggestion
from edgewright.compiler.lower.ethos_u.rewrites.windows import shielded, slice_afterwards
from edgewright.compiler.tflite.file.model import Model
from edgewright.compiler.tflite.file.schema import OPERATORS
from tests.compiler.ethos_u_run import outputs_of, random_inputs

Apply = Callable[[Model, int], Model | None]
few = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])


def assert_same(model: Model, rewritten: Model | None) -> Model:
    assert rewritten is not None
    assert rewritten.operators != model.operators
    for seed in range(2):
        inputs = random_inputs(model, seed)
        for before, after in zip(outputs_of(model, inputs), outputs_of(rewritten, inputs), strict=True):
            np.testing.assert_array_equal(before, after, strict=True)
    return rewritten


windows = {"stride": st.integers(1, 8), "kernel": st.integers(1, 6), "size": st.integers(8, 34)}
paddings = st.sampled_from([nets.SAME, nets.VALID])


@few
@given(**windows, padding=paddings)
def test_depthwise_convolutions_by_shorter_steps(stride: int, kernel: int, size: int, padding: int) -> None:
    model = nets.depthwise(stride, kernel, size, padding, multiplier=1 + kernel % 2)
    assert_same(model, slice_afterwards(model, 0))


@few
@given(**windows, padding=paddings)
def test_convolutions_by_shorter_steps(stride: int, kernel: int, size: int, padding: int) -> None:
    model = nets.convolution(stride, kernel, size, padding)
    assert_same(model, slice_afterwards(model, 0))


@few
@given(**windows, padding=paddings)
def test_maxima_by_shorter_steps(stride: int, kernel: int, size: int, padding: int) -> None:
    model = nets.pool("MAX_POOL_2D", stride, kernel, size, padding)
    assert_same(model, slice_afterwards(model, 0))


def test_steps_are_as_long_as_may_be() -> None:
    for stride, step in ((4, 2), (5, 1), (6, 3), (8, 2), (9, 3)):
        rewritten = slice_afterwards(nets.convolution(stride), 0)
        assert rewritten is not None
        assert [one.options["strideH"] for one in rewritten.operators if one.type == "CONV_2D"] == [step]


@pytest.mark.parametrize("make", [nets.depthwise, nets.convolution])
def test_dilated_windows_are_left_alone(make: Callable[[int], Model]) -> None:
    model = make(5)
    options = {**model.operators[0].options, "dilationHFactor": 2}
    dilated = replace(model, operators=(replace(model.operators[0], options=options),))
    assert slice_afterwards(dilated, 0) is None


@few
@given(data=st.data(), rank=st.integers(1, 4))
def test_gather_by_slices(data: st.DataObject, rank: int) -> None:
    shape = (1, 5, 6, 7)[-rank:]
    axis = data.draw(st.integers(-rank, rank - 1))
    length = shape[axis]
    indices = data.draw(st.one_of(st.integers(0, length - 1), st.lists(st.integers(0, length - 1), min_size=1)))
    model = nets.gather(indices, axis, shape)
    assume(model.tensors[model.outputs[0].tensor].shape)
    assert_same(model, gather_by_slices(model, 0))


@pytest.mark.parametrize("indices", [[[0, 1], [2, 3]], [], [5], [-1], list(range(0, 200, 2))])
def test_other_gathers_are_left_alone(indices: object) -> None:
    model = nets.gather([0], 3, (1, 2, 2, 4 if indices != list(range(0, 200, 2)) else 200))
    tensors = list(model.tensors)
    data = np.array(indices, np.int32)
    tensors[model.operators[0].inputs[1]] = replace(tensors[model.operators[0].inputs[1]], data=data, shape=data.shape)
    assert gather_by_slices(replace(model, tensors=tuple(tensors)), 0) is None


def test_a_gather_whose_indices_come_as_input_is_left_alone() -> None:
    model = nets.gather([0])
    tensors = tuple(replace(tensor, data=None) for tensor in model.tensors)
    assert gather_by_slices(replace(model, tensors=tensors), 0) is None


@few
@given(
    shape=st.lists(st.integers(1, 9), min_size=3, max_size=4), reduced=st.integers(1, 3), keep=st.booleans(),
    negative=st.booleans(),
)  # fmt: skip
def test_means_over_the_last_axes(shape: list[int], reduced: int, *, keep: bool, negative: bool) -> None:
    rank = len(shape)
    assume(reduced < rank)
    axes = [axis - rank if negative else axis for axis in range(rank - reduced, rank)]
    model = nets.mean(axes, shape, keep=keep)
    assert_same(model, mean_of_lines(model, 0))


@pytest.mark.parametrize("axes", [[1, 2], [1], [1, 3], [0, 1, 2, 3]])
def test_means_over_other_axes_are_left_alone(axes: list[int]) -> None:
    assert mean_of_lines(nets.mean(axes), 0) is None


@few
@given(
    shape=st.tuples(st.integers(2, 5), st.integers(1, 9), st.integers(1, 9), st.integers(1, 5)),
    axes=st.sampled_from([[1, 2], [1], [-2], [2, 1]]), keep=st.booleans(),
)  # fmt: skip
def test_means_of_several_pictures(shape: tuple[int, int, int, int], axes: list[int], *, keep: bool) -> None:
    model = nets.mean(axes, shape, keep=keep)
    assert_same(model, mean_of_each(model, 0))


@pytest.mark.parametrize(("axes", "pictures"), [([1, 2], 1), ([1, 2], 17), ([0, 1], 4), ([2, 3], 4)])
def test_other_means_of_pictures_are_left_alone(axes: list[int], pictures: int) -> None:
    assert mean_of_each(nets.mean(axes, (pictures, 4, 4, 3)), 0) is None


@few
@given(
    rows=st.integers(1, 4), columns=st.integers(1, 4), shape=st.tuples(*[st.integers(1, 9)] * 4),
    mode=st.sampled_from(["", "halfPixelCenters", "alignCorners"]),
)  # fmt: skip
def test_nearest_neighbours_by_whole_factors(
    rows: int, columns: int, shape: tuple[int, int, int, int], mode: str
) -> None:
    assume(rows * columns > 1)
    model = nets.nearest(rows * shape[1], columns * shape[2], shape, **({mode: True} if mode else {}))
    rewritten = repeat_pixels(model, 0)
    assume(rewritten is not None)
    assert_same(model, rewritten)


def test_whole_factors_without_corners_are_always_rewritten() -> None:
    for factor in range(2, 17):
        for half in (False, True):
            wanted = np.arange(20 * factor) // factor
            if np.array_equal(nearest(20, 20 * factor, align_corners=False, half_pixels=half), wanted):
                model = nets.nearest(20 * factor, 20, (1, 20, 20, 1), halfPixelCenters=half)
                assert_same(model, repeat_pixels(model, 0))


@few
@given(
    sizes=st.tuples(st.integers(1, 30), st.integers(1, 30)), shape=st.tuples(*[st.integers(1, 9)] * 4),
    mode=st.sampled_from(["", "halfPixelCenters", "alignCorners"]),
)  # fmt: skip
def test_nearest_neighbours_of_any_size(sizes: tuple[int, int], shape: tuple[int, int, int, int], mode: str) -> None:
    model = nets.nearest(*sizes, shape, **({mode: True} if mode else {}))
    rewritten = repeat_pixels(model, 0)
    assume(max(sizes[0] / shape[1], sizes[1] / shape[2]) <= MAX_FACTOR / 2)
    assert_same(model, rewritten)


def test_an_odd_picture_is_doubled_and_cut() -> None:
    rewritten = repeat_pixels(nets.nearest(13, 15, (1, 7, 8, 4)), 0)
    assert rewritten is not None
    assert [one.type for one in rewritten.operators].count("SLICE") == 2


@pytest.mark.parametrize(("rows", "columns"), [(8 * 17, 8), (8, 8 * 17)])
def test_larger_factors_are_left_alone(rows: int, columns: int) -> None:
    assert repeat_pixels(nets.nearest(rows, columns), 0) is None


def test_too_many_cuts_are_left_alone() -> None:
    assert repeat_pixels(nets.nearest(300, 8, (1, 200, 8, 4)), 0) is None


@pytest.mark.parametrize("block", [1, 2, 3, 4])
def test_blocks(block: int) -> None:
    for kind, apply in (("SPACE_TO_DEPTH", space_to_depth), ("DEPTH_TO_SPACE", depth_to_space)):
        model = nets.blocks(kind, block)
        assert_same(model, apply(model, 0))


def test_a_pad_before_wide_strides_is_shielded() -> None:
    model = nets.padded_convolution()
    assert [operator.type for operator in assert_same(model, shielded(model)).operators] == ["PAD", "PAD", "CONV_2D"]
    assert shielded(nets.convolution(5)) is None


def test_rewrites_in_the_middle_leave_the_rest() -> None:
    model = nets.two_on_cpu()
    rewritten = slice_afterwards(model, 0)
    assert rewritten is not None
    assert rewritten.operators[-2:] == model.operators[-2:]
    assert rewritten.inputs == model.inputs
    assert rewritten.outputs == model.outputs
    names = [tensor.name for tensor in rewritten.tensors]
    assert len(set(names)) == len(names)
    assert all(name.startswith("features/edgewright/") for name in names[len(model.tensors) :])


def advice_for(kind: str, reason: str) -> Suggestion | None:
    model = nets.convolution()
    model = replace(model, operators=(replace(model.operators[0], type=kind),))
    return suggestion(model, CpuOperator(0, "out", kind, reason))


def test_the_table_names_operators_that_exist() -> None:
    named = {kind for one in SUGGESTIONS for kind in one.types}
    assert named <= set(OPERATORS)
    assert all(one.sentence.endswith(".") and len(one.sentence) < 130 for one in SUGGESTIONS)


@pytest.mark.parametrize(
    ("kind", "reason", "words", "automatic"),
    [
        ("CONV_2D", "Unsupported kernel stride: 5, 5", "take every n-th output", True),
        ("CONV_2D", "Operation has tensor with unsupported DataType Float32 (in)", "Quantize the operator", False),
        ("GATHER", "Operation has tensor with unsupported DataType Float32 (in)", "Quantize the operator", False),
        ("DEQUANTIZE", "Unsupported opType", "integer inputs and outputs", False),
        ("GATHER", "axis: 3 != batch_dims: 0", "slice and concatenate", True),
        ("MEAN", "Unsupported depth-reduction.  IFM: 1, 8, 8, 4", "Reshape", True),
        ("MEAN", "Batch > 1: 2, 8, 8, 4", "one picture at a time", True),
        ("RESIZE_BILINEAR", "Scaling matches and operation has unsupported scale-factor=1.6", "Enlarge by 2", False),
        ("CAST", "Unsupported opType", "Ethos-U85", False),
        ("AVERAGE_POOL_2D", "kernel width: 9 out of range", "8 by 8", False),
    ],
)
def test_what_is_suggested(kind: str, reason: str, words: str, *, automatic: bool) -> None:
    advice = advice_for(kind, reason)
    assert advice is not None
    assert words in advice.sentence
    assert (advice.apply is not None) is automatic


def test_nothing_is_suggested_where_nothing_is_known() -> None:
    assert advice_for("TOPK_V2", "Unsupported opType") is None


@pytest.mark.parametrize("kind", sorted({kind for one in SUGGESTIONS if one.apply for kind in one.types}))
@pytest.mark.parametrize("harm", ["no inputs", "absent", "empty", "no rank", "two outputs"])
def test_damaged_operators_are_left_alone(kind: str, harm: str) -> None:
    model = nets.convolution(5)
    operator, tensors = replace(model.operators[0], type=kind, options={"blockSize": 2}), model.tensors
    if harm == "no inputs":
        operator = replace(operator, inputs=())
    elif harm == "absent":
        operator = replace(operator, inputs=(-1,) * 3)
    elif harm == "two outputs":
        operator = replace(operator, outputs=operator.outputs * 2)
    else:
        shape = (0,) * 4 if harm == "empty" else ()
        tensors = tuple(replace(tensor, shape=shape) for tensor in tensors)
    damaged = replace(model, operators=(operator,), tensors=tensors)
    for one in SUGGESTIONS:
        if kind in one.types:
            assert rewrite(damaged, 0, one) is None
