"""A plan as QDQ ONNX: near to the float model, fused whole by the engine, and just what the plan says."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgewright.compiler.faults import NotQuantizable
from edgewright.compiler.graph import Graph, operator_counts, signature, to_bytes
from edgewright.compiler.lower.onnxruntime import Arithmetic, open_session, run
from edgewright.compiler.metrics import snr_db
from edgewright.compiler.quantize.emission import Quantize
from edgewright.compiler.quantize.emit import emit
from edgewright.compiler.quantize.placement import computes_in_integers
from edgewright.compiler.quantize.plan import Encoding, Operator, Plan
from edgewright.compiler.quantize.propose import propose
from edgewright.compiler.quantize.scheme import ActivationType, Scheme
from tests.compiler.nets import Net, convolutional, optimised, statistics_of


def inputs(net: Net, samples: int = 48) -> dict[str, NDArray[np.float32]]:
    return {"x": np.random.default_rng(5).normal(size=(samples, *net.input_shape)).astype(np.float32)}


def planned(graph: Graph, x: dict[str, NDArray[np.float32]], scheme: Scheme | None = None) -> Plan:
    return propose(graph, statistics_of(graph, x), scheme or Scheme())


def outputs(
    graph: Graph, x: dict[str, NDArray[np.float32]], arithmetic: Arithmetic = Arithmetic.EXACT
) -> list[np.ndarray]:
    return list(run(open_session(to_bytes(graph), arithmetic), x).values())


def closeness_db(quantized: Graph, graph: Graph, x: dict[str, NDArray[np.float32]]) -> float:
    pairs = zip(outputs(quantized, x), outputs(graph, x), strict=True)
    return min(snr_db(found, truth) for found, truth in pairs)


def fused_operators(graph: Graph) -> set[str]:
    """What the engine makes of a model, without the layout that fits the CPU at hand."""
    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = str(Path(folder) / "fused.onnx")
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        options.log_severity_level = 4
        onnxruntime.InferenceSession(to_bytes(graph), options, providers=["CPUExecutionProvider"])
        return {node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node}


def test_the_engine_fuses_a_convolutional_net_whole() -> None:
    net = convolutional()
    graph, x = optimised(net.model()), inputs(net)
    plan = planned(graph, x)
    result = Quantize(plan)(graph, plan.scheme)
    assert closeness_db(result.graph, graph, x) > 30
    assert fused_operators(result.graph) == {
        "QuantizeLinear", "QLinearConv", "QLinearAdd", "MaxPool", "QLinearGlobalAveragePool", "Flatten", "QGemm",
    } - ({"Flatten"} if "Flatten" not in operator_counts(graph) else set()) | (
        {"Reshape"} if "Reshape" in operator_counts(graph) else set()
    )  # fmt: skip
    assert not {"Relu", "Clip"} & set(operator_counts(result.graph))
    assert result.evidence["integer_operators"] == len(plan.operators)


def test_the_float_graph_is_left_as_it_was() -> None:
    net = convolutional()
    graph, x = optimised(net.model()), inputs(net)
    before = to_bytes(graph)
    emit(graph, planned(graph, x))
    assert to_bytes(graph) == before


def test_the_same_plan_gives_the_same_bytes() -> None:
    net = convolutional()
    graph, x = optimised(net.model()), inputs(net)
    plan = planned(graph, x)
    assert to_bytes(emit(graph, plan)) == to_bytes(emit(graph, plan))


def test_an_operator_that_the_plan_makes_float_computes_in_float() -> None:
    net = convolutional()
    graph, x = optimised(net.model()), inputs(net)
    plan = planned(graph, x)
    convs = [name for name in plan.operators if name.startswith("conv")]
    floats = {name: Operator(compute="float") for name in convs}
    edited = msgspec.structs.replace(plan, operators=plan.operators | floats)
    result = emit(graph, edited)
    kept = [node for node in result.graph if node.name in convs]
    assert len(kept) == len(convs)
    assert all(node.inputs[1] is not None and node.inputs[1].producer() is None for node in kept)
    assert closeness_db(result, graph, x) > closeness_db(emit(graph, plan), graph, x)


def test_a_result_that_is_an_output_and_is_read_keeps_its_name() -> None:
    net = Net((2, 6, 6), np.random.default_rng(1))
    first = net.conv(4)
    net.conv(3)
    graph, x = optimised(net.model(first, net.here)), inputs(net)
    result = emit(graph, planned(graph, x))
    assert signature(result) == signature(graph)
    assert closeness_db(result, graph, x) > 30


def test_float_readers_of_a_float_tensor_see_floats() -> None:
    net = Net((4,), np.random.default_rng(1))
    squashed = net.node("Tanh", "x")
    net.gemm(4)
    net.node("Add", net.here, squashed)
    net.node("Tanh", net.here)
    graph, x = optimised(net.model()), inputs(net)
    result = emit(graph, planned(graph, x))
    add = next(node for node in result.graph if node.op_type == "Add")
    assert squashed in [value.name for value in add.inputs if value is not None]


@pytest.mark.parametrize("opset", [13, 17, 21, 23])
def test_sixteen_bits_are_nearer_than_eight(opset: int) -> None:
    net = convolutional(opset=opset)
    graph, x = optimised(net.model()), inputs(net)
    eight = closeness_db(emit(graph, planned(graph, x)), graph, x)
    # Weights stay at eight bits, so only what activations lose is won back.
    sixteen = closeness_db(emit(graph, planned(graph, x, Scheme(activations="uint16"))), graph, x)
    assert sixteen > eight + 0.5


@pytest.mark.parametrize("opset", [17, 21])
def test_constants_beside_sixteen_bits_have_them_too(opset: int) -> None:
    net = Net((2, 6, 6), np.random.default_rng(1), opset)
    net.conv(3)
    net.node("Sigmoid", net.here)
    net.node("Add", net.here, net.constant(np.random.default_rng(2).normal(size=(3, 6, 6)).astype(np.float32)))
    net.conv(3)
    graph, x = optimised(net.model()), inputs(net)
    result = emit(graph, planned(graph, x, Scheme(activations="uint16")))
    assert closeness_db(result, graph, x) > 35


def test_a_large_bias_on_weights_near_zero_fits_its_integers() -> None:
    net = Net((2, 4, 4), np.random.default_rng(1))
    weight = np.zeros((3, 2, 3, 3), np.float32)
    weight[1] = 1e-12
    bias = np.array([0.0, 5.0, -7.0], np.float32)
    net.node("Conv", "x", net.constant(weight), net.constant(bias), kernel_shape=[3, 3], pads=[1] * 4)
    net.shape = (3, 4, 4)
    graph, x = optimised(net.model()), inputs(net)
    assert closeness_db(emit(graph, planned(graph, x)), graph, x) > 35


def test_an_activation_whose_bounds_are_narrower_than_the_range_stays() -> None:
    net = Net((2, 4, 4), np.random.default_rng(1))
    net.conv(3)
    clipped = net.node("Clip", net.here, net.constant(np.float32(-0.25)), net.constant(np.float32(0.25)))
    net.conv(3)
    graph, x = optimised(net.model()), inputs(net)
    plan = planned(graph, x)
    wide = Encoding(type="uint8", scale=0.1, zero_point=128)
    edited = msgspec.structs.replace(plan, tensors=plan.tensors | {clipped: wide})
    assert "Clip" in operator_counts(emit(graph, edited))
    assert "Clip" not in operator_counts(emit(graph, plan))


def test_a_quantized_model_is_not_quantized_again() -> None:
    net = convolutional()
    graph, x = optimised(net.model()), inputs(net)
    plan = planned(graph, x)
    with pytest.raises(NotQuantizable, match="quantized already"):
        Quantize(plan)(emit(graph, plan), plan.scheme)


@st.composite
def random_nets(draw: st.DrawFn) -> Net:
    """Chains of convolutions of all kinds with residual branches and concatenations, pooled, dense at the end."""
    net = Net((draw(st.integers(1, 5)), 9, 7), np.random.default_rng(draw(st.integers(0, 2**16))))
    for _ in range(draw(st.integers(1, 3))):
        before, shape = net.here, net.shape
        kind = draw(st.sampled_from(["plain", "depthwise", "residual", "concat", "pool"]))
        if kind == "pool" and min(net.shape[1:]) > 2:
            net.max_pool()
        elif kind == "depthwise":
            net.conv(net.shape[0], groups=net.shape[0])
        elif kind == "residual":
            net.conv(shape[0])
            net.node("Add", net.here, before)
        elif kind == "concat":
            net.conv(4)
            net.node("Concat", net.here, before, axis=1)
            net.shape = (4 + shape[0], *shape[1:])
        else:
            net.conv(draw(st.integers(1, 7)), kernel=draw(st.sampled_from([1, 3])), stride=draw(st.integers(1, 2)))
        if draw(st.booleans()):
            net.node(draw(st.sampled_from(["Relu", "Sigmoid", "Tanh"])), net.here)
    if draw(st.booleans()):
        net.conv(3)
    else:
        net.flatten()
        net.gemm(4)
    return net


@settings(deadline=None, max_examples=40)
@given(
    random_nets(),
    st.sampled_from([Scheme(), Scheme(activations="int8"), Scheme(weights="uint8"), Scheme(per_channel=False)]),
)
def test_any_net_stays_near_its_float_model(net: Net, scheme: Scheme) -> None:
    graph, x = optimised(net.model()), inputs(net)
    plan = planned(graph, x, scheme)
    result = Quantize(plan)(graph, scheme).graph
    assert closeness_db(result, graph, x) > 22
    open_session(to_bytes(result), Arithmetic.ENGINE)


def squeeze_and_excite() -> Net:
    """As in MobileNetV3: HardSwish, and channels scaled by a HardSigmoid of their means."""
    net = Net((3, 12, 12), np.random.default_rng(3))
    net.conv(8, stride=2)
    features = net.node("HardSwish", net.here)
    shape = net.shape
    net.shape = (8, 1, 1)
    net.node("GlobalAveragePool", net.here)
    net.conv(8, kernel=1)
    gate = net.node("HardSigmoid", net.here, alpha=1 / 6)
    net.shape = shape
    net.node("Mul", features, gate)
    net.conv(4)
    return net


@pytest.mark.parametrize("activations", ["uint8", "int8"])
def test_hard_swish_and_hard_sigmoid_are_integer_additions(activations: ActivationType) -> None:
    net = squeeze_and_excite()
    graph, x = optimised(net.model()), inputs(net)
    plan = planned(graph, x, Scheme(activations=activations))
    result = emit(graph, plan)
    assert closeness_db(result, graph, x) > 30
    assert snr_db(outputs(result, x, Arithmetic.ENGINE)[0], outputs(result, x)[0]) > 45
    if activations == "uint8":
        kinds = {"QLinearConv", "QLinearAdd", "QLinearMul", "QLinearGlobalAveragePool"}
        assert fused_operators(result) == kinds | {"QuantizeLinear", "DequantizeLinear"}


@pytest.mark.parametrize("attributes", [{"alpha": -0.2}, {"beta": 0.0}])
def test_a_hard_sigmoid_that_scales_cannot_hold_stays_float(attributes: dict[str, float]) -> None:
    net = Net((3, 8, 8), np.random.default_rng(3))
    net.conv(4)
    net.node("HardSigmoid", net.here, **attributes)
    net.conv(4)
    graph, x = optimised(net.model()), inputs(net)
    result = emit(graph, planned(graph, x))
    assert operator_counts(result)["HardSigmoid"] == 1
    assert closeness_db(result, graph, x) > 30


def test_a_hard_sigmoid_whose_encoding_is_wider_than_its_result_keeps_clipping() -> None:
    net = squeeze_and_excite()
    graph, x = optimised(net.model()), inputs(net)
    plan = planned(graph, x)
    gates = [node.outputs[0].name or "" for node in graph.graph if node.op_type == "HardSigmoid"]
    wide = Encoding(type="uint8", scale=4 / 255, zero_point=100, calibrator="given")
    widened = msgspec.structs.replace(plan, tensors=plan.tensors | dict.fromkeys(gates, wide))
    result = emit(graph, widened)
    assert operator_counts(result)["HardSigmoid"] == len(gates) == 2
    assert closeness_db(result, graph, x) > 20


@pytest.mark.parametrize(
    ("operator", "attributes"),
    [
        ("ConvTranspose", {"strides": [2, 2]}),
        ("Elu", {}),
        ("Resize", {"mode": "linear"}),
        ("HardSigmoid", {"beta": 0.0}),
    ],
)
def test_between_quantizers_only_operators_with_kernels_count_as_integer(
    operator: str, attributes: dict[str, Any]
) -> None:
    net = Net((3, 8, 8), np.random.default_rng(3))
    net.conv(4)
    if operator == "ConvTranspose":
        others = [net.weight(4, 4, 2, 2)]
    else:
        others = ["", net.constant(np.array([1, 1, 2, 2], np.float32))] if operator == "Resize" else []
    net.shape = (4, 16, 16) if operator in {"ConvTranspose", "Resize"} else net.shape
    net.node(operator, net.here, *others, **attributes)
    net.conv(4)
    graph, x = optimised(net.model()), inputs(net)
    result = emit(graph, planned(graph, x))
    assert [node.op_type for node in result.graph if computes_in_integers(node)] == ["Conv", "Conv"]
    assert operator in fused_operators(result)
