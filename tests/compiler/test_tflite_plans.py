"""Plans by TFLite's rules: everything that has an integer kernel is integer, with the numbers that the kernel wants."""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec
import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from edgewright.compiler.data import Samples
from edgewright.compiler.faults import PlanError, UnsupportedModel
from edgewright.compiler.graph import Graph
from edgewright.compiler.lower.onnxruntime import Arithmetic
from edgewright.compiler.metrics import snr_db
from edgewright.compiler.plans import Planner
from edgewright.compiler.quantize.emit import emit as emit_qdq
from edgewright.compiler.quantize.plan import Encoding, Plan
from edgewright.compiler.quantize.planfile import check_plan, parse_plan, plan_warnings, write_plan
from edgewright.compiler.quantize.propose import propose
from edgewright.compiler.quantize.rules.tflite import TFLiteRules
from edgewright.compiler.quantize.rules.tflite_facts import FIXED, JOINING, KEEPING
from edgewright.compiler.quantize.scheme import Scheme
from edgewright.compiler.scratch import Scratch
from edgewright.compiler.tflite.emitter.emit import emit
from edgewright.compiler.tflite.emitter.ports import Ports
from edgewright.compiler.tflite.file.model import Model
from tests.compiler.nets import Net, convolutional, optimised, statistics_of
from tests.compiler.random_nets import nets_and_outputs
from tests.compiler.tflite.runs import run_litert, run_onnx

Given = tuple[Net, tuple[str, ...]]
INT8 = Scheme(activations="int8", rules="tflite")
INT16 = Scheme(activations="int16", rules="tflite")
CHECKED = settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])


def samples_of(net: Net, count: int = 16) -> dict[str, np.ndarray]:
    random = np.random.default_rng(5)
    shapes = {"x": net.input_shape, **net.more_inputs}
    return {name: random.normal(size=(count, *shape)).astype(np.float32) for name, shape in shapes.items()}


def plan_of(net: Net, scheme: Scheme, *outputs: str) -> tuple[Graph, Plan]:
    graph = optimised(net.model(*outputs))
    return graph, propose(graph, statistics_of(graph, samples_of(net)), scheme)


def integer_nodes(graph: Graph, plan: Plan) -> Iterator[ir.Node]:
    for node in graph.graph:
        operator = plan.operators.get(node.name or "")
        if operator is not None and operator.compute == plan.scheme.activations:
            yield node


def numbers(encoding: Encoding) -> tuple[float, int]:
    return encoding.scale, encoding.zero_point


def requantized(graph: Graph, plan: Plan) -> int:
    """Inputs that a plan leaves out of what joins them, and clamps: QUANTIZE is how those are written."""
    rules, count = TFLiteRules(plan.scheme.activations), 0
    for node in integer_nodes(graph, plan):
        count += node.op_type == "Clip"
        if node.op_type in JOINING:
            around = rules.rounded(node)
            wanted = numbers(plan.tensors[around.gives[0].name or ""])
            count += sum(numbers(plan.tensors[value.name or ""]) != wanted for value in around.reads)
    return count


@CHECKED
@given(nets_and_outputs(), st.sampled_from([INT8, INT16]))
def test_every_tensor_has_the_numbers_that_its_kernels_want(given: Given, scheme: Scheme) -> None:
    net, names = given
    graph, plan = plan_of(net, scheme, *names)
    rules = TFLiteRules(scheme.activations)
    for node in integer_nodes(graph, plan):
        around = rules.rounded(node)
        gives = [plan.tensors[value.name or ""] for value in around.gives]
        reads = [plan.tensors[value.name or ""] for value in around.reads]
        if gives and scheme.activations in FIXED.get(node.op_type, {}):
            assert {numbers(each) for each in gives} == {FIXED[node.op_type][scheme.activations]}
            assert {each.calibrator for each in gives} == {"format"}
        if node.op_type in KEEPING:
            assert {numbers(each) for each in gives} == {numbers(reads[0])}
    assert {encoding.type for encoding in plan.tensors.values()} == {scheme.activations}
    if scheme is INT16:
        assert {encoding.zero_point for encoding in plan.tensors.values()} <= {0}


@CHECKED
@given(nets_and_outputs(), st.sampled_from([INT8, INT16]))
def test_ranges_hold_what_was_seen(given: Given, scheme: Scheme) -> None:
    net, names = given
    graph = optimised(net.model(*names))
    statistics = statistics_of(graph, samples_of(net))
    for name, encoding in propose(graph, statistics, scheme).tensors.items():
        seen = statistics.tensors.get(name)
        if seen is not None:
            assert encoding.low <= seen.low + 0.51 * encoding.scale, name
            assert encoding.high >= seen.high - (1.01 if encoding.calibrator == "format" else 0.51) * encoding.scale


@CHECKED
@given(nets_and_outputs(), st.sampled_from([INT8, INT16]))
def test_whatever_has_a_kernel_is_integer_and_the_rest_says_why(given: Given, scheme: Scheme) -> None:
    net, names = given
    graph, plan = plan_of(net, scheme, *names)
    rules = TFLiteRules(scheme.activations)
    absorbed = {id(rules.absorbed_activation(node)) for node in graph.graph}
    for node in graph.graph:
        operator = plan.operators.get(node.name or "")
        if id(node) in absorbed:
            assert operator is None
        elif rules.has_integer_kernel(node):
            assert operator is not None
            assert operator.compute == scheme.activations
        elif operator is not None:
            assert operator.compute == "float"
            assert node.op_type in operator.reason


@CHECKED
@given(nets_and_outputs(), st.sampled_from([INT8, INT16]))
def test_a_proposal_passes_the_check_and_survives_being_written_down(given: Given, scheme: Scheme) -> None:
    net, names = given
    graph, plan = plan_of(net, scheme, *names)
    read = parse_plan(write_plan(plan).encode(), "plan.toml")
    assert read == plan
    check_plan(read, graph, "plan.toml")
    assert plan_warnings(read, graph, "plan.toml") == ()


@CHECKED
@given(nets_and_outputs(), st.sampled_from([INT8, INT16]))
def test_what_is_emitted_is_integer_from_port_to_port(given: Given, scheme: Scheme) -> None:
    net, names = given
    graph, plan = plan_of(net, scheme, *names)
    assume(all(operator.compute != "float" for operator in plan.operators.values()))
    try:
        model = emit(emit_qdq(graph, plan), Ports(integer=True)).model
    except UnsupportedModel:
        assume(False)
    check_integer(model, requantized(graph, plan))


def check_integer(model: Model, requantizations: int = 0) -> None:
    kinds = [operator.type for operator in model.operators]
    floats = [tensor.name for tensor in model.tensors if tensor.type.startswith("FLOAT")]
    assert not floats, f"{floats} are float: {kinds}"
    assert kinds.count("QUANTIZE") <= requantizations, kinds


# -- numbers that are shared


def encoding_of(plan: Plan, name: str) -> tuple[float, int]:
    return numbers(plan.tensors[name])


def test_means_of_a_picture_get_a_scale_of_their_own() -> None:
    net = Net((4, 8, 8), np.random.default_rng(0))
    wide = net.node("Relu", net.conv(8))
    net.shape = (8, 1, 1)
    mean = net.node("GlobalAveragePool", wide)
    graph, plan = plan_of(net, INT8)
    assert encoding_of(plan, mean)[0] < encoding_of(plan, wide)[0] / 2
    assert "MEAN" in [operator.type for operator in emitted(graph, plan).operators]


def test_means_that_reach_as_far_as_what_they_are_of_keep_its_encoding() -> None:
    net = Net((4, 8, 8), np.random.default_rng(0))
    wide = net.node("Relu", net.conv(8))
    net.shape = (8, 8, 8)
    mean = net.node("AveragePool", wide, kernel_shape=[1, 1])
    graph, plan = plan_of(net, INT8)
    assert encoding_of(plan, mean) == encoding_of(plan, wide)
    assert "AVERAGE_POOL_2D" in [operator.type for operator in emitted(graph, plan).operators]


def two_branches(first: float, second: float, kind: str = "Relu") -> tuple[Net, str, str, str]:
    """Two convolutions, the second reads the first as well as a concatenation does; `first`, `second`: their sizes."""
    net = Net((4, 6, 6), np.random.default_rng(0))
    weight = net.weight(4, 4, 1, 1, scale=first)
    net.node("Conv", "x", weight)
    one = net.node(kind, net.here)
    net.node("Conv", one, net.weight(4, 4, 1, 1, scale=second / first))
    other = net.node("Relu", net.here)
    net.shape = (8, 6, 6)
    return net, one, other, net.node("Concat", one, other, axis=1)


def test_what_is_joined_shares_one_encoding_and_says_so() -> None:
    net, one, other, joined = two_branches(1.0, 1.0)
    graph, plan = plan_of(net, INT8)
    assert encoding_of(plan, one) == encoding_of(plan, other) == encoding_of(plan, joined)
    shared = [name for name in (one, other, joined) if plan.tensors[name].calibrator == "shared"]
    assert shared
    assert all("Concat" in plan.tensors[name].reason for name in shared)
    check_integer(emitted(graph, plan))


def test_what_others_read_with_fine_steps_stays_out_of_a_coarse_join() -> None:
    net, one, other, joined = two_branches(1.0, 30.0)
    graph, plan = plan_of(net, INT8)
    assert encoding_of(plan, one)[0] < encoding_of(plan, joined)[0] / 10
    assert encoding_of(plan, other) == encoding_of(plan, joined)
    kinds = [operator.type for operator in emitted(graph, plan).operators]
    assert kinds.count("QUANTIZE") == 1
    assert "DEQUANTIZE" not in kinds
    assert plan_warnings(plan, graph, "plan.toml") == ()  # a proposal may do so; a person is told


def test_what_is_compared_integer_by_integer_holds_all_of_it() -> None:
    net = Net((4, 6, 6), np.random.default_rng(0))
    first = net.conv(4)
    joined = net.node("Max", first, net.node("Relu", net.node("Conv", "x", net.weight(4, 4, 1, 1))))
    graph = optimised(net.model())
    statistics = statistics_of(graph, samples_of(net))
    plan = propose(graph, statistics, INT8)
    assert encoding_of(plan, first) == encoding_of(plan, joined)
    assert plan.tensors[joined].low <= statistics.tensors[first].low * 0.99 < statistics.tensors[joined].low


def test_what_a_kernel_fixes_is_rounded_again_only_beside_other_numbers() -> None:
    net, one, other, joined = two_branches(1.0, 1.0, "Sigmoid")
    graph, plan = plan_of(net, INT8)
    assert encoding_of(plan, one) == FIXED["Sigmoid"]["int8"]
    assert encoding_of(plan, other) == encoding_of(plan, joined) != FIXED["Sigmoid"]["int8"]
    check_integer(emitted(graph, plan), 1)


def test_what_one_kernel_fixes_alike_is_joined_as_it_is() -> None:
    net = Net((4, 6, 6), np.random.default_rng(0))
    first = net.node("Sigmoid", net.conv(4))
    second = net.node("Sigmoid", net.conv(4))
    net.shape = (8, 6, 6)
    joined = net.node("Concat", first, second, axis=1)
    graph, plan = plan_of(net, INT8)
    assert encoding_of(plan, joined) == FIXED["Sigmoid"]["int8"]
    check_integer(emitted(graph, plan))


def test_a_clamp_that_only_rounding_does_keeps_its_range() -> None:
    net = Net((4, 6, 6), np.random.default_rng(0))
    net.conv(4)
    clipped = net.node("Clip", net.here, net.constant(np.float32(-0.3)), net.constant(np.float32(0.4)))
    other = net.node("Conv", "x", net.weight(4, 4, 1, 1, scale=9.0))
    net.shape = (8, 6, 6)
    joined = net.node("Concat", clipped, other, axis=1)
    graph, plan = plan_of(net, INT8)
    assert plan.tensors[clipped].high < 0.5 < plan.tensors[joined].high
    check_integer(emitted(graph, plan), 1)
    assert TFLiteRules("int16").absorbed_activation(next(iter(graph.graph))) is None  # no zero point, no such clamp


# -- several nodes that are one operator


def gated(kind: str) -> Net:
    net = Net((4, 6, 6), np.random.default_rng(0))
    net.conv(8)
    before = net.here
    if kind == "swish":
        net.node("Mul", before, net.node("Sigmoid", before))
    else:
        net.node("HardSwish", before)
    net.conv(4)
    return net


@pytest.mark.parametrize(
    ("kind", "scheme", "expected"),
    [("hard", INT8, {"HARD_SWISH"}), ("hard", INT16, {"MUL"}), ("swish", INT8, {"MUL", "LOGISTIC"})],
)
def test_swishes(kind: str, scheme: Scheme, expected: set[str]) -> None:
    """TFLite has HARD_SWISH in 8 bits only."""
    graph, plan = plan_of(gated(kind), scheme)
    kinds = {operator.type for operator in emitted(graph, plan).operators}
    assert expected <= kinds
    assert ("HARD_SWISH" in kinds) == (expected == {"HARD_SWISH"})
    assert any(name.endswith("_gate") for name in plan.tensors) == (kind == "hard" and scheme is INT16)


def test_squeezing_and_exciting_is_integer() -> None:
    net = Net((4, 6, 6), np.random.default_rng(0))
    before = net.conv(8)
    net.shape = (8, 1, 1)
    net.node("GlobalAveragePool", before)
    net.conv(2, kernel=1)
    net.node("Relu", net.here)
    net.conv(8, kernel=1)
    gate = net.node("HardSigmoid", net.here, alpha=1 / 6)
    net.shape = (8, 6, 6)
    net.node("Mul", before, gate)
    for scheme in (INT8, INT16):
        graph, plan = plan_of(net, scheme)
        check_integer(emitted(graph, plan))
        assert encoding_of(plan, gate) == FIXED["HardSigmoid"][scheme.activations]


def test_half_of_a_pattern_that_stays_float_takes_the_other_half_along() -> None:
    graph = optimised(gated("hard").model())
    gate = next(node for node in graph.graph if node.op_type == "HardSigmoid")
    statistics = statistics_of(graph, samples_of(gated("hard")))
    plan = propose(graph, statistics, INT8, keep_float={gate.name or "": "asked for"})
    product = next(node for node in graph.graph if node.op_type == "Mul")
    assert plan.operators[gate.name or ""].reason == "asked for"
    assert product.name not in plan.operators
    assert "HARD_SWISH" in [operator.type for operator in emitted(graph, plan).operators]


def emitted(graph: Graph, plan: Plan) -> Model:
    return emit(emit_qdq(graph, plan), Ports(integer=True)).model


# -- whole nets


@pytest.mark.parametrize(("scheme", "least_db"), [(INT8, 22.0), (INT16, 35.0)])
def test_litert_gives_what_the_plan_says(scheme: Scheme, least_db: float, scratch: Scratch) -> None:
    net = convolutional()
    net.node("Softmax", net.here, axis=1)
    graph = optimised(net.model())
    inputs = samples_of(net, 32)
    samples = Samples(inputs, None)
    planner = Planner(graph, statistics_of(graph, inputs), samples, samples, Arithmetic.EXACT, scratch)
    plan = planner.plan(scheme)
    assert any(operator.bias_correction for operator in plan.operators.values())
    rounded = emit_qdq(graph, plan)
    check_integer(emitted(graph, plan))
    model = emit(rounded).model
    truth = run_onnx(rounded, inputs)[net.here]
    found = [run_litert(model, {"x": sample[None]}, reference=True)[net.here] for sample in inputs["x"]]
    assert snr_db(np.concatenate(found), truth) > least_db


# -- plans that people edit


def edited(plan: Plan, name: str, **changes: object) -> Plan:
    encoding = msgspec.structs.replace(plan.tensors[name], calibrator="given", **changes)
    return msgspec.structs.replace(plan, tensors={**plan.tensors, name: encoding})


@pytest.fixture
def planned() -> tuple[Graph, Plan]:
    net, *_ = two_branches(1.0, 1.0)
    net.shape = (8, 3, 3)
    net.node("MaxPool", net.here, kernel_shape=[2, 2], strides=[2, 2])
    net.flatten()
    net.gemm(5)
    net.node("Softmax", net.here, axis=1)
    return plan_of(net, INT8)


@pytest.mark.parametrize(
    ("operator", "changes", "words"),
    [
        ("Softmax", {"scale": 0.1}, "write scale = 0.00390625 and zero_point = -128"),
        ("MaxPool", {"zero_point": -100}, "one more operator"),
        ("Concat", {"scale": 0.5}, "Concat .* gives other numbers"),
        ("Gemm", {"type": "int16", "zero_point": 0}, "reads and gives int16 and int8"),
    ],
)
def test_numbers_that_cost_more_are_warned_about(
    planned: tuple[Graph, Plan], operator: str, changes: dict[str, object], words: str
) -> None:
    graph, plan = planned
    node = next(node for node in graph.graph if node.op_type == operator)
    changed = edited(plan, node.outputs[0].name or "", **changes)
    check_plan(changed, graph, "plan.toml")
    found = plan_warnings(changed, graph, "plan.toml")
    assert {warning.code for warning in found} == {"plan-against-rules"}
    assert any(re.search(words, f"{warning.text} {warning.fix}") for warning in found)


def test_a_tensor_without_numbers_is_warned_about(planned: tuple[Graph, Plan]) -> None:
    graph, plan = planned
    last = graph.graph.outputs[0].name
    rest = {name: encoding for name, encoding in plan.tensors.items() if name != last}
    (warning,) = plan_warnings(msgspec.structs.replace(plan, tensors=rest), graph, "plan.toml")
    assert "computes it in float" in warning.text


def test_a_clamp_that_a_range_no_longer_does_is_warned_about() -> None:
    net = Net((4, 6, 6), np.random.default_rng(0))
    net.conv(4)
    clipped = net.node("Clip", net.here, net.constant(np.float32(-0.3)), net.constant(np.float32(0.4)))
    net.conv(4)
    graph, plan = plan_of(net, INT8)
    (warning,) = plan_warnings(edited(plan, clipped, scale=0.1), graph, "plan.toml")
    assert "clamps to -0.3 to 0.4" in warning.text


@pytest.mark.parametrize(
    ("scheme", "changes", "words"),
    [
        (INT8, {"type": "uint8", "zero_point": 0}, "is uint8; TFLite has int8 and int16"),
        (INT16, {"zero_point": 3}, "know only 0"),
    ],
)
def test_numbers_that_no_kernel_reads_are_refused(scheme: Scheme, changes: dict[str, object], words: str) -> None:
    graph, plan = plan_of(gated("hard"), scheme)
    with pytest.raises(PlanError, match=words):
        check_plan(edited(plan, "x", **changes), graph, "plan.toml")


def test_other_weights_and_other_activations_are_refused() -> None:
    graph, plan = plan_of(gated("hard"), INT8)
    name = next(iter(plan.operators))
    weight = plan.operators[name].weight
    assert weight is not None
    unsigned = msgspec.structs.replace(plan.operators[name], weight=msgspec.structs.replace(weight, type="uint8"))
    with pytest.raises(PlanError, match="take int8; write"):
        check_plan(msgspec.structs.replace(plan, operators={**plan.operators, name: unsigned}), graph, "plan.toml")
    scheme = Scheme(activations="uint8", rules="tflite")
    with pytest.raises(PlanError, match="TFLite has int8 and int16"):
        check_plan(msgspec.structs.replace(plan, scheme=scheme), graph, "plan.toml")


def test_plans_of_before_there_were_rules_are_read() -> None:
    graph, plan = plan_of(gated("hard"), Scheme())
    lines = [line for line in write_plan(plan).splitlines() if not line.startswith("rules")]
    read = parse_plan("\n".join(lines).encode(), "plan.toml")
    assert read == plan
    check_plan(read, graph, "plan.toml")


def test_a_window_over_the_whole_picture_makes_no_step_that_an_npu_does_not_take() -> None:
    net = Net((4, 8, 8), np.random.default_rng(0))
    wide = net.node("Relu", net.conv(8))
    net.shape = (8, 1, 1)
    net.node("AveragePool", wide, kernel_shape=[8, 8], strides=[8, 8])
    graph, plan = plan_of(net, INT8)
    (mean,) = [each for each in emitted(graph, plan).operators if each.type == "DEPTHWISE_CONV_2D"]
    assert mean.options["strideH"] == mean.options["strideW"] == 1
