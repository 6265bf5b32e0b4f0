"""Rewrites of nets: what disappears, what must not, and that nothing reads memory that was never written."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgewright.compiler.lower.native.fusion.borders import fold_borders
from edgewright.compiler.lower.native.fusion.epilogues import fuse_epilogues
from edgewright.compiler.lower.native.fusion.fuse import fuse
from edgewright.compiler.lower.native.fusion.links import is_border_fill
from edgewright.compiler.lower.native.fusion.moves import simplify_moves
from edgewright.compiler.lower.native.interpret import run
from edgewright.compiler.lower.native.lowering import lower
from edgewright.compiler.lower.native.net import Alias, Dense, Layer, Move, Net, Tensor
from tests.compiler.native.lowered import check_model, random_inputs
from tests.compiler.nets import Net as Writer
from tests.compiler.nets import optimised


def writer(*shape: int) -> Writer:
    return Writer(shape, np.random.default_rng(0))


def kinds(net: Net) -> list[str]:
    return [type(layer).__name__ for layer in net.layers if not isinstance(layer, Alias)]


def test_activation_and_residual_move_into_the_later_product() -> None:
    net = writer(4, 6, 6)
    before = net.conv(4)
    net.conv(4)
    net.node("Add", net.here, before)
    net.node("Relu", net.here)
    fused = check_model(net.model())
    assert "Map" not in kinds(fused)


def test_a_result_that_someone_else_reads_is_still_made() -> None:
    net = writer(4, 6, 6)
    first = net.conv(4)
    second = net.node("Relu", first)
    check_model(net.model(first, second))


def test_a_result_that_the_caller_sees_is_still_made() -> None:
    net = writer(6)
    first = net.gemm(4)
    check_model(net.model(first, net.node("Relu", first)))


def test_an_activation_of_its_own_argument_is_one_epilogue() -> None:
    net = writer(4, 6, 6)
    x = net.conv(4)
    net.node("Mul", x, net.node("Sigmoid", x))
    assert "Map" not in kinds(check_model(net.model()))


def test_constants_that_change_along_other_axes_stay_maps() -> None:
    net = writer(4, 6, 6)
    net.conv(4)
    net.node("Add", net.here, net.weight(1, 1, 6, 6))
    assert "Map" in kinds(check_model(net.model()))


def test_expressions_do_not_grow_without_end() -> None:
    net = writer(8)
    for _ in range(40):
        net.node("Add", net.here, net.here)
        net.node("Tanh", net.here)
    assert len(check_model(net.model()).layers) > 1


def test_padding_lies_in_the_buffer_of_whoever_makes_the_tensor() -> None:
    net = writer(3, 8, 8)
    net.conv(4)
    net.conv(4, kernel=5)
    net.node("AveragePool", net.here, kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=1)
    fused = check_model(net.model())
    moves = [layer for layer in fused.layers if isinstance(layer, Move)]
    filled = [layer for layer in moves if not layer.inputs]
    assert len(filled) == 2
    assert len(moves) == 4  # two that fill borders, the input, the output


def test_borders_of_different_values_are_not_joined() -> None:
    net = writer(3, 8, 8)
    x = net.conv(4)
    y = net.conv(4)
    net.node("MaxPool", x, kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    net.node("Add", net.here, y)
    check_model(net.model())


def test_the_widest_border_serves_all() -> None:
    net = writer(3, 8, 8)
    x = net.conv(4)
    wide = net.conv(4, kernel=5)
    net.here = x
    net.conv(4, kernel=3)
    net.node("Add", net.here, wide)
    fused = check_model(net.model())
    made = {tensor.name: tensor.border for layer in fused.layers for tensor in layer.outputs}
    assert {(border.top, border.right) for border in made.values()} >= {(2, 2), (0, 0)}


def test_what_the_caller_sees_has_no_border() -> None:
    net = writer(1, 8, 8)
    x = net.node("Relu", net.here)
    net.conv(1)
    fused = check_model(net.model(x, net.here))
    assert not any(tensor.border for tensor in (*fused.inputs, *fused.outputs))


def test_a_flattened_picture_turns_the_weights_instead() -> None:
    net = writer(3, 6, 6)
    net.conv(4)
    net.flatten()
    net.gemm(5)
    fused = check_model(net.model())
    assert kinds(fused) == ["Move", "Convolution", "Dense"]


def test_a_transpose_of_a_transpose_is_no_copy() -> None:
    net = writer(4, 6, 6)
    net.node("Transpose", net.here, perm=[0, 2, 3, 1])
    net.node("Transpose", net.here, perm=[0, 3, 1, 2])
    net.node("Relu", net.here)
    assert kinds(check_model(net.model())) == ["Map"]


def test_a_slice_of_a_transposed_value_is_one_copy() -> None:
    net = writer(4, 6)
    net.node("Transpose", net.here, perm=[0, 2, 1])
    start, stop, axis = (net.constant(np.array([number], np.int64)) for number in (1, 4, 1))
    net.shape = (3, 4)
    net.node("Slice", net.here, start, stop, axis)
    assert kinds(check_model(net.model())) == ["Move"]


@pytest.mark.parametrize("affine", [True, False])
def test_the_parts_of_a_layer_normalization_are_one_layer(affine: bool) -> None:
    net = writer(5, 8)
    net.node("Relu", net.here)
    x = net.here
    centred = net.node("Sub", x, net.node("ReduceMean", x, axes=[-1]))
    squares = net.node("Pow", centred, net.constant(np.float32(2)))
    variance = net.node("Add", net.node("ReduceMean", squares, axes=[-1]), net.constant(np.float32(1e-3)))
    net.node("Div", centred, net.node("Sqrt", variance))
    if affine:
        net.node("Mul", net.here, net.weight(8))
        net.node("Add", net.here, net.weight(8))
    assert kinds(check_model(net.model())) == ["Map", "Normalize"]


def test_a_deviation_along_another_axis_is_left_alone() -> None:
    net = writer(5, 8)
    net.node("Relu", net.here)
    x = net.here
    centred = net.node("Sub", x, net.node("ReduceMean", x, axes=[1]))
    squares = net.node("Mul", centred, centred)
    net.node("Div", centred, net.node("Sqrt", net.node("ReduceMean", squares, axes=[-1])))
    assert "Normalize" not in kinds(check_model(net.model()))


def test_a_deviation_that_is_broadcast_along_rows_is_left_alone() -> None:
    net = writer(8, 8)
    x = net.node("Relu", net.here)
    centred = net.node("Sub", x, net.node("ReduceMean", x, axes=[-1]))
    squares = net.node("Mul", centred, centred)
    net.node("Div", centred, net.node("Sqrt", net.node("ReduceMean", squares, axes=[-1], keepdims=0)))
    assert "Normalize" not in kinds(check_model(net.model(batch=1), batch=1))


@pytest.mark.parametrize("rewrite", [simplify_moves, fuse_epilogues, fold_borders])
def test_every_rewrite_alone_keeps_the_answers(rewrite: Any) -> None:
    net = writer(3, 9, 9)
    before = net.conv(6)
    net.conv(6, groups=6)
    net.node("HardSwish", net.here)
    net.conv(6, kernel=1)
    net.node("Add", net.here, before)
    net.max_pool()
    net.flatten()
    net.gemm(4)
    plain = lower(optimised(net.model()), 2)
    feeds = random_inputs(plain, np.random.default_rng(0))
    for name, array in run(rewrite(plain), feeds).items():
        np.testing.assert_allclose(array, run(plain, feeds)[name], rtol=1e-12, atol=1e-12)


def test_fusing_twice_changes_nothing() -> None:
    net = writer(3, 9, 9)
    net.conv(6)
    net.conv(6)
    once = fuse(lower(optimised(net.model()), 1))
    assert kinds(fuse(once)) == kinds(once)


def test_layers_that_nobody_reads_are_left_out() -> None:
    x, y, z = (Tensor(name, (2, 3)) for name in "xyz")
    weight = np.ones((3, 3), np.float32)
    layers: tuple[Layer, ...] = (Dense(x=x, y=y, weight=weight), Dense(x=x, y=z, weight=weight))
    assert fuse(Net((x,), (z,), layers)).layers == layers[1:]


def test_an_activation_goes_before_the_data_movement_of_a_transposed_convolution() -> None:
    net = writer(4, 5, 6)
    net.node("ConvTranspose", net.here, net.weight(4, 3, 2, 2), strides=[2, 2])
    net.shape = (3, 10, 12)
    net.node("Mul", net.here, net.node("Sigmoid", net.here))
    assert "Map" not in kinds(check_model(net.model()))


def test_a_concatenation_that_is_padded_is_one_copy() -> None:
    net = writer(4, 6, 6)
    first, second = net.conv(4), net.conv(4)
    net.node("Concat", first, second, axis=1)
    net.shape = (8, 6, 6)
    net.conv(4)
    moves = [layer for layer in check_model(net.model()).layers if isinstance(layer, Move)]
    assert sum(not is_border_fill(layer) for layer in moves) == 3, "the picture in and out, and the concatenation"


def test_a_choice_by_a_comparison_is_part_of_the_product() -> None:
    net = writer(6)
    x = net.gemm(4)
    small = net.node("Less", x, net.constant(np.float32(0.5)))
    net.node("Where", small, net.node("Exp", x), x)
    assert kinds(check_model(net.model())) == ["Dense"]


def test_moved_data_that_someone_else_reads_stays_without_the_activation() -> None:
    net = writer(4, 5, 6)
    raw = net.node("ConvTranspose", net.here, net.weight(4, 3, 2, 2), strides=[2, 2])
    net.shape = (3, 10, 12)
    check_model(net.model(net.node("Relu", raw), net.node("Neg", raw)))


def test_a_copy_that_fills_its_result_writes_over_no_border() -> None:
    net = writer(4, 6, 6)
    net.conv(4)
    net.node("Pad", net.here, net.constant(np.array([0, 0, 1, 1, 0, 0, 1, 1])), net.constant(np.float32(3)))
    net.shape = (4, 8, 8)
    net.conv(4)
    check_model(net.model())
