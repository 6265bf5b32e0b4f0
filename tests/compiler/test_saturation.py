"""Guards against 16-bit pair sums: no pair overflows, nothing else is touched, and little is lost."""

from __future__ import annotations

import msgspec
import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edgewright.compiler.graph import Graph, from_proto, to_bytes
from edgewright.compiler.lower.emulator import Emulator
from edgewright.compiler.quantize.calibration.statistics import ChannelStatistics, Statistics
from edgewright.compiler.quantize.emit import emit
from edgewright.compiler.quantize.plan import Encoding, Operator, Plan
from edgewright.compiler.quantize.saturation.balanced_rounding import balanced
from edgewright.compiler.quantize.saturation.guard import guarded, saturating_operators
from edgewright.compiler.quantize.saturation.pair_limits import LIMIT, as_matrix, excess, within_limits
from edgewright.compiler.quantize.scheme import Guard, Scheme, WeightType
from edgewright.compiler.quantize.weights import restored, rounded, symmetric_encoding
from edgewright.targets.accumulation import exact, neighbours, saturating

CHANNELS, OUTPUTS, SIDE = 6, 8, 5


@settings(deadline=None)
@given(seed=st.integers(0, 2**32 - 1), inputs=st.integers(1, 7), positions=st.integers(1, 9))
def test_limited_weights_never_overflow_and_move_only_where_they_must(seed: int, inputs: int, positions: int) -> None:
    random = np.random.default_rng(seed)
    rows = random.integers(-127, 128, (5, inputs * positions)).astype(np.int32)
    peaks = np.repeat(random.integers(1, 256, inputs), positions).astype(np.int32) * np.ones((5, 1), np.int32)
    limited = within_limits(rows, peaks, positions)
    over = excess(rows, peaks, positions)
    for output, index in np.ndindex(*over.shape):
        pair = list(neighbours(inputs, positions)[index])
        before, after, top = rows[output, pair], limited[output, pair], peaks[output, pair]
        worst = max((np.maximum(after, 0) * top).sum(), (np.maximum(-after, 0) * top).sum())
        assert worst <= LIMIT
        assert (over[output, index] > 0) == (after != before).any()
        assert (np.abs(after) <= np.abs(before)).all()
        assert (after * before >= 0).all()
        if over[output, index]:
            assert worst > LIMIT - top.max()
            given_up = (np.abs(before) - np.abs(after)) * top
            assert abs(given_up[0] - given_up[1]) <= 2 * top.sum()


@settings(deadline=None)
@given(seed=st.integers(0, 2**32 - 1), inputs=st.integers(1, 7), positions=st.integers(1, 9))
def test_balanced_errors_cancel_in_every_kernel_and_channel(seed: int, inputs: int, positions: int) -> None:
    steps = np.random.default_rng(seed).uniform(-126, 126, (4, inputs * positions))
    errors = balanced(steps, positions) - steps
    assert np.abs(errors).max() < 1
    assert np.abs(errors.sum(axis=1)).max() <= 0.5 + 1e-9
    assert np.abs(errors.reshape(4, inputs, positions).sum(axis=2)).max() <= 1.5 + 1e-9


def test_peaks_of_a_grouped_convolution_go_to_their_group() -> None:
    peaks, positions = as_matrix((4, 2, 3), 0, (1, 2, 3, 4))
    assert positions == 3
    np.testing.assert_array_equal(peaks, [[1, 1, 1, 2, 2, 2]] * 2 + [[3, 3, 3, 4, 4, 4]] * 2)


def conv_graph(weight: NDArray[np.float32], group: int = 1) -> Graph:
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["y"], "conv", pads=[1, 1, 1, 1], group=group)],
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", CHANNELS, SIDE, SIDE])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", len(weight), SIDE, SIDE])],
        [numpy_helper.from_array(weight, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return from_proto(onnx.shape_inference.infer_shapes(model))


def conv_plan(graph: Graph, guard: Guard, weights: WeightType = "int8", *, per_channel: bool = True) -> Plan:
    node = graph.graph[0]
    value = node.inputs[1]
    assert value is not None
    assert value.const_value is not None
    weight = value.const_value.numpy()
    encoding = symmetric_encoding(weight, weights, 0 if per_channel else None)
    return Plan(
        model_digest="",
        scheme=Scheme(guard=guard, weights=weights),
        operators={"conv": Operator(compute="int8", weight=encoding)},
        tensors={
            "x": Encoding(type="uint8", scale=1 / 255, zero_point=0),
            "y": Encoding(type="uint8", scale=0.05, zero_point=128),
        },
    )


def statistics(high: NDArray[np.float32]) -> Statistics:
    known = ChannelStatistics(np.zeros_like(high), high, high.astype(np.float64) / 2)
    return Statistics(1, {}, {("x", 1): known})


def integers(graph: Graph, plan: Plan) -> NDArray[np.int32]:
    operator = plan.operators["conv"]
    value = graph.graph[0].inputs[1]
    assert operator.weight is not None
    assert isinstance(value, ir.Value)
    assert value.const_value is not None
    result: NDArray[np.int32] = rounded(value.const_value.numpy(), operator.weight).astype(np.int32)
    return result


def random_weight(seed: int, inputs: int = CHANNELS) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=(OUTPUTS, inputs, 3, 3)).astype(np.float32)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), per_channel=st.booleans(), guard=st.sampled_from(["pairs", "seven-bit"]))
def test_a_guarded_plan_computes_the_same_with_and_without_saturation(
    seed: int, per_channel: bool, guard: Guard
) -> None:
    graph = conv_graph(random_weight(seed))
    plan = guarded(
        graph, conv_plan(graph, guard, per_channel=per_channel), statistics(np.ones(CHANNELS, np.float32)), saturating
    )
    assert guarded(graph, plan, statistics(np.ones(CHANNELS, np.float32)), saturating) == plan
    model = to_bytes(emit(graph, plan))
    x = {"x": np.random.default_rng(seed).choice([0, 0.5, 1], (4, CHANNELS, SIDE, SIDE)).astype(np.float32)}
    np.testing.assert_array_equal(Emulator(model, saturating).call(x)["y"], Emulator(model, exact).call(x)["y"])
    assert saturating_operators(graph, plan, statistics(np.ones(CHANNELS, np.float32)), saturating) == ()


def test_an_unguarded_plan_saturates_and_says_where() -> None:
    graph = conv_graph(random_weight(3))
    plan = conv_plan(graph, "none")
    seen = statistics(np.ones(CHANNELS, np.float32))
    assert guarded(graph, plan, seen, saturating) is plan
    model, x = to_bytes(emit(graph, plan)), {"x": np.ones((1, CHANNELS, SIDE, SIDE), np.float32)}
    assert (Emulator(model, saturating).call(x)["y"] != Emulator(model, exact).call(x)["y"]).any()
    (risk,) = saturating_operators(graph, plan, seen, saturating)
    assert (risk.operator, risk.channels) == ("conv", OUTPUTS)
    assert 0 < risk.risky_channels <= OUTPUTS
    assert 0 < risk.largest_excess <= 2 * 127 * 255 - LIMIT


def test_channels_that_cannot_overflow_keep_every_step() -> None:
    weight = random_weight(4)
    weight[1:, ::2] *= 0.001
    graph = conv_graph(weight)
    full = conv_plan(graph, "pairs")
    plan = guarded(graph, full, statistics(np.ones(CHANNELS, np.float32)), saturating)
    before, after = integers(graph, full), integers(graph, plan)
    narrowed, kept = plan.operators["conv"].weight, full.operators["conv"].weight
    assert narrowed is not None
    assert kept is not None
    assert narrowed.scale[0] > kept.scale[0]
    assert narrowed.scale[1:] == kept.scale[1:]
    assert np.abs(before[1:] - after[1:]).max() <= 1
    assert "of 8 channels narrowed" in plan.operators["conv"].reason
    assert plan.operators["conv"].reason.endswith("sums of pairs would saturate")


def test_channels_that_stay_small_free_their_neighbours() -> None:
    """Real ranges: pairs whose second activation never passes a third of the range need no guard."""
    graph = conv_graph(random_weight(5))
    small = np.where(np.arange(CHANNELS) % 2, 1e-3, 1).astype(np.float32)
    plan = conv_plan(graph, "pairs")
    assert guarded(graph, plan, statistics(small), saturating).operators["conv"] == plan.operators["conv"]
    assert guarded(graph, plan, statistics(np.ones(CHANNELS, np.float32)), saturating) != plan


def test_where_nothing_is_known_the_whole_range_counts() -> None:
    graph = conv_graph(random_weight(6))
    plan = guarded(graph, conv_plan(graph, "pairs"), Statistics(0, {}, {}), saturating)
    weight = plan.operators["conv"].weight
    assert weight is not None
    assert weight.pair_peaks == (255,) * CHANNELS


@pytest.mark.parametrize(
    ("lookup", "weights", "inputs"), [(exact, "int8", 6), (saturating, "uint8", 6), (saturating, "int8", 1)]
)
def test_kernels_that_add_exactly_need_no_guard(lookup: object, weights: WeightType, inputs: int) -> None:
    """VNNI, u8u8, and depthwise."""
    weight = random_weight(7, inputs)[: OUTPUTS if inputs > 1 else CHANNELS]
    graph = conv_graph(weight, 1 if inputs > 1 else CHANNELS)
    plan = conv_plan(graph, "pairs", weights)
    assert callable(lookup)
    assert guarded(graph, plan, statistics(np.ones(CHANNELS, np.float32)), lookup) == plan


def test_pairs_lose_less_than_seven_bits() -> None:
    weight = random_weight(8)
    graph = conv_graph(weight)
    seen = statistics(np.linspace(0.2, 1, CHANNELS).astype(np.float32))
    errors = {}
    for guard in ("pairs", "seven-bit"):
        scheme: Guard = "pairs" if guard == "pairs" else "seven-bit"
        operator = guarded(graph, conv_plan(graph, scheme), seen, saturating).operators["conv"]
        assert operator.weight is not None
        errors[guard] = np.square(restored(rounded(weight, operator.weight), operator.weight) - weight).sum()
    assert errors["pairs"] < errors["seven-bit"] / 1.5


def test_seven_bits_use_64_steps() -> None:
    graph = conv_graph(random_weight(9))
    plan = guarded(graph, conv_plan(graph, "seven-bit"), statistics(np.ones(CHANNELS, np.float32)), saturating)
    assert np.abs(integers(graph, plan)).max() == 64
    assert plan.operators["conv"].reason == "7-bit weights: sums of pairs would saturate"


def test_wide_operators_are_left_alone() -> None:
    graph = conv_graph(random_weight(10))
    plan = conv_plan(graph, "pairs")
    tensors = {name: msgspec.structs.replace(item, type="uint16") for name, item in plan.tensors.items()}
    operators = {"conv": msgspec.structs.replace(plan.operators["conv"], compute="int16")}
    wide = msgspec.structs.replace(plan, tensors=tensors, operators=operators)
    assert guarded(graph, wide, statistics(np.ones(CHANNELS, np.float32)), saturating) == wide
