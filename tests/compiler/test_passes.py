"""The contract of passes, and that each float pass keeps the numbers."""

from __future__ import annotations

import numpy as np
import onnx.parser
import pytest
from onnx import numpy_helper

from edgewright.compiler.data import Samples
from edgewright.compiler.faults import DataError
from edgewright.compiler.frontends.onnx import import_proto
from edgewright.compiler.graph import Graph, operator_counts, signature, to_bytes
from edgewright.compiler.lower.onnxruntime import Arithmetic, open_session, run
from edgewright.compiler.lower.workload import memory, workload
from edgewright.compiler.optimize import FLOAT_PASSES
from edgewright.compiler.optimize.batchnorm_folding import FoldBatchNormalization
from edgewright.compiler.optimize.bias_folding import FoldBias
from edgewright.compiler.optimize.input_normalization import FoldInputNormalization, Normalization
from edgewright.compiler.optimize.transpose_cleanup import CleanTransposes
from edgewright.compiler.passes import Evidence, NoOptions, Pass, PassContractError
from edgewright.compiler.variants import evaluate
from edgewright.targets.board import Board


def graph_of(
    text_nodes: str, weights: dict[str, np.ndarray], shape: str = "N, 4, 6, 6", out: str = "N, A, B, C"
) -> Graph:
    model = onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : 17]> g (float[{shape}] x) => (float[{out}] y) {{ {text_nodes} }}'
    )
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in weights.items())
    return import_proto(model, "test")


def weights(*shapes: tuple[int, ...]) -> list[np.ndarray]:
    random = np.random.default_rng(0)
    return [random.normal(size=shape).astype(np.float32) for shape in shapes]


def same_numbers(before: Graph, after: Graph, x: np.ndarray) -> None:
    old = run(open_session(to_bytes(before), Arithmetic.EXACT), {"x": x})["y"]
    new = run(open_session(to_bytes(after), Arithmetic.EXACT), {"x": x})["y"]
    np.testing.assert_allclose(new, old, rtol=1e-4, atol=1e-4)


X = np.random.default_rng(1).normal(size=(3, 4, 6, 6)).astype(np.float32)


def test_batch_normalisation_goes_into_the_convolution() -> None:
    w, scale, shift, mean = weights((8, 4, 3, 3), (8,), (8,), (8,))
    before = graph_of(
        "c = Conv(x, w) y = BatchNormalization(c, scale, shift, mean, variance)",
        {"w": w, "scale": scale, "shift": shift, "mean": mean, "variance": np.full(8, 2, dtype=np.float32)},
    )
    result = FoldBatchNormalization()(before, NoOptions())
    assert result.evidence == {"folded": 1, "left": 0}
    same_numbers(before, result.graph, X)


@pytest.mark.parametrize("bias_shape", [(8, 1, 1), (1, 8, 1, 1)])
@pytest.mark.parametrize("order", ["Add(c, b)", "Add(b, c)"])
def test_an_added_constant_becomes_the_bias(bias_shape: tuple[int, ...], order: str) -> None:
    w, b = weights((8, 4, 3, 3), bias_shape)
    before = graph_of(f"c = Conv(x, w) a = {order} y = Relu(a)", {"w": w, "b": b})
    result = FoldBias()(before, NoOptions())
    assert operator_counts(result.graph) == {"Conv": 1, "Relu": 1}
    same_numbers(before, result.graph, X)


@pytest.mark.parametrize("bias_shape", [(4,), (1, 1, 1, 4), (8, 4, 4)])
def test_a_constant_that_is_no_bias_stays(bias_shape: tuple[int, ...]) -> None:
    w, b = weights((8, 4, 3, 3), bias_shape)
    before = graph_of("c = Conv(x, w) y = Add(c, b)", {"w": w, "b": b})
    assert FoldBias()(before, NoOptions()).evidence["conv_biases"] == 0


def test_transposes_that_cancel_go() -> None:
    before = graph_of(
        "a = Transpose<perm=[0,2,3,1]>(x) i = Identity(a) b = Transpose<perm=[0,3,1,2]>(i) y = Relu(b)", {}
    )
    result = CleanTransposes()(before, NoOptions())
    assert operator_counts(result.graph) == {"Relu": 1}
    same_numbers(before, result.graph, X)


def test_all_float_passes_keep_numbers_and_give_the_same_bytes_again() -> None:
    w, b, dead = weights((8, 4, 3, 3), (8, 1, 1), (5,))
    before = graph_of(
        "s = Shape(x) k = Add(one, one) c = Conv(x, w) a = Add(c, b) z = Mul(a, k) y = Relu(z)",
        {"w": w, "b": b, "dead": dead, "one": np.ones(1, dtype=np.float32)},
    )

    def optimised() -> Graph:
        graph = before
        for float_pass in FLOAT_PASSES:
            graph = float_pass(graph, NoOptions()).graph
        return graph

    after = optimised()
    same_numbers(before, after, X)
    assert "Shape" not in operator_counts(after)
    assert "dead" not in after.graph.initializers
    assert to_bytes(after) == to_bytes(optimised())


@pytest.mark.parametrize(("mean", "scale"), [((128.0,), (1 / 128,)), ((1.0, 2.0, 3.0, 4.0), (0.1, 0.2, 0.3, 0.4))])
@pytest.mark.parametrize("datatype", ["UINT8", "INT8"])
def test_normalisation_is_folded_in(mean: tuple[float, ...], scale: tuple[float, ...], datatype: str) -> None:
    before = graph_of("y = Relu(x)", {}, out="N, 4, 6, 6")
    folded = FoldInputNormalization()(before, Normalization(mean=mean, scale=scale, datatype=datatype)).graph
    assert signature(folded).inputs[0].dtype.name == datatype
    assert [node.op_type for node in folded.graph][:3] == ["Cast", "Sub", "Mul"]
    raw = np.random.default_rng(0).integers(0, 120, size=(2, 4, 6, 6)).astype(datatype.lower())
    shape = (1, -1, 1, 1) if len(mean) > 1 else ()
    wanted = (raw - np.array(mean, dtype=np.float32).reshape(shape)) * np.array(scale, dtype=np.float32).reshape(shape)
    got = evaluate(to_bytes(folded), Samples({"x": raw}, None), Arithmetic.ENGINE, 1)["y"]
    np.testing.assert_allclose(got, np.maximum(wanted, 0), rtol=1e-5)


def test_normalisation_per_channel_needs_channels() -> None:
    before = graph_of("y = Relu(x)", {}, out="N, 4, 6, 6")
    with pytest.raises(DataError, match="--mean has 3 values"):
        FoldInputNormalization()(before, Normalization(mean=(1.0, 2.0, 3.0)))


class _Bad(Pass[NoOptions]):
    name = "bad"


class DropsOutput(_Bad):
    def apply(self, graph: Graph, options: NoOptions, target: Board | None) -> tuple[Graph, Evidence]:
        del options, target
        graph.graph.outputs.clear()
        return graph, {}


class BreaksOrder(_Bad):
    def apply(self, graph: Graph, options: NoOptions, target: Board | None) -> tuple[Graph, Evidence]:
        del options, target
        last = graph.graph[-1]
        graph.graph.remove(last)
        graph.graph.insert_before(graph.graph[0], last)
        return graph, {}


class RichEvidence(_Bad):
    def apply(self, graph: Graph, options: NoOptions, target: Board | None) -> tuple[Graph, Evidence]:
        del options, target
        return graph, {"list": [1]}  # type: ignore[dict-item]


@pytest.mark.parametrize(
    ("bad", "message"), [(DropsOutput(), "signature"), (BreaksOrder(), "before it exists"), (RichEvidence(), "scalar")]
)
def test_a_pass_that_breaks_its_contract_is_caught(bad: _Bad, message: str) -> None:
    graph = graph_of("a = Relu(x) y = Neg(a)", {}, out="N, 4, 6, 6")
    bytes_before = to_bytes(graph)
    with pytest.raises(PassContractError, match=f"pass bad.*{message}"):
        bad(graph, NoOptions())
    assert to_bytes(graph) == bytes_before


def test_work_and_memory_of_a_convolution() -> None:
    w, d = weights((8, 4, 3, 3), (8, 1, 3, 3))
    graph = graph_of("c = Conv(x, w) r = Relu(c) y = Conv<group=8>(r, d)", {"w": w, "d": d})
    first, second = workload(graph)["float32"].operators
    assert (first.kind, first.macs, first.weight_bytes) == ("conv", 8 * 4 * 4 * 4 * 9, 8 * 4 * 9 * 4)
    assert (second.kind, second.macs) == ("depthwise", 8 * 2 * 2 * 9)
    assert first.activation_bytes == (4 * 36 + 8 * 16) * 4
    assert memory(graph, 1).weight_bytes == 8 * 4 * 9 + 8 * 9


def test_work_of_free_dimensions_is_that_of_the_data() -> None:
    (w,) = weights((8, 4, 3, 3))
    graph = graph_of("y = Conv(x, w)", {"w": w}, shape="N, 4, H, W")
    (conv,) = workload(graph, {"x": (1, 4, 20, 30)})["float32"].operators
    assert conv.macs == 8 * 4 * 9 * 18 * 28
    assert memory(graph, 4, {"x": (1, 4, 20, 30)}).peak_activation_bytes == 4 * (4 * 600 + 8 * 18 * 28)


def test_a_lookup_reads_rows_not_the_whole_table() -> None:
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> g (int64[N, 5] x) => (float[N, 5, 8] y) { y = Gather(table, x) }'
    )
    model.graph.initializer.append(numpy_helper.from_array(np.zeros((1000, 8), np.float32), "table"))
    (lookup,) = workload(import_proto(model, "test"))["float32"].operators
    assert lookup.weight_bytes == 5 * 8 * 4


def test_every_step_of_a_recurrent_layer_counts() -> None:
    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17]>
        g (float[7, N, 4] x) => (float[7, 1, N, 3] y) { y = LSTM<hidden_size = 3>(x, w, r) }"""
    )
    for name, shape in (("w", (1, 12, 4)), ("r", (1, 12, 3))):
        model.graph.initializer.append(numpy_helper.from_array(np.zeros(shape, np.float32), name))
    (lstm,) = workload(import_proto(model, "test"))["float32"].operators
    assert (lstm.kind, lstm.macs) == ("matmul", 7 * (12 * 4 + 12 * 3))
