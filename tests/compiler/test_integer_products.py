"""Exact sums of MatMulInteger, on machines whose own kernel saturates too."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edgewright.compiler.graph import from_proto
from edgewright.compiler.lower.integer_products import in_floats
from edgewright.compiler.lower.model_file import DATA, MODEL, LargeModel
from edgewright.compiler.lower.onnxruntime import Arithmetic, open_session


def product(left: np.ndarray, right: np.ndarray, *zeros: np.ndarray) -> onnx.ModelProto:
    given = {"b": right} | dict(zip(("a_zero", "b_zero"), zeros, strict=False))
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["a", *given], ["y"], "product")],
        "g",
        [helper.make_tensor_value_info("a", helper.np_dtype_to_tensor_dtype(left.dtype), left.shape)],
        [helper.make_tensor_value_info("y", TensorProto.INT32, None)],
        [numpy_helper.from_array(array, name) for name, array in given.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def operators(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


@given(signed=st.booleans(), with_zeros=st.integers(0, 2), columns=st.booleans(), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=40)
def test_sums_are_exact_on_every_machine(signed: bool, with_zeros: int, columns: bool, seed: int) -> None:
    random = np.random.default_rng(seed)
    kind = np.int8 if signed else np.uint8
    ends = [np.iinfo(kind).min, 3, np.iinfo(kind).max]
    left = random.choice(ends, (4, 10)).astype(kind)
    right = random.choice([-128, 127], (10, 3)).astype(np.int8)
    zeros = [np.array(7, kind), np.array([1, -2, 3] if columns else 5, np.int8)][:with_zeros]
    model = product(left, right, *zeros)
    wide = [array.astype(np.int64) for array in zeros] + [np.int64(0)] * 2
    wanted = (left.astype(np.int64) - wide[0]) @ (right.astype(np.int64) - wide[1])
    found = open_session(model.SerializeToString(), Arithmetic.EXACT).run(None, {"a": left})[0]
    assert found.dtype == np.int32
    assert found.tolist() == wanted.tolist()


def test_no_kernel_that_may_saturate_is_left() -> None:
    model = product(np.zeros((2, 4), np.uint8), np.zeros((4, 3), np.int8), np.array([9], np.uint8))
    assert in_floats(model)
    assert "MatMulInteger" not in operators(model)
    assert not in_floats(model)


def test_zero_points_of_rows_are_left_as_they_are() -> None:
    left, zeros = np.full((2, 4), 9, np.uint8), np.array([1, 2], np.uint8)
    model = product(left, np.ones((4, 3), np.int8), zeros)
    assert not in_floats(model)
    assert operators(model) == ["MatMulInteger"]


def test_products_of_branches_count() -> None:
    inner = product(np.zeros((2, 4), np.uint8), np.zeros((4, 3), np.int8)).graph
    del inner.input[:]
    graph = helper.make_graph(
        [helper.make_node("If", ["c"], ["y"], "if", then_branch=inner, else_branch=inner)],
        "g",
        [
            helper.make_tensor_value_info("a", TensorProto.UINT8, [2, 4]),
            helper.make_tensor_value_info("c", TensorProto.BOOL, []),
        ],
        [helper.make_tensor_value_info("y", TensorProto.INT32, None)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    assert in_floats(model)
    assert all("MatMulInteger" not in [node.op_type for node in each.g.node] for each in model.graph.node[0].attribute)
    inputs = {"a": np.ones((2, 4), np.uint8), "c": np.array(True)}
    assert not open_session(model.SerializeToString(), Arithmetic.EXACT).run(None, inputs)[0].any()


@pytest.mark.parametrize("value", [0, 255])
def test_weights_beside_the_model_stay_there(tmp_path: Path, value: int) -> None:
    left, right = np.full((2, 64), value, np.uint8), np.full((64, 32), 127, np.int8)
    path = tmp_path / MODEL
    onnx.save(product(left, right), path, save_as_external_data=True, location=DATA, size_threshold=16)
    assert (tmp_path / DATA).stat().st_size >= right.nbytes
    found = open_session(LargeModel(path, from_proto(onnx.load(path))), Arithmetic.EXACT).run(None, {"a": left})[0]
    assert (found == 64 * value * 127).all()
