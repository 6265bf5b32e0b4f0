"""Half precision: the engine runs it, results stay close, and what would overflow or is not defined stays float32."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgewright.compiler.faults import UnsupportedModel
from edgewright.compiler.frontends.onnx import import_proto
from edgewright.compiler.graph import Graph, from_proto, signature, to_bytes, to_proto
from edgewright.compiler.lower.onnxruntime import Arithmetic
from edgewright.compiler.quantize.half.conversion import Half, ToHalf
from edgewright.compiler.quantize.offer import schemes_for
from edgewright.compiler.quantize.scheme import Scheme
from edgewright.compiler.quantize.uncalibrated.dynamic import emit_dynamic, propose_dynamic
from edgewright.compiler.quantize.uncalibrated.methods import methods_for, products_share, stored_share
from edgewright.targets.board import Board
from edgewright.targets.catalog import load_board
from tests.compiler.conftest import classifier
from tests.compiler.product_nets import Arrays, Net, encoder, fidelity_db, ids, outputs, pairs, perceptron

HALF = Half()
FLOOR_DB = 55.0
"""Measured: 61.9 for the encoder, 69.9 for the perceptron; 11 bits of mantissa give 66 and more for one rounding."""


def half(graph: Graph, options: Half = HALF, **ranges: tuple[float, float]) -> Graph:
    return ToHalf(ranges)(graph, options).graph


def dtype_of(graph: Graph, name: str) -> ir.DataType | None:
    """Of the result that a node of that name gives."""
    return next(node.outputs[0].dtype for node in graph.graph if node.name == name)


def check(graph: Graph) -> None:
    onnx.checker.check_model(to_proto(graph), full_check=True)


@pytest.mark.parametrize(("graph", "arrays"), [(encoder(), ids()), (perceptron(), pairs())], ids=["encoder", "mlp"])
def test_half_the_bytes_and_the_same_answers(graph: Graph, arrays: Arrays) -> None:
    result = half(graph)
    check(result)
    assert signature(result) == signature(graph)
    assert len(to_bytes(result)) < 0.56 * len(to_bytes(graph))
    assert fidelity_db(result, graph, arrays) > FLOOR_DB
    weights = [value.dtype for value in result.graph.initializers.values()]
    assert ir.DataType.FLOAT not in weights


def test_a_convolutional_net() -> None:
    graph = import_proto(classifier(), "test")
    result = half(graph)
    check(result)
    x = {"x": np.random.default_rng(0).normal(size=(4, 1, 8, 8)).astype(np.float32)}
    assert fidelity_db(result, graph, x) > FLOOR_DB
    assert fidelity_db(result, graph, x, Arithmetic.EXACT) > FLOOR_DB


def test_the_graph_that_was_given_stays() -> None:
    graph = encoder()
    before = to_bytes(graph)
    half(graph)
    assert to_bytes(graph) == before


def test_nodes_that_are_kept_stay_float32() -> None:
    graph = perceptron()
    result = half(graph, Half(keep_float=("sum",)))
    check(result)
    assert dtype_of(result, "sum") == ir.DataType.FLOAT
    assert dtype_of(result, "left") == ir.DataType.FLOAT16
    assert dtype_of(result, "hidden") == ir.DataType.FLOAT16
    assert fidelity_db(result, graph, pairs()) > FLOOR_DB


def scaled(factor: float) -> Graph:
    net = Net(1)
    big = net.call("Mul", ["x", net.constant("factor", np.float32(factor))], "big")
    shares = net.call("Softmax", [big], "shares", axis=-1)
    net.call("MatMul", [shares, net.weight("w", 4, 4)], "y")
    return net.graph({"x": (TensorProto.FLOAT, ["N", 4])}, {"y": ["N", 4]})


def test_weights_beyond_the_type_keep_their_operators_and_what_reads_them_float32() -> None:
    graph = scaled(1e6)
    outcome = ToHalf()(graph, HALF)
    check(outcome.graph)
    assert dtype_of(outcome.graph, "big") == ir.DataType.FLOAT
    assert dtype_of(outcome.graph, "shares") == ir.DataType.FLOAT
    assert dtype_of(outcome.graph, "y") == ir.DataType.FLOAT16
    assert "'factor' reaches 1e+06" in str(outcome.evidence["why_float"])
    x = {"x": np.random.default_rng(0).normal(size=(8, 4)).astype(np.float32)}
    assert fidelity_db(outcome.graph, graph, x) > FLOOR_DB


def test_activations_beyond_the_type_stay_float32() -> None:
    graph = scaled(1000.0)
    assert dtype_of(half(graph), "big") == ir.DataType.FLOAT16
    result = half(graph, HALF, big=(-70_000.0, 3.0))
    check(result)
    assert dtype_of(result, "big") == ir.DataType.FLOAT
    assert dtype_of(result, "shares") == ir.DataType.FLOAT
    assert dtype_of(result, "y") == ir.DataType.FLOAT16
    x = {"x": np.full((1, 4), -70.0, dtype=np.float32)}
    assert np.isfinite(outputs(result, x)).all()


def test_masks_of_the_least_float_do_not_become_infinite() -> None:
    net = Net(2)
    net.constant("least", np.float32(np.finfo(np.float32).min))
    masked = net.call("Where", ["mask", "x", "least"], "masked")
    net.call("Softmax", [masked], "y", axis=-1)
    kinds: dict[str, tuple[int, list[Any]]] = {"mask": (TensorProto.BOOL, ["N", 4]), "x": (TensorProto.FLOAT, ["N", 4])}
    result = half(net.graph(kinds, {"y": ["N", 4]}))
    nothing = {"mask": np.zeros((2, 4), dtype=bool), "x": np.ones((2, 4), dtype=np.float32)}
    np.testing.assert_allclose(outputs(result, nothing), 0.25)


def test_operators_that_lose_sums_stay_float32() -> None:
    net = Net(3)
    squares = net.call("Mul", ["x", "x"], "squares")
    net.call("ReduceMean", [squares], "y", axes=[1], keepdims=1)
    graph = net.graph({"x": (TensorProto.FLOAT, ["N", 4096])}, {"y": ["N", 1]})
    outcome = ToHalf()(graph, HALF)
    assert outcome.evidence["float_nodes"] == 1
    assert dtype_of(outcome.graph, "y") == ir.DataType.FLOAT
    x = {"x": np.random.default_rng(0).normal(size=(3, 4096)).astype(np.float32)}
    assert fidelity_db(outcome.graph, graph, x) > FLOOR_DB


def test_slots_that_onnx_wants_in_float32_stay() -> None:
    net = Net(4)
    net.constant("sizes", np.array([1, 1, 2, 2], dtype=np.float32))
    net.nodes.append(helper.make_node("Resize", ["x", "", "sizes"], ["y"], "y", mode="nearest"))
    graph = net.graph({"x": (TensorProto.FLOAT, ["N", 3, 4, 4])}, {"y": ["N", 3, 8, 8]})
    result = half(graph)
    check(result)
    assert result.graph.initializers["sizes"].dtype == ir.DataType.FLOAT
    x = {"x": np.random.default_rng(0).normal(size=(2, 3, 4, 4)).astype(np.float32)}
    assert fidelity_db(result, graph, x) > FLOOR_DB


def test_attributes_that_name_float32_follow() -> None:
    net = Net(5)
    shape = net.call("Shape", ["x"], "shape")
    ones = net.call(
        "ConstantOfShape", [shape], "ones", value=numpy_helper.from_array(np.array([1.5], dtype=np.float32))
    )
    zeros = net.call("ConstantOfShape", [shape], "zeros")
    whole = net.call("Cast", [net.call("Cast", ["x"], "ints", to=TensorProto.INT64)], "whole", to=TensorProto.FLOAT)
    first = net.call("Add", [ones, zeros], "first")
    net.call("Add", [first, whole], "y")
    graph = net.graph({"x": (TensorProto.FLOAT, ["N", 4])}, {"y": ["N", 4]})
    result = half(graph)
    check(result)
    for name in ("ones", "zeros", "whole", "first"):
        assert dtype_of(result, name) == ir.DataType.FLOAT16
    x = {"x": np.array([[1.7, -2.2, 0.0, 9.0]], dtype=np.float32)}
    np.testing.assert_array_equal(outputs(result, x), outputs(graph, x))


def branches() -> Graph:
    """One of two branches that read a value of the outer graph."""

    def branch(name: str, operator: str) -> onnx.GraphProto:
        scale = helper.make_node(operator, ["shifted", "two"], [name], f"{name}.node")
        return helper.make_graph([scale], name, [], [helper.make_tensor_value_info(name, TensorProto.FLOAT, None)])

    net = Net(6)
    net.constant("two", np.float32(2))
    net.call("Add", ["x", "two"], "shifted")
    net.call("If", ["which"], "chosen", then_branch=branch("more", "Mul"), else_branch=branch("less", "Div"))
    net.call("Relu", ["chosen"], "y")
    kinds: dict[str, tuple[int, list[Any]]] = {"x": (TensorProto.FLOAT, ["N", 4]), "which": (TensorProto.BOOL, [])}
    return net.graph(kinds, {"y": ["N", 4]})


@pytest.mark.parametrize("which", [True, False])
def test_subgraphs_are_converted(which: bool) -> None:
    graph = branches()
    result = half(graph)
    check(result)
    arrays = {"x": np.linspace(-3, 3, 8, dtype=np.float32).reshape(2, 4), "which": np.asarray(which)}
    assert dtype_of(result, "chosen") == ir.DataType.FLOAT16
    assert fidelity_db(result, graph, arrays) > FLOOR_DB


def test_a_loop_that_adds_up() -> None:
    body = helper.make_graph(
        [
            helper.make_node("Add", ["sum_in", "step"], ["sum_out"], "body.add"),
            helper.make_node("Identity", ["go_in"], ["go_out"], "body.go"),
        ],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go_in", TensorProto.BOOL, []),
            helper.make_tensor_value_info("sum_in", TensorProto.FLOAT, [4]),
        ],
        [
            helper.make_tensor_value_info("go_out", TensorProto.BOOL, []),
            helper.make_tensor_value_info("sum_out", TensorProto.FLOAT, [4]),
        ],
    )
    net = Net(7)
    net.constant("times", np.int64(5))
    net.constant("go", np.asarray(True))
    net.constant("step", np.float32(0.25))
    net.call("Loop", ["times", "go", "x"], "y", body=body)
    graph = net.graph({"x": (TensorProto.FLOAT, [4])}, {"y": [4]})
    result = half(graph)
    check(result)
    x = {"x": np.arange(4, dtype=np.float32)}
    np.testing.assert_array_equal(outputs(result, x), outputs(graph, x))


def test_control_flow_cannot_be_kept_float32() -> None:
    with pytest.raises(UnsupportedModel, match="subgraphs"):
        half(branches(), Half(keep_float=("chosen",)))


def test_weights_that_vanish_are_counted() -> None:
    net = Net(8)
    net.call("Mul", ["x", net.constant("w", np.array([1e-9, 1.0, 0.0, 1e-9], dtype=np.float32))], "y")
    graph = net.graph({"x": (TensorProto.FLOAT, ["N", 4])}, {"y": ["N", 4]})
    assert ToHalf()(graph, HALF).evidence["weights_rounded_to_zero"] == 2


def test_a_quantized_model_is_refused() -> None:
    graph = perceptron()
    with pytest.raises(UnsupportedModel, match="quantized already"):
        half(emit_dynamic(graph, propose_dynamic(graph, Scheme(method="dynamic"))))


def test_other_floating_point_is_refused() -> None:
    net = Net(9)
    double = net.call("Cast", ["x"], "double", to=TensorProto.DOUBLE)
    net.call("Cast", [double], "y", to=TensorProto.FLOAT)
    graph = net.graph({"x": (TensorProto.FLOAT, ["N"])}, {"y": ["N"]})
    with pytest.raises(UnsupportedModel, match="DOUBLE"):
        half(graph)


def test_bfloat16_needs_a_target_that_has_it(board: Board) -> None:
    options = Half(precision="bfloat16")
    with pytest.raises(UnsupportedModel, match="bfloat16 cannot be made without a target"):
        ToHalf()(encoder(), options)
    with pytest.raises(UnsupportedModel, match=board.name):
        ToHalf()(encoder(), options, board)


def test_bfloat16_where_a_board_has_it(board: Board) -> None:
    result = ToHalf()(encoder(), Half(precision="bfloat16"), with_precisions(board, "float32", "bfloat16")).graph
    check(result)
    assert ir.DataType.BFLOAT16 in {value.dtype for value in from_proto(to_proto(result)).graph.initializers.values()}


@pytest.fixture
def board() -> Board:
    return load_board("raspberry-pi-5")


def with_precisions(board: Board, *precisions: Any) -> Board:

    engines = tuple(msgspec.structs.replace(engine, precisions=precisions) for engine in board.engines)
    changed: Board = msgspec.structs.replace(board, engines=engines)
    return changed


def names(board: Board, graph: Graph) -> list[str]:
    return [method if isinstance(method, str) else method.name for method in methods_for(board, graph)]


def test_methods_for_a_net_of_products(board: Board) -> None:
    assert products_share(encoder()) > 0.9
    assert stored_share(encoder()) > 0.9
    assert names(board, encoder()) == ["int8-dynamic", "int8-weights", "int4-weights"]


def test_plans_of_different_schemes_have_different_names(board: Board) -> None:
    """Targets of one run share plans by their names."""
    offered = {method for name in (board.name, "x86-64-avx2") for method in schemes_for(load_board(name), encoder())}
    assert {scheme.guard for scheme in offered if scheme.method == "dynamic"} == {"none", "pairs"}
    assert len({scheme.name for scheme in offered}) == len(offered)


def test_a_convolutional_net_is_offered_neither(board: Board) -> None:
    graph = import_proto(classifier(), "test")
    assert products_share(graph) < 0.5
    assert not any(name.endswith("dynamic") for name in names(board, graph))


def test_dynamic_weights_are_narrow_where_sums_saturate(board: Board) -> None:
    avx2 = load_board("x86-64-avx2")
    schemes = {method.method: method for method in methods_for(avx2, encoder()) if isinstance(method, Scheme)}
    assert schemes["dynamic"].guard == "pairs"
    assert schemes["weights"].guard == "none"
    exact = [method for method in methods_for(board, encoder()) if isinstance(method, Scheme)]
    assert exact[0].guard == "none"


def test_half_precision_where_the_board_has_it(board: Board) -> None:
    assert names(with_precisions(board, "float32", "float16"), encoder()) == ["float16"]
    assert names(with_precisions(board, "float32", "float16", "bfloat16"), encoder()) == ["float16", "bfloat16"]


def test_a_quantized_model_has_no_other_methods(board: Board) -> None:
    graph = perceptron()
    quantized = emit_dynamic(graph, propose_dynamic(graph, Scheme(method="dynamic")))
    assert methods_for(board, quantized) == ()
