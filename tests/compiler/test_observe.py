"""Calibration sees every float activation of every sample, in bounded memory, whatever the model's shapes."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgewright.compiler.data import Samples
from edgewright.compiler.faults import DataError
from edgewright.compiler.frontends.onnx import import_proto
from edgewright.compiler.graph import Graph
from edgewright.compiler.quantize.calibration import observe
from edgewright.compiler.quantize.calibration.observe import channel_axes, collect, grouped
from edgewright.compiler.quantize.calibration.statistics import Statistics
from edgewright.compiler.quantize.calibration.statistics_file import encode
from edgewright.compiler.scratch import Scratch
from tests.compiler.conftest import classifier

rng = np.random.default_rng(5)


def made(
    nodes: list[onnx.NodeProto],
    inputs: dict[str, tuple[int, list[int | str]]],
    outputs: list[str],
    **weights: np.ndarray,
) -> Graph:
    ports = [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in inputs.items()]
    results = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
    initializers = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, "g", ports, results, initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return import_proto(onnx.shape_inference.infer_shapes(model), "test")


def floats(*shape: int) -> np.ndarray:
    return rng.normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("batch", ["N", 1, 4])
def test_every_activation_of_every_sample_is_seen(batch: str | int, scratch: Scratch) -> None:
    graph = import_proto(classifier(batch), "test")
    pictures = floats(150, 1, 8, 8)
    seen: list[int] = []
    found = collect(graph, Samples({"x": pictures}, None), scratch, seen.append)
    assert sum(seen) == found.samples == 150
    made_by = {value.name for node in graph.graph for value in node.outputs}
    assert set(found.tensors) == {"x"} | made_by
    assert {name: part.histogram.total for name, part in found.tensors.items()} == {
        name: 150 * size
        for name, size in {"x": 64, "c1": 384, "r1": 384, "p1": 96, "f1": 96, "m1": 4, "scores": 4}.items()
    }
    assert (found.tensors["x"].low, found.tensors["x"].high) == (pictures.min(), pictures.max())
    assert found.tensors["r1"].high == found.tensors["c1"].high
    assert set(found.channels) == {("x", 1), ("f1", -1)}
    assert found.channels["x", 1].mean == pytest.approx(pictures.mean(dtype=np.float64), rel=1e-6)
    assert found.channels["f1", -1].high.shape == (96,)


def test_the_order_of_the_samples_does_not_matter(scratch: Scratch) -> None:
    graph = import_proto(classifier(), "test")
    pictures = floats(100, 1, 8, 8)
    forward = collect(graph, Samples({"x": pictures}, None), scratch)
    assert encode(forward) == encode(collect(graph, Samples({"x": pictures[::-1]}, None), scratch))


def test_groups_and_chunks_change_nothing(scratch: Scratch) -> None:
    graph = import_proto(classifier(), "test")
    samples = Samples({"x": floats(70, 1, 8, 8)}, None)
    seen: list[int] = []
    narrow = collect(graph, samples, scratch, seen.append, watched_bytes=2000)
    wide = collect(graph, samples, scratch)
    for name, part in wide.tensors.items():  # an engine may round one row otherwise than many
        assert narrow.tensors[name].histogram.total == part.histogram.total
        assert (narrow.tensors[name].low, narrow.tensors[name].high) == pytest.approx((part.low, part.high), rel=1e-5)
    assert set(narrow.tensors) == set(wide.tensors)
    assert sum(seen) == 70


def test_groups_keep_to_the_limit() -> None:
    assert grouped({"a": 3, "b": 4, "c": 9, "d": 1, "e": 5}, 8) == [{"a": 3, "b": 4}, {"c": 9}, {"d": 1, "e": 5}]
    assert grouped({}, 8) == []


def test_sizes_are_those_of_one_sample(scratch: Scratch) -> None:
    graph = import_proto(classifier(), "test")
    samples = Samples({"x": floats(9, 1, 8, 8)}, None)
    sizes = observe.bytes_per_sample(graph, samples, scratch)
    assert sizes == {"c1": 1536, "r1": 1536, "p1": 384, "f1": 384, "m1": 16, "scores": 16}


def test_free_length_and_whole_numbers(scratch: Scratch) -> None:
    graph = made(
        [
            helper.make_node("Gather", ["table", "tokens"], ["e"], "embed"),
            helper.make_node("MatMul", ["e", "w"], ["y"], "project"),
        ],
        {"tokens": (TensorProto.INT64, ["N", "T"])},
        ["y"],
        table=np.eye(7, 5, dtype=np.float32),
        w=floats(5, 3),
    )
    tokens = rng.integers(0, 7, (11, 13))
    found = collect(graph, Samples({"tokens": tokens}, None), scratch)
    assert set(found.tensors) == {"e", "y"}
    assert found.tensors["y"].histogram.total == 11 * 13 * 3
    shares = [np.mean(tokens == token) for token in range(5)]
    np.testing.assert_allclose(found.channels["e", -1].mean, shares, rtol=1e-6)
    with pytest.raises(DataError, match="cannot run on samples"):
        collect(graph, Samples({"tokens": tokens + 5}, None), scratch)


def test_several_inputs_and_a_first_axis_that_is_not_the_batch(scratch: Scratch) -> None:
    graph = made(
        [
            helper.make_node("Add", ["a", "b"], ["s"], "sum"),
            helper.make_node("Transpose", ["s"], ["t"], "turn", perm=[1, 0]),
            helper.make_node("ReduceMax", ["t"], ["peak"], "peak", keepdims=0),
        ],
        {"a": (TensorProto.FLOAT, ["N", 3]), "b": (TensorProto.FLOAT, ["N", 3])},
        ["peak"],
    )
    a, b = floats(80, 3), floats(80, 3)
    found = collect(graph, Samples({"a": a, "b": b}, None), scratch)
    assert set(found.tensors) == {"a", "b", "s", "t", "peak"}
    assert found.tensors["t"].high == found.tensors["peak"].high == (a + b).max()
    assert found.tensors["t"].histogram.total == 240


def test_padding_to_a_fixed_batch_is_not_counted(scratch: Scratch) -> None:
    graph = made([helper.make_node("Relu", ["x"], ["y"], "r")], {"x": (TensorProto.FLOAT, [4, 2])}, ["y"])
    found = collect(graph, Samples({"x": floats(5, 2)}, None), scratch)
    assert found.tensors["y"].histogram.total == 10


def test_subgraphs_are_left_alone(scratch: Scratch) -> None:
    branches = {
        name: helper.make_graph(
            [helper.make_node(operator, ["x"], [f"{name}_y"], name)],
            name,
            [],
            [helper.make_tensor_value_info(f"{name}_y", TensorProto.FLOAT, ["N", 2])],
        )
        for name, operator in {"then_branch": "Relu", "else_branch": "Neg"}.items()
    }
    graph = made(
        [helper.make_node("If", ["yes"], ["y"], "choice", **branches), helper.make_node("Abs", ["y"], ["z"], "abs")],
        {"x": (TensorProto.FLOAT, ["N", 2])},
        ["z"],
        yes=np.array(True),
    )
    found = collect(graph, Samples({"x": floats(5, 2)}, None), scratch)
    assert {"x", "z"} <= set(found.tensors) <= {"x", "y", "z"}


def test_sequences_are_left_alone(scratch: Scratch) -> None:
    graph = made(
        [
            helper.make_node("SplitToSequence", ["x"], ["s"], "split", axis=1),
            helper.make_node("ConcatFromSequence", ["s"], ["y"], "join", axis=1),
        ],
        {"x": (TensorProto.FLOAT, ["N", 2])},
        ["y"],
    )
    found = collect(graph, Samples({"x": floats(5, 2)}, None), scratch)
    assert "s" not in found.tensors
    assert found.tensors["x"].histogram.total == 10


def test_what_is_not_finite_is_counted(scratch: Scratch) -> None:
    graph = made([helper.make_node("Log", ["x"], ["y"], "l")], {"x": (TensorProto.FLOAT, ["N", 2])}, ["y"])
    found = collect(graph, Samples({"x": np.array([[0, 1], [-1, 1]], np.float32)}, None), scratch)
    assert (found.tensors["y"].not_finite, found.tensors["y"].high) == (2, 0)


def test_a_model_without_nodes_has_its_inputs(scratch: Scratch) -> None:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 2])
    model = helper.make_model(
        helper.make_graph([], "empty", [x], [x]), opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    )
    graph = import_proto(model, "test")
    seen: list[int] = []
    found: Statistics = collect(graph, Samples({"x": floats(5, 2)}, None), scratch, seen.append)
    assert set(found.tensors) == {"x"}
    assert seen == [5]


def test_a_product_over_the_first_axis_has_no_channels() -> None:
    graph = made(
        [helper.make_node("Gemm", ["x", "w"], ["y"], "g", transA=1)],
        {"x": (TensorProto.FLOAT, [4, 2])},
        ["y"],
        w=floats(4, 3),
    )
    assert channel_axes(graph) == {}
