"""Ranges, schemes per board, and the numbers that are written."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edgewright.compiler.data import Samples
from edgewright.compiler.faults import NotQuantizable
from edgewright.compiler.frontends.onnx import import_proto, load_onnx
from edgewright.compiler.frontends.opset import NEWEST_OPSET
from edgewright.compiler.graph import Graph, to_proto
from edgewright.compiler.lower.model_file import size_bytes
from edgewright.compiler.lower.onnxruntime import Arithmetic
from edgewright.compiler.lower.workload import workload
from edgewright.compiler.metrics import snr_db
from edgewright.compiler.optimize import FLOAT_PASSES
from edgewright.compiler.passes import NoOptions
from edgewright.compiler.quantize.calibrate import Ranges, calibrate
from edgewright.compiler.quantize.offer import Scheme, schemes_for
from edgewright.compiler.quantize.static import QuantizeStatic
from edgewright.compiler.scratch import Scratch
from edgewright.compiler.target import exact_on
from edgewright.compiler.variants import evaluate, float_variant, int8_variant
from edgewright.targets.board import Board
from edgewright.targets.catalog import load_board
from tests.compiler.conftest import classifier


@pytest.fixture
def graph(model_path: Path) -> Graph:
    found = load_onnx(model_path).graph
    for float_pass in FLOAT_PASSES:
        found = float_pass(found, NoOptions()).graph
    return found


def test_ranges_are_those_of_all_samples(graph: Graph, pictures: np.ndarray, scratch: Scratch) -> None:
    seen: list[int] = []
    ranges = calibrate(graph, Samples({"x": pictures}, None), scratch, seen.append)
    assert sum(seen) == len(pictures) == ranges.samples
    assert ranges.lowest["x"] == pictures.min()
    scores = evaluate(float_variant(graph, scratch).model, Samples({"x": pictures}, None), Arithmetic.EXACT, 1)[
        "scores"
    ]
    assert ranges.highest["scores"] == pytest.approx(scores.max(), rel=1e-6)


def test_boards_get_schemes_that_are_exact_there() -> None:
    names = {name: [scheme.name for scheme in schemes_for(load_board(name))] for name in _BOARDS}
    assert names == _BOARDS


_BOARDS = {
    "raspberry-pi-5": ["int8-s8s8", "int8-u8s8"],
    "x86-64-avx512-vnni": ["int8-u8s8"],
    "x86-64-avx2": ["int8-u8s7"],
}


def test_seven_bit_weights_cannot_saturate_sixteen_bit_sums(
    graph: Graph, pictures: np.ndarray, scratch: Scratch
) -> None:
    ranges = calibrate(graph, Samples({"x": pictures}, None), scratch)
    quantized = QuantizeStatic(ranges)(graph, Scheme(activations="uint8", reduce_range=True)).graph
    weights = [
        numpy_helper.to_array(weight).astype(int)
        for weight in to_proto(quantized).graph.initializer
        if weight.data_type == onnx.TensorProto.INT8 and weight.dims
    ]
    largest = max(int(np.abs(weight).max()) for weight in weights)
    assert 32 < largest <= 64
    assert 2 * 255 * largest <= 32767


@pytest.mark.parametrize("scheme", [Scheme(activations="int8"), Scheme(activations="uint8")])
def test_int8_stays_close_to_float(graph: Graph, pictures: np.ndarray, scheme: Scheme, scratch: Scratch) -> None:
    samples = Samples({"x": pictures}, None)
    variant = int8_variant(graph, calibrate(graph, samples, scratch), scheme, scratch)
    truth = evaluate(float_variant(graph, scratch).model, samples, Arithmetic.EXACT, 1)["scores"]
    found = evaluate(variant.model, samples, Arithmetic.EXACT, 1)["scores"]
    assert snr_db(found, truth) > 30
    assert variant.float_operators == {}
    assert size_bytes(variant.model) < size_bytes(float_variant(graph, scratch).model) * 2


def test_ranges_decide_the_scales(graph: Graph, pictures: np.ndarray, scratch: Scratch) -> None:
    ranges = calibrate(graph, Samples({"x": pictures}, None), scratch)
    wide = Ranges({**ranges.lowest, "x": -100.0}, {**ranges.highest, "x": 155.0}, ranges.samples)
    proto = to_proto(QuantizeStatic(wide)(graph, Scheme(activations="uint8")).graph)
    scales = {weight.name: numpy_helper.to_array(weight) for weight in proto.graph.initializer}
    assert scales["x_scale"] == pytest.approx(1.0)


def test_exactness_of_this_machine_depends_on_scheme_and_board() -> None:
    saturating = load_board("x86-64-avx2")
    exact: Board = msgspec.structs.replace(load_board("x86-64-avx512-vnni"), name="other")
    full, narrow = Scheme(activations="int8"), Scheme(activations="uint8", reduce_range=True)
    assert not exact_on(saturating, full)
    assert exact_on(saturating, narrow)
    assert exact_on(saturating, None)
    assert exact_on(exact, full)


def test_what_the_quantizer_cannot_handle_is_one_clear_error(graph: Graph, scratch: Scratch) -> None:
    with pytest.raises(NotQuantizable, match=r"^the model cannot be quantized: Quantization parameters"):
        int8_variant(graph, Ranges({}, {}, samples=1), Scheme(activations="int8"), scratch)


def test_work_of_an_int8_model_counts_what_stays_float(graph: Graph, pictures: np.ndarray, scratch: Scratch) -> None:
    ranges = calibrate(graph, Samples({"x": pictures}, None), scratch)
    variant = int8_variant(graph, ranges, Scheme(activations="int8"), scratch)
    whole, parts = workload(graph)["float32"].operators, workload(variant.graph)
    products = [cost for cost in whole if cost.macs]
    integers = [cost for cost in parts["int8"].operators if cost.macs]
    assert [(cost.kind, cost.macs) for cost in integers] == [(cost.kind, cost.macs) for cost in products]
    assert [cost.weight_bytes for cost in integers] == [
        pytest.approx(cost.weight_bytes / 4, rel=0.01) for cost in products
    ]
    # The input is quantized and the scores are dequantized: two passes over values that the float model does not make.
    assert [cost.macs for cost in parts["float32"].operators] == [0, 0]


def test_ranges_of_a_fixed_batch_see_every_value_of_every_axis(scratch: Scratch) -> None:
    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17]>
        g (float[1, 4] x) => (float[1, 4] y) {
            turned = Transpose<perm = [1, 0]>(x) y = Transpose<perm = [1, 0]>(turned)
        }"""
    )
    x = np.array([[1, 2, 3, 4], [-5, 0, 0, 9]], np.float32)
    ranges = calibrate(import_proto(model, "test"), Samples({"x": x}, None), scratch)
    assert (ranges.lowest["turned"], ranges.highest["turned"]) == (-5, 9)


def test_a_tensor_that_reaches_infinity_and_is_not_quantized_does_no_harm(scratch: Scratch) -> None:
    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17]>
        g (float[N, 4] x) => (float[N, 3] y) { far = Div(x, zero) soft = Softmax(far) z = MatMul(x, w) y = Relu(z) }"""
    )
    weights = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    model.graph.initializer.append(numpy_helper.from_array(np.zeros((), np.float32), "zero"))
    model.graph.initializer.append(numpy_helper.from_array(weights, "w"))
    graph = import_proto(model, "test")
    samples = Samples({"x": np.ones((5, 4), np.float32)}, None)
    ranges = calibrate(graph, samples, scratch)
    assert ranges.highest["far"] == np.inf
    variant = int8_variant(graph, ranges, Scheme(activations="int8"), scratch)
    found = evaluate(variant.model, samples, Arithmetic.EXACT, 1)["y"]
    np.testing.assert_allclose(found, np.maximum(samples.inputs["x"] @ weights, 0), atol=0.05)


def test_a_tensor_that_reaches_infinity_is_not_quantized(graph: Graph, pictures: np.ndarray, scratch: Scratch) -> None:
    ranges = calibrate(graph, Samples({"x": pictures}, None), scratch)
    endless = Ranges(ranges.lowest, ranges.highest | {"r1": np.inf}, ranges.samples)
    with pytest.raises(NotQuantizable, match="not specified for param r1"):
        int8_variant(graph, endless, Scheme(activations="int8"), scratch)


@pytest.mark.parametrize("opset", [13, 21, NEWEST_OPSET])
def test_every_opset_that_is_read_can_be_quantized(opset: int, pictures: np.ndarray, scratch: Scratch) -> None:
    model = classifier()
    model.opset_import[0].version = opset
    graph = import_proto(model, "test")
    samples = Samples({"x": pictures}, None)
    quantized = int8_variant(
        graph, calibrate(graph, samples, scratch), Scheme(activations="uint8", reduce_range=True), scratch
    )
    found = evaluate(quantized.model, samples, Arithmetic.ENGINE, 1)["scores"]
    assert snr_db(found, evaluate(float_variant(graph, scratch).model, samples, Arithmetic.ENGINE, 1)["scores"]) > 25
