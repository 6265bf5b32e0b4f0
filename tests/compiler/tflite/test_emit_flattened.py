"""Flattened pictures stay as they lie only where the products behind them can read their weights so."""

from __future__ import annotations

import numpy as np
import pytest

from edgewright.compiler.frontends.onnx import import_proto
from tests.compiler.nets import Net
from tests.compiler.tflite.single_operator import Case, check_float, kinds


def flattened(activation: str = "") -> Net:
    """A convolution, sometimes something that stays float behind it, and its picture as a row."""
    net = Net((3, 4, 5), np.random.default_rng(1))
    net.conv(6)
    if activation:
        net.node(activation, net.here)
    net.flatten()
    return net


def rounded(net: Net, scale: float = 0.05) -> None:
    read = (net.constant(np.float32(scale)), net.constant(np.array(7, np.int8)))
    net.node("DequantizeLinear", net.node("QuantizeLinear", net.here, *read), *read)


def case_of(net: Net, batch: int = 1) -> Case:
    random = np.random.default_rng(2)
    shapes = {"x": (batch, *net.input_shape)} | {name: (batch, *shape) for name, shape in net.more_inputs.items()}
    inputs = {name: random.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    return Case(import_proto(net.model(batch=batch), "net"), inputs)


@pytest.mark.parametrize("activation", ["", "Softplus"])
@pytest.mark.parametrize("stored", [False, True])
def test_rows_rounded_behind_floats_meet_their_weights(activation: str, stored: bool) -> None:
    net = flattened(activation)
    rounded(net)
    if stored:
        weight = net.constant(net.random.integers(-127, 128, (120, 5)).astype(np.int8))
        here = net.here
        matrix = net.node(
            "DequantizeLinear", weight, net.constant(np.float32(0.01)), net.constant(np.array(0, np.int8))
        )
    else:
        here, matrix = net.here, net.weight(120, 5)
    net.shape = (5,)
    net.node("MatMul", here, matrix)
    assert "TRANSPOSE" not in kinds(check_float(case_of(net)))[1:]


def test_a_computed_matrix_meets_the_row_in_the_graphs_order() -> None:
    net = flattened()
    row = net.here
    net.more_inputs["z0"] = (120, 5)
    matrix = net.node("Reshape", "z0", net.constant(np.array([120, 5], np.int64)))
    net.shape = (5,)
    net.node("MatMul", row, matrix)
    check_float(case_of(net))


def test_a_turned_row_meets_its_weight() -> None:
    net = flattened()
    row = net.here
    net.node("Gemm", row, net.weight(2, 5), transA=1)
    net.shape = (120, 5)
    model = net.model(batch=2)
    del model.graph.output[0].type.tensor_type.shape.dim[:]
    for size in (120, 5):
        model.graph.output[0].type.tensor_type.shape.dim.add().dim_value = size
    x = np.random.default_rng(2).normal(size=(2, 3, 4, 5)).astype(np.float32)
    check_float(Case(import_proto(model, "net"), {"x": x}))


def test_reciprocal_roots_are_one_operator() -> None:
    net = Net((7,), np.random.default_rng(1))
    net.node("Abs", net.here)
    root = net.node("Sqrt", net.here)
    net.node("Reciprocal", root)
    assert kinds(check_float(case_of(net))) == ["ABS", "RSQRT"]
    net.node("Add", net.here, root)
    assert kinds(check_float(case_of(net))) == ["ABS", "SQRT", "RSQRT", "ADD"]


@pytest.mark.parametrize("sizes", [(2, 0, 4), (0, 6), (0, 3, 0, 3)])
def test_empty_parts_that_nobody_reads_are_left_out(sizes: tuple[int, ...]) -> None:
    net = Net((6, 3, 2), np.random.default_rng(1))
    net.node("Split", "x", net.constant(np.array(sizes, np.int64)), axis=1)
    names = [f"part{index}" for index in range(len(sizes))]
    del net.nodes[-1].output[:]
    net.nodes[-1].output.extend(names)
    full = [name for name, size in zip(names, sizes, strict=True) if size]
    net.shapes.clear()
    net.shape = (6, 3, 2)
    net.node("Concat", *reversed(full), axis=1)
    assert "SPLIT" not in kinds(check_float(case_of(net))) or len(set(sizes) - {0}) == 1


def test_a_matrix_times_itself_is_read_from_two_tensors() -> None:
    net = Net((8, 8, 8), np.random.default_rng(1))
    net.node("MatMul", "x", "x")
    assert kinds(check_float(case_of(net, batch=3))) == ["RESHAPE", "BATCH_MATMUL"]
