"""From schemes to variants: what a board is offered, how its sums come out, and what the variants are worth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edgewright.bundle.archive import unpack
from edgewright.bundle.golden import read_golden
from edgewright.compiler.data import Samples
from edgewright.compiler.faults import NotQuantizable
from edgewright.compiler.frontends.onnx import import_proto
from edgewright.compiler.graph import Graph, to_proto
from edgewright.compiler.lower.model_file import size_bytes
from edgewright.compiler.lower.onnxruntime import Arithmetic
from edgewright.compiler.lower.workload import workload
from edgewright.compiler.metrics import snr_db
from edgewright.compiler.pipeline import compile_model
from edgewright.compiler.quantize.basis import Basis
from edgewright.compiler.quantize.calibration.statistics import Statistics
from edgewright.compiler.quantize.emission import emit_plan
from edgewright.compiler.quantize.offer import arithmetic_of, schemes_for, suits
from edgewright.compiler.quantize.plan import Plan
from edgewright.compiler.quantize.propose import propose
from edgewright.compiler.quantize.scheme import Scheme
from edgewright.compiler.quantize.uncalibrated.dynamic import propose_dynamic
from edgewright.compiler.quantize.uncalibrated.weight_only import propose_weights
from edgewright.compiler.request import Request
from edgewright.compiler.scratch import Scratch
from edgewright.compiler.variants import evaluate, float_variant, plan_variant
from edgewright.targets.accumulation import saturating
from edgewright.targets.catalog import load_board
from tests.compiler.conftest import classifier
from tests.compiler.nets import Net, optimised, statistics_of


@pytest.fixture
def graph() -> Graph:
    return optimised(classifier())


@pytest.fixture
def statistics(graph: Graph, pictures: np.ndarray) -> Statistics:
    return statistics_of(graph, {"x": pictures})


BOARDS = {
    "raspberry-pi-5": ["int8-s8s8", "int8-u8s8"],
    "x86-64-avx512-vnni": ["int8-u8s8"],
    "x86-64-avx2": ["int8-u8s8-guarded"],
}


def test_boards_get_schemes_that_are_exact_or_guarded_there(graph: Graph) -> None:
    assert {name: [scheme.name for scheme in schemes_for(load_board(name), graph)] for name in BOARDS} == BOARDS


def test_code_that_adds_in_32_bits_gets_plans_without_a_guard(graph: Graph) -> None:
    offered = {
        name: [scheme.name for scheme in schemes_for(load_board(name), graph, exact_too=True)] for name in BOARDS
    }
    assert offered == BOARDS | {"x86-64-avx2": ["int8-u8s8-guarded", "int8-u8s8"]}


@pytest.mark.parametrize(
    ("scheme", "saturating", "exact"),
    [
        (None, True, True),
        (Scheme(), False, True),
        (Scheme(guard="pairs"), True, False),
        (Scheme(guard="pairs", per_channel=False), True, True),
        (Scheme(method="dynamic", guard="pairs"), True, True),
    ],
)
def test_of_a_plan_with_and_without_a_guard_an_engine_gets_one(
    scheme: Scheme | None, saturating: bool, exact: bool
) -> None:
    offered = [None, Scheme(), Scheme(guard="pairs"), Scheme(guard="pairs", per_channel=False)]
    assert suits(scheme, offered, exact=False) == saturating
    assert suits(scheme, offered, exact=True) == exact


def test_nets_of_matrix_products_get_the_other_methods_too() -> None:
    net = Net((16,), np.random.default_rng(0))
    net.gemm(16)
    names = [scheme.name for scheme in schemes_for(load_board("x86-64-avx2"), optimised(net.model()))]
    assert names == ["int8-u8s8-guarded", "int8-u8s8-per-tensor-guarded", "int8-dynamic-guarded"]


def test_large_nets_of_matrix_products_may_store_their_weights_as_integers() -> None:
    net = Net((2048,), np.random.default_rng(0))
    net.gemm(2048)
    names = [scheme.name for scheme in schemes_for(load_board("raspberry-pi-5"), optimised(net.model()))]
    assert names[2:] == ["int8-s8s8-per-tensor", "int8-dynamic", "int8-weights", "int4-weights"]


def plan_for(graph: Graph, scheme: Scheme, statistics: Statistics) -> Plan:
    if scheme.method == "static":
        return Basis(graph, graph, statistics).plan(scheme, "min-max", saturating)
    return propose_dynamic(graph, scheme) if scheme.method == "dynamic" else propose_weights(graph, scheme)


@pytest.mark.parametrize(
    ("scheme", "floor_db"),
    [
        (Scheme(activations="int8"), 35),
        (Scheme(activations="uint8"), 35),
        (Scheme(activations="uint8", guard="pairs"), 33),
        (Scheme(activations="uint8", guard="seven-bit"), 30),
        (Scheme(method="weights"), 40),
        (Scheme(method="dynamic"), 40),
    ],
)
def test_every_scheme_stays_close_to_float(
    graph: Graph, statistics: Statistics, pictures: np.ndarray, scheme: Scheme, floor_db: float, scratch: Scratch
) -> None:
    samples = Samples({"x": pictures}, None)
    variant = plan_variant(graph, plan_for(graph, scheme, statistics), scratch)
    truth = evaluate(float_variant(graph, scratch).model, samples, Arithmetic.EXACT, 1)["scores"]
    found = evaluate(variant.model, samples, Arithmetic.EXACT, 1)["scores"]
    assert snr_db(found, truth) > floor_db
    assert size_bytes(variant.onnx) < size_bytes(float_variant(graph, scratch).onnx) * 2
    assert variant.name == scheme.name


def test_guarded_weights_come_out_the_same_where_sums_saturate(
    graph: Graph, statistics: Statistics, pictures: np.ndarray, scratch: Scratch
) -> None:
    samples = Samples({"x": pictures}, None)

    def damage_db(guard: str) -> float:
        scheme = Scheme(activations="uint8", guard=guard)  # type: ignore[arg-type]
        model = plan_variant(graph, plan_for(graph, scheme, statistics), scratch).model
        exact = evaluate(model, samples, Arithmetic.EXACT, 1)["scores"]
        return snr_db(evaluate(model, samples, Arithmetic.SATURATING, 1)["scores"], exact)

    assert damage_db("pairs") > damage_db("none") + 10
    assert damage_db("seven-bit") > damage_db("none") + 10


def test_seven_bit_weights_cannot_saturate_sixteen_bit_sums(
    graph: Graph, statistics: Statistics, scratch: Scratch
) -> None:
    scheme = Scheme(activations="uint8", guard="seven-bit")
    variant = plan_variant(graph, plan_for(graph, scheme, statistics), scratch)
    weights = [
        numpy_helper.to_array(weight).astype(int)
        for weight in to_proto(variant.graph).graph.initializer
        if weight.data_type == onnx.TensorProto.INT8 and len(weight.dims) > 1
    ]
    largest = max(int(np.abs(weight).max()) for weight in weights)
    assert 32 < largest <= 64
    assert 2 * 255 * largest <= 32767


def test_how_sums_come_out_depends_on_scheme_and_board() -> None:
    avx2, vnni = load_board("x86-64-avx2"), load_board("x86-64-avx512-vnni")
    assert arithmetic_of(avx2, Scheme(activations="uint8")) is Arithmetic.SATURATING
    assert arithmetic_of(avx2, Scheme(activations="int8")) is Arithmetic.SATURATING
    assert arithmetic_of(avx2, Scheme(method="dynamic")) is Arithmetic.SATURATING
    assert arithmetic_of(avx2, Scheme(weights="uint8")) is Arithmetic.EXACT
    assert arithmetic_of(avx2, Scheme(method="weights")) is Arithmetic.EXACT
    assert arithmetic_of(avx2, None) is Arithmetic.EXACT
    assert arithmetic_of(vnni, Scheme(activations="uint8")) is Arithmetic.EXACT


def test_work_of_an_int8_model_counts_what_stays_float(graph: Graph, statistics: Statistics, scratch: Scratch) -> None:
    variant = plan_variant(graph, plan_for(graph, Scheme(), statistics), scratch)
    whole, parts = workload(graph)["float32"].operators, workload(variant.graph)
    products = [cost for cost in whole if cost.macs]
    integers = [cost for cost in parts["int8"].operators if cost.macs]
    assert [(cost.kind, cost.macs) for cost in integers] == [(cost.kind, cost.macs) for cost in products]
    # Only the input is quantized, a pass over values that the float model does not make: the scores come as float.
    assert [cost.macs for cost in parts["float32"].operators] == [0]


def test_snr_is_that_of_the_logits(scratch: Scratch) -> None:
    net = Net((6,), np.random.default_rng(0))
    scores = net.gemm(4)
    net.node("Softmax", net.here, axis=1)
    graph = optimised(net.model())
    variant = float_variant(graph, scratch)
    assert variant.logits == scores
    x = np.random.default_rng(1).normal(size=(5, 6)).astype(np.float32)
    outputs = evaluate(variant.probe, Samples({"x": x}, None), Arithmetic.ENGINE, 1)
    assert list(outputs) == ["softmax1_out", scores]
    assert float_variant(optimised(classifier()), scratch).logits is None


def test_a_tensor_that_reaches_infinity_and_is_not_quantized_does_no_harm(scratch: Scratch) -> None:
    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17]>
        g (float[N, 4] x) => (float[N, 3] y) { far = Div(x, zero) soft = Softmax(far) z = MatMul(x, w) y = Relu(z) }"""
    )
    weights = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    model.graph.initializer.append(numpy_helper.from_array(np.zeros((), np.float32), "zero"))
    model.graph.initializer.append(numpy_helper.from_array(weights, "w"))
    graph = import_proto(model, "test")
    for index, node in enumerate(graph.graph):
        node.name = f"node{index}"
    x = {"x": np.ones((5, 4), np.float32)}
    found = statistics_of(graph, x)
    assert found.tensors["far"].not_finite == 20
    variant = plan_variant(graph, propose(graph, found, Scheme()), scratch)
    outputs = evaluate(variant.model, Samples(dict(x), None), Arithmetic.EXACT, 1)["y"]
    np.testing.assert_allclose(outputs, np.maximum(x["x"] @ weights, 0), atol=0.05)


@pytest.mark.parametrize("opset", [13, 21, 23])
@pytest.mark.parametrize("scheme", [Scheme(), Scheme(method="dynamic"), Scheme(method="weights")])
def test_every_opset_that_is_read_can_be_quantized(
    opset: int, scheme: Scheme, pictures: np.ndarray, scratch: Scratch
) -> None:
    model = classifier()
    model.opset_import[0].version = opset
    graph = optimised(model)
    samples = Samples({"x": pictures}, None)
    variant = plan_variant(graph, plan_for(graph, scheme, statistics_of(graph, {"x": pictures})), scratch)
    found = evaluate(variant.model, samples, Arithmetic.ENGINE, 1)["scores"]
    assert snr_db(found, evaluate(float_variant(graph, scratch).model, samples, Arithmetic.ENGINE, 1)["scores"]) > 25


def test_a_plan_that_leaves_nothing_to_int8_is_refused(graph: Graph, statistics: Statistics) -> None:
    endless = {name: replace(known, not_finite=1) for name, known in statistics.tensors.items()}
    with pytest.raises(NotQuantizable, match="finite float32"):
        propose(graph, Statistics(statistics.samples, endless, statistics.channels), Scheme())


def test_a_model_that_came_quantized_is_judged_by_the_sums_of_its_target(
    graph: Graph, statistics: Statistics, make_request: Callable[..., Request], tmp_path: Path
) -> None:
    onnx.save(to_proto(emit_plan(graph, plan_for(graph, Scheme(), statistics))), tmp_path / "qdq.onnx")
    request = make_request(model=str(tmp_path / "qdq.onnx"), targets=("x86-64-avx2",))
    assert compile_model(request).exit_code == 0
    unpack(request.out / "x86-64-avx2.bundle", tmp_path / "files")
    golden = read_golden(tmp_path / "files" / "golden.safetensors")
    model = (tmp_path / "files" / "model" / "model.onnx").read_bytes()
    samples = Samples(dict(golden.inputs), None)
    expected = evaluate(model, samples, Arithmetic.SATURATING, 1)["scores"]
    np.testing.assert_array_equal(golden.outputs["scores"], expected)
    assert (evaluate(model, samples, Arithmetic.EXACT, 1)["scores"] != expected).any()
