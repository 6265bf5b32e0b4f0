"""Which operators become integer, which tensors are rounded for that, and to which numbers."""

from __future__ import annotations

import numpy as np
import pytest

from edgewright.compiler.faults import NotQuantizable
from edgewright.compiler.graph import Graph
from edgewright.compiler.quantize.encodings import encoding_for, to_integers
from edgewright.compiler.quantize.plan import INTEGER_RANGES, Plan
from edgewright.compiler.quantize.propose import propose
from edgewright.compiler.quantize.scheme import Scheme
from tests.compiler.nets import Net, convolutional, optimised, statistics_of


def plan_of(net: Net, *outputs: str, scheme: Scheme | None = None, **options: object) -> tuple[Graph, Plan]:
    graph = optimised(net.model(*outputs))
    x = np.random.default_rng(5).normal(size=(32, *net.input_shape)).astype(np.float32)
    statistics = statistics_of(graph, {"x": x})
    return graph, propose(graph, statistics, scheme or Scheme(), **options)  # type: ignore[arg-type]


def integer_types(graph: Graph, plan: Plan) -> list[str]:
    return [node.op_type for node in graph.graph if node.name in plan.operators]


def test_a_convolutional_net_is_integer_from_end_to_end() -> None:
    graph, plan = plan_of(convolutional())
    activations = {"Relu", "Clip"}
    everything = [node.op_type for node in graph.graph if node.op_type not in activations]
    assert integer_types(graph, plan) == everything
    assert graph.graph.outputs[0].name not in plan.tensors  # the last sum comes as float at no cost
    named = {value for value in plan.tensors if value == "x" or not value.startswith("conv")}
    assert named | {"conv5_out", "conv4_out"} >= set(plan.tensors)  # a sum before its activation is not rounded


def test_what_is_moved_keeps_its_encoding() -> None:
    net = Net((2, 8, 8), np.random.default_rng(0))
    net.conv(4)
    relu = net.node("Relu", net.here)
    pooled = net.max_pool()
    net.conv(2)
    _, plan = plan_of(net)
    source, moved = plan.tensors[relu], plan.tensors[pooled]
    assert (moved.scale, moved.zero_point, moved.calibrator) == (source.scale, source.zero_point, "shared")


def test_an_addition_between_float_operators_stays_float() -> None:
    net = Net((6,), np.random.default_rng(0))
    net.gemm(6)
    soft = net.node("Softmax", net.here, axis=1)
    net.node("Add", soft, net.constant(np.ones(6, np.float32)))
    net.node("Tanh", net.here)
    graph, plan = plan_of(net)
    assert integer_types(graph, plan) == ["Gemm"]
    assert set(plan.tensors) == {"x"}


def test_movement_behind_the_last_product_stays_float() -> None:
    net = Net((2, 4, 4), np.random.default_rng(0))
    net.conv(3)
    net.shape = (4, 4, 3)
    net.node("Transpose", net.here, perm=[0, 2, 3, 1])
    net.node("Softmax", net.here, axis=3)
    graph, plan = plan_of(net)
    assert integer_types(graph, plan) == ["Conv"]


def test_movement_of_the_input_is_done_on_bytes() -> None:
    net = Net((8, 8, 2), np.random.default_rng(0))
    moved = net.node("Transpose", "x", perm=[0, 3, 1, 2])
    net.shape = (2, 8, 8)
    net.conv(3)
    graph, plan = plan_of(net)
    assert integer_types(graph, plan) == ["Transpose", "Conv"]
    assert plan.tensors[moved].calibrator == "shared"


def test_what_reaches_infinity_is_not_rounded() -> None:
    net = Net((4,), np.random.default_rng(0))
    net.node("Mul", "x", net.constant(np.full(4, 3e38, np.float32)))
    net.gemm(3)
    with pytest.raises(NotQuantizable, match="finite"):
        plan_of(net)


def test_operators_that_are_to_stay_float_do_and_say_why() -> None:
    net = convolutional()
    graph, everything = plan_of(net)
    name = next(iter(everything.operators))
    _, plan = plan_of(net, keep_float={name: "asked for"})
    assert plan.operators[name].compute == "float"
    assert plan.operators[name].reason == "asked for"
    assert {key for key, operator in plan.operators.items() if operator.compute == "int8"} < set(everything.operators)
    assert graph.graph.num_nodes() > len(plan.operators)


def test_a_net_without_sums_of_products_has_no_plan() -> None:
    net = Net((4,), np.random.default_rng(0))
    net.node("Tanh", "x")
    with pytest.raises(NotQuantizable, match="no convolution, Gemm or MatMul"):
        plan_of(net)


def test_per_tensor_and_sixteen_bits_are_as_asked() -> None:
    _, plan = plan_of(convolutional(), scheme=Scheme(per_channel=False, activations="int16"))
    weights = [operator.weight for operator in plan.operators.values() if operator.weight is not None]
    assert weights
    assert all(weight.axis is None and len(weight.scale) == 1 for weight in weights)
    assert {operator.compute for operator in plan.operators.values()} == {"int16"}
    assert {encoding.type for encoding in plan.tensors.values()} == {"int16"}


@pytest.mark.parametrize("kind", ["uint8", "int8", "uint16", "int16"])
@pytest.mark.parametrize(
    ("low", "high"), [(0.0, 6.0), (-1.0, 1.0), (-3.0, 0.5), (2.0, 5.0), (-1e-20, 1e-20), (0.0, 0.0)]
)
def test_zero_is_exact_and_the_range_is_held(kind: str, low: float, high: float) -> None:
    encoding = encoding_for(low, high, kind)  # type: ignore[arg-type]
    least, greatest = INTEGER_RANGES[kind]
    assert least <= encoding.zero_point <= greatest
    assert to_integers(np.zeros(1, np.float32), encoding)[0] == encoding.zero_point
    assert encoding.low <= low + encoding.scale * 0.501
    assert encoding.high >= high - encoding.scale * 0.501
    assert encoding.scale == float(np.float32(encoding.scale))
