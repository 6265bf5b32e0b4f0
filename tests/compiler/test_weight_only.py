"""Weight-only int8 and int4: files shrink, the engine keeps weights small, and results stay close to float."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto

from edgewright.compiler.faults import NotQuantizable, PlanError
from edgewright.compiler.graph import (
    IR_VERSION,
    Graph,
    from_proto,
    operator_counts,
    signature,
    to_bytes,
    to_proto,
)
from edgewright.compiler.lower.onnxruntime import Arithmetic
from edgewright.compiler.quantize.opset import raised
from edgewright.compiler.quantize.plan import Operator, Plan
from edgewright.compiler.quantize.planfile import check_plan, parse_plan, write_plan
from edgewright.compiler.quantize.scheme import Scheme
from edgewright.compiler.quantize.uncalibrated.blocks import blocked_encoding, blocked_integers, blocked_weights
from edgewright.compiler.quantize.uncalibrated.dynamic import emit_dynamic, propose_dynamic
from edgewright.compiler.quantize.uncalibrated.rewrite import constant
from edgewright.compiler.quantize.uncalibrated.weight_only import emit_weights, propose_weights
from edgewright.compiler.quantize.weights import symmetric_encoding
from edgewright.targets.faults import UserFault
from tests.compiler.product_nets import (
    WIDTH,
    Net,
    encoder,
    fidelity_db,
    fused_operators,
    ids,
    outputs,
    pairs,
    perceptron,
)

INT8 = Scheme(method="weights", weights="int8")
INT4 = Scheme(method="weights", weights="int4")


def stored(graph: Graph, scheme: Scheme) -> Graph:
    return emit_weights(graph, propose_weights(graph, scheme))


@pytest.mark.parametrize(
    ("scheme", "floor_db", "share"),
    [
        (INT8, 37, 0.31),  # measured: 39.9 dB
        (INT4, 16, 0.23),  # measured: 18.1 dB
        (Scheme(method="weights", weights="int4", block_size=16), 17, 0.25),
    ],
    ids=lambda value: value.name if isinstance(value, Scheme) else None,
)
def test_an_encoder_shrinks_and_stays_close(scheme: Scheme, floor_db: float, share: float) -> None:
    graph = encoder()
    result = stored(graph, scheme)
    assert signature(result) == signature(graph)
    assert result.ir_version == IR_VERSION
    assert len(to_bytes(result)) < share * len(to_bytes(graph))
    assert fidelity_db(result, graph, ids()) > floor_db
    assert fidelity_db(result, graph, ids(1, 3), Arithmetic.EXACT) > floor_db
    onnx.checker.check_model(to_proto(result), full_check=True)


@pytest.mark.parametrize("scheme", [INT8, INT4], ids=["int8", "int4"])
def test_onnx_runtime_keeps_weights_small(scheme: Scheme, tmp_path: Path) -> None:
    found = fused_operators(stored(encoder(), scheme), tmp_path)
    assert found["MatMulNBits"] == 13
    assert found["DequantizeLinear"] == 0
    found = fused_operators(stored(perceptron(), scheme), tmp_path)
    assert found["MatMulNBits"] == 3
    assert found["DequantizeLinear"] == 0


Step = Callable[[Net, str], str]


def product_and(operator: str, *others: str) -> Step:
    return lambda net, x: net.call(
        operator, [net.call("MatMul", [x, net.weight("w", 64, 64)], "product"), *others], "h"
    )


def gemm_and(operator: str, *others: str) -> Step:
    def step(net: Net, x: str) -> str:
        product = net.call("Gemm", [x, net.weight("w", 64, 64), net.weight("b", 64)], "product")
        return net.call(operator, [product, *others], "h")

    return step


TRAPS: dict[str, Step] = {
    "added to a matrix": product_and("Add", "r"),
    "activated": product_and("Relu"),
    "with a bias, activated": gemm_and("Relu"),
    "with a bias, added to a matrix": gemm_and("Add", "r"),
    "with a bias, under tanh": gemm_and("Tanh"),
    "a matrix as bias": lambda net, x: net.call("Gemm", [x, net.weight("w", 64, 64), "r"], "h"),
    "bias and activation apart": lambda net, x: net.call("Relu", [net.linear(x, "h", 64, 64)], "active"),
    "no bias": lambda net, x: net.call("Gemm", [x, net.weight("w", 64, 64)], "h"),
    "no bias, activated": lambda net, x: net.call(
        "Relu", [net.call("Gemm", [x, net.weight("w", 64, 64)], "h")], "active"
    ),
}


@pytest.mark.parametrize("step", TRAPS.values(), ids=TRAPS)
@pytest.mark.parametrize("scheme", [INT8, INT4], ids=["int8", "int4"])
def test_products_are_fused_whatever_follows_them(step: Step, scheme: Scheme, tmp_path: Path) -> None:
    """ONNX Runtime fuses products with what follows before it looks for dequantizers."""
    net = Net(2)
    net.call("MatMul", [step(net, "x"), net.weight("last", 64, 8)], "y")
    kinds: dict[str, tuple[int, list[Any]]] = {"x": (TensorProto.FLOAT, ["N", 64]), "r": (TensorProto.FLOAT, ["N", 64])}
    graph = net.graph(kinds, {"y": ["N", 8]})
    result = stored(graph, scheme)
    found = fused_operators(result, tmp_path)
    assert (found["MatMulNBits"], found["DequantizeLinear"]) == (2, 0)
    random = np.random.default_rng(0)
    arrays = {name: random.normal(size=(16, 64)).astype(np.float32) for name in ("x", "r")}
    assert fidelity_db(result, graph, arrays) > (15 if scheme is INT4 else 35)


@pytest.mark.parametrize("activation", ["Relu", "Clip", "Sigmoid"])
def test_an_activation_behind_a_product_of_rank_3(activation: str, tmp_path: Path) -> None:
    net = Net(2)
    net.call(activation, [net.call("MatMul", ["x", net.weight("w", 64, 64)], "product")], "y")
    graph = net.graph({"x": (TensorProto.FLOAT, ["N", "L", 64])}, {"y": ["N", "L", 64]})
    found = fused_operators(stored(graph, INT8), tmp_path)
    assert (found["MatMulNBits"], found["DequantizeLinear"]) == (1, 0)


def test_the_opset_is_raised_for_int4_only() -> None:
    assert stored(encoder(opset=17), INT8).opset_imports[""] == 17
    assert stored(encoder(opset=17), INT4).opset_imports[""] == 21
    assert stored(encoder(opset=22), INT4).opset_imports[""] == 22


def test_a_raised_graph_computes_the_same() -> None:
    net = Net(3)
    wide = net.call("MatMul", ["x", net.weight("w", 64, 64)], "wide")
    net.call("ReduceMean", [wide], "y", axes=[1], keepdims=1)
    graph = net.graph({"x": (TensorProto.FLOAT, ["N", 64])}, {"y": ["N", 1]})
    before = to_bytes(graph)
    after = raised(graph, 21)
    assert to_bytes(graph) == before
    assert signature(after) == signature(graph)
    assert "w" in after.graph.initializers
    x = {"x": np.random.default_rng(0).normal(size=(5, 64)).astype(np.float32)}
    np.testing.assert_array_equal(outputs(after, x), outputs(graph, x))


def test_two_inputs_and_a_transposed_weight() -> None:
    graph = perceptron()
    assert fidelity_db(stored(graph, INT8), graph, pairs()) > 37
    assert fidelity_db(stored(graph, INT4), graph, pairs()) > 16


def test_rows_of_a_table_are_int8_and_gathered_before_they_become_float() -> None:
    net = Net(4)
    net.call("Gather", [net.weight("table", 200, WIDTH), "ids"], "y")
    graph = net.graph({"ids": (TensorProto.INT64, ["B", "L"])}, {"y": ["B", "L", WIDTH]})
    result = stored(graph, INT4)
    assert operator_counts(result) == {"Cast": 1, "Gather": 2, "Mul": 1}
    assert len(to_bytes(result)) < 0.3 * len(to_bytes(graph))
    some = {"ids": np.random.default_rng(0).integers(0, 200, (2, 7))}
    assert fidelity_db(result, graph, some) > 40
    assert signature(result) == signature(graph)


def test_a_table_that_someone_reads_as_float_is_not_stored_twice() -> None:
    net = Net(5)
    rows = net.call("Gather", [net.weight("table", 200, WIDTH), "ids"], "rows")
    turned = net.call("Transpose", ["table"], "turned", perm=[1, 0])
    net.call("MatMul", [net.call("MatMul", [rows, net.weight("w", WIDTH, WIDTH)], "mixed"), turned], "y")
    graph = net.graph({"ids": (TensorProto.INT64, ["B"])}, {"y": ["B", 200]})
    plan = propose_weights(graph, INT8)
    assert plan.operators["rows"] == Operator(compute="float", reason="another operator needs its weight as float")
    assert plan.operators["mixed"].compute == "weights"
    assert "computed tensors" in plan.operators["y"].reason


def test_a_weight_of_two_products_is_in_the_file_once() -> None:
    net = Net(6)
    net.weight("table", 100, WIDTH)
    first = net.call("Gather", ["table", "ids"], "first")
    net.call("Add", [first, net.call("Gather", ["table", "more"], "second")], "y")
    kinds: dict[str, tuple[int, list[Any]]] = {"ids": (TensorProto.INT64, ["B"]), "more": (TensorProto.INT64, ["B"])}
    result = stored(net.graph(kinds, {"y": ["B", WIDTH]}), INT8)
    assert sorted(result.graph.initializers) == ["table_row_scales", "table_rows"]


def test_convolutions_are_stored_only_where_a_plan_says_so() -> None:
    net = Net(7)
    seen = net.call("Conv", ["x", net.weight("k", 8, 3, 3, 3)], "seen")
    net.call("MatMul", [seen, net.weight("w", 6, 64)], "y")
    graph = net.graph({"x": (TensorProto.FLOAT, ["N", 3, 8, 8])}, {"y": ["N", 8, 6, 64]})
    plan = propose_weights(graph, INT8)
    assert "every call" in plan.operators["seen"].reason
    kernel = graph.graph.initializers["k"].const_value
    assert kernel is not None
    by_hand = Operator(compute="weights", weight=symmetric_encoding(kernel.numpy(), "int8", 0))
    edited = Plan(model_digest=plan.model_digest, scheme=plan.scheme, operators=plan.operators | {"seen": by_hand})
    x = {"x": np.random.default_rng(0).normal(size=(2, 3, 8, 8)).astype(np.float32)}
    result = emit_weights(graph, edited)
    assert operator_counts(result)["DequantizeLinear"] == 2
    assert fidelity_db(result, graph, x) > 38


@pytest.mark.parametrize("rows", [16, 31, 32, 33, 100])
@pytest.mark.parametrize("transposed", [False, True])
def test_blocks_that_end_early(rows: int, transposed: bool) -> None:
    net = Net(8)
    weight = net.weight("w", *((24, rows) if transposed else (rows, 24)))
    net.call("Gemm", ["x", weight], "y", transB=int(transposed))
    graph = net.graph({"x": (TensorProto.FLOAT, ["N", rows])}, {"y": ["N", 24]})
    result = stored(graph, INT4)
    x = {"x": np.random.default_rng(0).normal(size=(8, rows)).astype(np.float32)}
    assert fidelity_db(result, graph, x) > 18
    assert fidelity_db(result, result, x, Arithmetic.EXACT) > 38


def test_channels_of_zeros_give_zeros() -> None:
    net = Net(9)
    weight = net.random.normal(size=(64, 8)).astype(np.float32)
    weight[:, 3] = 0
    net.call("MatMul", ["x", net.constant("w", weight)], "y")
    graph = net.graph({"x": (TensorProto.FLOAT, ["N", 64])}, {"y": ["N", 8]})
    for scheme in (INT8, INT4):
        found = outputs(stored(graph, scheme), {"x": np.ones((2, 64), dtype=np.float32)})
        assert not found[:, 3].any()
        assert found[:, 4].all()


def test_the_scale_search_beats_the_widest_scale_by_a_decibel() -> None:
    weight = np.random.default_rng(0).normal(size=(512, 64)).astype(np.float32)
    blocks = weight.reshape(16, 32, 64)
    widest = np.abs(blocks).max(axis=1, keepdims=True) / 7
    plain_error = np.square(np.rint(blocks / widest) * widest - blocks).sum()
    encoding = blocked_encoding(weight, "int4", 1, 32)
    error = np.square(blocked_weights(blocked_integers(weight, encoding), encoding) - weight).sum()
    assert 10 * np.log10(plain_error / error) > 0.9  # measured: 1.03


def test_nothing_to_store_is_refused() -> None:
    net = Net(10)
    net.call("Relu", ["x"], "y")
    with pytest.raises(NotQuantizable, match="no constant float32 matrix"):
        propose_weights(net.graph({"x": (TensorProto.FLOAT, ["N", 4])}, {"y": ["N", 4]}), INT8)


@pytest.mark.parametrize(
    ("scheme", "words"),
    [
        (Scheme(method="weights", weights="int4", block_size=24), "24"),
        (Scheme(method="weights", weights="uint8"), "uint8"),
    ],
)
def test_schemes_of_other_methods_are_refused(scheme: Scheme, words: str) -> None:
    with pytest.raises(UserFault, match=words):
        propose_weights(encoder(), scheme)


shapes = st.tuples(st.integers(1, 40), st.integers(1, 6))


@settings(max_examples=60, deadline=None)
@given(shapes, st.integers(0, 2**32 - 1))
def test_int4_survives_the_file(shape: tuple[int, int], seed: int) -> None:
    """Two numbers share a byte; an odd count leaves half a byte."""
    integers: NDArray[np.int8] = np.random.default_rng(seed).integers(-8, 8, shape).astype(np.int8)
    net = Net()
    net.call("Relu", ["x"], "y")
    graph = net.graph({"x": (TensorProto.FLOAT, ["N"])}, {"y": ["N"]})
    constant(graph, "packed", integers, ir.DataType.INT4)
    read = from_proto(onnx.load_from_string(to_bytes(graph))).graph.initializers["packed"].const_value
    assert read is not None
    assert read.nbytes == (integers.size + 1) // 2
    np.testing.assert_array_equal(read.numpy().astype(np.int8), integers)


@settings(max_examples=60, deadline=None)
@given(shapes, st.integers(0, 2**32 - 1), st.sampled_from([1, 3, 16, 32]), st.sampled_from([0, 1]))
def test_rounding_is_off_by_no_more_than_half_a_step_or_the_clipped_part(
    shape: tuple[int, int], seed: int, block_size: int, axis: int
) -> None:
    weight = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    encoding = blocked_encoding(weight, "int4", axis, block_size)
    ordered = weight if axis == 1 else weight.T
    integers = blocked_integers(weight, encoding)
    assert integers.shape == ordered.shape
    assert len(encoding.scale) == ordered.shape[1] * -(-len(ordered) // block_size)
    error = np.abs(blocked_weights(integers, encoding) - ordered)
    steps = np.abs(blocked_weights(np.ones_like(integers), encoding))
    inside = (ordered > -8 * steps) & (ordered < 7 * steps)
    assert (error[inside] <= steps[inside] * 0.5001).all()
    assert (np.isin(integers[~inside], (-8, 7))).all()


@settings(max_examples=40, deadline=None)
@given(shapes, st.integers(0, 2**32 - 1), st.sampled_from([0, 1]))
def test_no_block_is_worse_than_with_the_widest_scale(shape: tuple[int, int], seed: int, axis: int) -> None:
    weight = np.random.default_rng(seed).standard_t(2, size=shape).astype(np.float32)
    encoding = blocked_encoding(weight, "int4", axis, max(shape))
    ordered = weight if axis == 1 else weight.T
    widest = np.maximum(np.abs(ordered).max(axis=0) / 7, 1e-30)
    plain = np.square(np.rint(ordered / widest) * widest - ordered).sum(axis=0)
    found = np.square(blocked_weights(blocked_integers(weight, encoding), encoding) - ordered).sum(axis=0)
    assert (found <= plain * 1.0001 + 1e-12).all()


@pytest.mark.parametrize(
    "plan",
    [
        propose_weights(encoder(), INT8),
        propose_weights(encoder(), INT4),
        propose_weights(perceptron(), INT4),
        propose_dynamic(encoder(), Scheme(method="dynamic", guard="pairs")),
    ],
    ids=lambda plan: plan.scheme.name,
)
def test_plans_survive_their_file_and_fit_their_model(plan: Plan) -> None:
    read = parse_plan(write_plan(plan).encode(), "test")
    assert read == plan
    graph = next(
        graph for graph in (encoder(), perceptron()) if set(plan.operators) <= {node.name for node in graph.graph}
    )
    check_plan(read, graph, "test")


def edited(scheme: Scheme, **changes: Any) -> Plan:
    plan = propose_weights(perceptron(), scheme)
    weight = plan.operators["left"].weight
    assert weight is not None
    changed = Operator(compute="weights", weight=msgspec.structs.replace(weight, **changes))
    return Plan(model_digest=plan.model_digest, scheme=scheme, operators=plan.operators | {"left": changed})


def test_a_plan_with_too_few_scales_of_blocks_is_refused() -> None:
    with pytest.raises(PlanError, match="7 weight scales, expected 128 for axis 1"):
        check_plan(edited(INT4, scale=(1.0,) * 7), perceptron(), "test")


@pytest.mark.parametrize("compute", ["weights", "dynamic"])
def test_a_plan_with_scales_along_the_wrong_axis_is_refused(compute: Literal["weights", "dynamic"]) -> None:
    plan = edited(INT8, axis=0, scale=(1.0,) * 48)
    changed = Operator(compute=compute, weight=plan.operators["left"].weight)
    emit = emit_weights if compute == "weights" else emit_dynamic
    with pytest.raises(NotQuantizable, match="along axis 0, but its output channels are axis 1"):
        emit(perceptron(), Plan(model_digest=plan.model_digest, scheme=INT8, operators={"left": changed}))


def test_a_plan_that_stores_unsigned_weights_is_refused() -> None:
    with pytest.raises(NotQuantizable, match="int8 or int4, not as uint8"):
        emit_weights(perceptron(), edited(INT8, type="uint8"))
