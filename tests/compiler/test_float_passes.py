"""Each float pass on random shapes: what it takes away is gone, and the numbers stay."""

from __future__ import annotations

import numpy as np
import onnx.parser
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper

from edgewright.compiler.frontends.onnx import import_proto
from edgewright.compiler.graph import Graph, is_quantized, operator_counts, signature, to_bytes
from edgewright.compiler.lower.onnxruntime import Arithmetic, open_session
from edgewright.compiler.optimize import FLOAT_PASSES
from edgewright.compiler.optimize.clip_fusion import FuseClips
from edgewright.compiler.optimize.constant_folding import FoldConstants
from edgewright.compiler.optimize.mean_pooling import PoolMeans
from edgewright.compiler.optimize.no_op_removal import RemoveNoOps
from edgewright.compiler.optimize.pad_folding import FoldPad
from edgewright.compiler.optimize.scale_folding import FoldScale
from edgewright.compiler.optimize.transpose_cleanup import CleanTransposes
from edgewright.compiler.optimize.transpose_sinking import SinkTransposes
from edgewright.compiler.optimize.weight_dequantization import DequantizeWeights
from edgewright.compiler.passes import NoOptions

FAST = settings(max_examples=25, deadline=None)
Weights = dict[str, np.ndarray]


def graph_of(text: str, weights: Weights, shape: str, out: str, opset: int = 17) -> Graph:
    model = onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : {opset}]> g (float[{shape}] x) => (float[{out}] y) {{ {text} }}'
    )
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in weights.items())
    return import_proto(model, "test")


def output(graph: Graph, x: np.ndarray) -> np.ndarray:
    return np.asarray(open_session(to_bytes(graph), Arithmetic.EXACT).run(None, {"x": x})[0])


def check_same(before: Graph, after: Graph, x: np.ndarray) -> None:
    expected, found = output(before, x), output(after, x)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * max(1.0, float(np.abs(expected).max())))
    assert signature(after) == signature(before)
    names = [value.name for node in after.graph for value in node.outputs]
    names += [*after.graph.initializers, *(value.name for value in after.graph.inputs)]
    assert len(names) == len(set(names))


def normal(random: np.random.Generator, *shape: int) -> np.ndarray:
    return random.normal(size=shape).astype(np.float32)


READERS = {
    "Mul": "y = Mul(p, c)",
    "Mul from the right": "y = Mul(c, p)",
    "Div": "y = Div(p, c)",
    "Add": "y = Add(p, c)",
    "Sub": "y = Sub(p, c)",
    "Sub from": "y = Sub(c, p)",
    "Mul, Add, Mul": "q = Mul(p, c) r = Add(q, c) y = Mul(r, d)",
    "BatchNormalization": "y = BatchNormalization(p, c, d, c, v)",
}
PRODUCTS = {
    "Conv": "p = Conv(x, w)",
    "Conv with bias": "p = Conv(x, w, b)",
    "grouped ConvTranspose": "p = ConvTranspose<group = 2>(x, w)",
}


@given(
    product=st.sampled_from(sorted(PRODUCTS)),
    reader=st.sampled_from(sorted(READERS)),
    half=st.integers(1, 3),
    scalar=st.booleans(),
    seed=st.integers(0, 1000),
)
@settings(max_examples=60, deadline=None)
def test_scales_go_into_convolutions(product: str, reader: str, half: int, scalar: bool, seed: int) -> None:
    random = np.random.default_rng(seed)
    channels, is_norm = 2 * half, reader == "BatchNormalization"
    shape = (channels,) if is_norm else () if scalar else (channels, 1, 1)
    weight = (4, half, 3, 3) if "Transpose" in product else (channels, 4, 3, 3)
    weights: Weights = {
        "w": normal(random, *weight),
        "b": normal(random, channels),
        "c": random.uniform(0.5, 2, shape).astype(np.float32),
        "d": normal(random, *shape),
        "v": random.uniform(0.1, 2, shape).astype(np.float32),
    }
    before = graph_of(f"{PRODUCTS[product]} {READERS[reader]}", weights, "N, 4, 5, 6", f"N, {channels}, H, W")
    result = FoldScale()(before, NoOptions())
    assert set(operator_counts(result.graph)) == {product.split()[-1 if product.startswith("grouped") else 0]}
    check_same(before, result.graph, normal(random, 2, 4, 5, 6))


@given(
    reader=st.sampled_from(sorted(READERS)),
    turned=st.booleans(),
    with_bias=st.booleans(),
    alpha=st.sampled_from([1.0, 0.5]),
    beta=st.sampled_from([1.0, 2.0]),
    columns=st.integers(1, 5),
    seed=st.integers(0, 1000),
)
@FAST
def test_scales_go_into_gemm(
    reader: str, turned: bool, with_bias: bool, alpha: float, beta: float, columns: int, seed: int
) -> None:
    random = np.random.default_rng(seed)
    weights: Weights = {
        "w": normal(random, *((columns, 4) if turned else (4, columns))),
        "b": normal(random, columns),
        "c": random.uniform(0.5, 2, columns).astype(np.float32),
        "d": normal(random, columns),
        "v": random.uniform(0.1, 2, columns).astype(np.float32),
    }
    gemm = f"Gemm<transB = {int(turned)}, alpha = {alpha}, beta = {beta}>(x, w{', b' if with_bias else ''})"
    before = graph_of(f"p = {gemm} {READERS[reader]}", weights, "N, 4", f"N, {columns}")
    after = FoldScale()(before, NoOptions()).graph
    assert operator_counts(after) == {"Gemm": 1}
    check_same(before, after, normal(random, 3, 4))


@given(rank=st.integers(2, 4), columns=st.integers(1, 5), seed=st.integers(0, 1000))
@FAST
def test_a_scale_goes_into_a_matrix_product_and_its_shift_stays(rank: int, columns: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    weights: Weights = {"w": normal(random, 4, columns), "c": normal(random, columns), "d": normal(random, columns)}
    shape, out = "N" + ", 3" * (rank - 2) + ", 4", "N" + ", 3" * (rank - 2) + f", {columns}"
    before = graph_of("p = MatMul(x, w) q = Mul(p, c) y = Add(q, d)", weights, shape, out)
    after = FoldScale()(before, NoOptions()).graph
    assert operator_counts(after) == {"Add": 1, "MatMul": 1}
    check_same(before, after, normal(random, 2, *(3,) * (rank - 2), 4))


@pytest.mark.parametrize(
    "text",
    [
        "p = Conv(x, w) q = Mul(p, c) y = Add(q, p)",  # the product has another reader
        "p = Conv(x, w) y = Mul(p, wide)",  # varies over pixels
        "p = Conv(x, w) y = Mul(p, last)",  # along the width, not the channels
        "p = Conv(x, w) y = Div(c, p)",
        "p = Conv(x, w) y = Div(p, zero)",
        "p = Conv(x, w) y = Mul(p, p)",
        "p = Conv(x, w) y = Mul(p, five)",  # makes the result five-dimensional
    ],
)
def test_what_is_no_channel_scale_stays(text: str) -> None:
    random = np.random.default_rng(0)
    weights: Weights = {
        "w": normal(random, 4, 4, 1, 1),
        "c": normal(random, 4, 1, 1),
        "wide": normal(random, 4, 4, 4),
        "last": normal(random, 4),
        "zero": np.zeros((4, 1, 1), np.float32),
        "five": normal(random, 1, 1, 4, 1, 1),
    }
    before = graph_of(text, weights, "N, 4, 4, 4", "A, B, C, D, E" if "five" in text else "A, B, C, D")
    assert FoldScale()(before, NoOptions()).evidence == {"folded": 0}


@given(
    activation=st.sampled_from(
        ["Relu(c)", "LeakyRelu<alpha = 0.1>(c)", "Clip(c, low, high)", "Add(c, k)", "Mul(k, c)"]
    ),
    second=st.sampled_from(["Sigmoid(d)", "Add(d, last)", "Max(d, low)", "Sub(d, k)"]),
    channels=st.integers(1, 4),
    seed=st.integers(0, 1000),
)
@FAST
def test_transposes_cancel_across_what_works_value_by_value(
    activation: str, second: str, channels: int, seed: int
) -> None:
    random = np.random.default_rng(seed)
    weights: Weights = {
        "low": np.array(-0.5, np.float32),
        "high": np.array(0.7, np.float32),
        "k": normal(random, 3, 1, channels),
        "last": normal(random, channels),
    }
    before = graph_of(
        f"""a = Relu(x) b = Transpose<perm = [0, 2, 3, 1]>(a) c = Neg(b) d = {activation} e = {second}
        y = Transpose<perm = [0, 3, 1, 2]>(e)""",
        weights,
        f"N, {channels}, 3, 5",
        f"N, {channels}, 3, 5",
    )
    sunk = SinkTransposes()(before, NoOptions()).graph
    after = CleanTransposes()(sunk, NoOptions()).graph
    assert "Transpose" not in operator_counts(after)
    x = normal(random, 2, channels, 3, 5)
    check_same(before, sunk, x)
    check_same(before, after, x)


def test_transposes_of_both_operands_become_one() -> None:
    before = graph_of(
        """a = Transpose<perm = [0, 2, 1]>(x) r = Relu(x) b = Transpose<perm = [0, 2, 1]>(r) c = Add(a, b) d = Mul(c, c)
        y = Transpose<perm = [0, 2, 1]>(d)""",
        {},
        "N, L, 4",
        "N, L, 4",
    )
    after = CleanTransposes()(SinkTransposes()(before, NoOptions()).graph, NoOptions()).graph
    assert operator_counts(after) == {"Add": 1, "Mul": 1, "Relu": 1}
    check_same(before, after, normal(np.random.default_rng(0), 2, 3, 4))


@pytest.mark.parametrize(
    "text",
    [
        "t = Transpose<perm = [0, 2, 1]>(x) y = Softmax(t)",
        "t = Transpose<perm = [0, 2, 1]>(x) r = Relu(t) y = Add(r, t)",
        "t = Transpose<perm = [0, 2, 1]>(x) y = Add(t, x)",
        "t = Transpose<perm = [0, 2, 1]>(x) y = Add(t, four)",
    ],
)
def test_transposes_stay_where_order_matters(text: str) -> None:
    weights: Weights = {"four": np.ones((2, 1, 4, 4), np.float32)}
    before = graph_of(text, weights, "N, 4, 4", "A, B, C, D" if "four" in text else "A, B, C")
    assert SinkTransposes()(before, NoOptions()).evidence == {"moved": 0}


@given(
    axes=st.sampled_from([(2, 3), (3, 2), (-2, -1)]),
    keep=st.booleans(),
    opset=st.sampled_from([13, 18]),
    channels=st.integers(1, 4),
)
@FAST
def test_means_of_pictures_are_pooled(axes: tuple[int, int], keep: bool, opset: int, channels: int) -> None:
    attributes = f"keepdims = {int(keep)}" + (f", axes = [{axes[0]}, {axes[1]}]" if opset < 18 else "")
    weights: Weights = {} if opset < 18 else {"axes": np.array(axes, np.int64)}
    text = f"y = ReduceMean<{attributes}>(x{'' if opset < 18 else ', axes'})"
    before = graph_of(text, weights, f"N, {channels}, H, W", "N, C, 1, 1" if keep else "N, C", opset)
    result = PoolMeans()(before, NoOptions())
    assert result.evidence == {"pooled": 1}
    assert "GlobalAveragePool" in operator_counts(result.graph)
    check_same(before, result.graph, normal(np.random.default_rng(0), 2, channels, 4, 3))


@pytest.mark.parametrize("axes", ["[1, 2]", "[3]", "[1, 2, 3]"])
def test_other_means_stay(axes: str) -> None:
    before = graph_of(f"y = ReduceMean<axes = {axes}>(x)", {}, "N, 4, 5, 6", "A, B, C, D")
    assert PoolMeans()(before, NoOptions()).evidence == {"pooled": 0}


@given(pads=st.lists(st.integers(0, 3), min_size=4, max_size=4), stride=st.integers(1, 2))
@FAST
def test_zero_padding_goes_into_the_convolution(pads: list[int], stride: int) -> None:
    random = np.random.default_rng(0)
    weights: Weights = {"w": normal(random, 3, 4, 3, 3), "p": np.array([0, 0, *pads[:2], 0, 0, *pads[2:]], np.int64)}
    before = graph_of(
        f"a = Pad(x, p) y = Conv<strides = [{stride}, {stride}]>(a, w)", weights, "N, 4, 6, 7", "N, 3, H, W"
    )
    after = FoldPad()(before, NoOptions()).graph
    assert operator_counts(after) == {"Conv": 1}
    check_same(before, after, normal(random, 2, 4, 6, 7))


@pytest.mark.parametrize("text", ["a = Pad(x, p, one)", "a = Pad<mode = 'reflect'>(x, p)", "a = Pad(x, channels)"])
def test_other_padding_stays(text: str) -> None:
    weights: Weights = {
        "w": np.ones((3, 6 if "channels" in text else 4, 3, 3), np.float32),
        "p": np.array([0, 0, 1, 1, 0, 0, 1, 1], np.int64),
        "channels": np.array([0, 1, 0, 0, 0, 1, 0, 0], np.int64),
        "one": np.array(1, np.float32),
    }
    text = text.replace("'", '"')
    before = graph_of(f"{text} y = Conv(a, w)", weights, "N, 4, 6, 7", "N, 3, H, W")
    assert FoldPad()(before, NoOptions()).evidence == {"folded": 0, "left": 1}


@pytest.mark.parametrize(
    "text",
    ["a = Max(x, zero) y = Min(a, six)", "a = Min(x, six) y = Max(a, zero)", "a = Relu(x) y = Clip(a, zero, six)"],
)
def test_every_way_to_write_relu6_is_one_clip(text: str) -> None:
    before = graph_of(text, {"zero": np.array(0, np.float32), "six": np.array(6, np.float32)}, "N, 9", "N, 9")
    after = FuseClips()(before, NoOptions()).graph
    assert operator_counts(after) == {"Clip": 1}
    check_same(before, after, 10 * normal(np.random.default_rng(0), 4, 9))


@pytest.mark.parametrize(
    "text", ["Mul(x, one)", "Mul(one, x)", "Add(x, zero)", "Sub(x, zero)", "Div(x, one)", "Dropout(x)"]
)
def test_arithmetic_that_changes_nothing_goes(text: str) -> None:
    weights: Weights = {"one": np.array(1, np.float32), "zero": np.array(0, np.float32)}
    before = graph_of(f"a = {text} y = Relu(a)", weights, "N, 9", "N, 9")
    after = RemoveNoOps()(before, NoOptions()).graph
    assert operator_counts(after) == {"Relu": 1}
    check_same(before, after, normal(np.random.default_rng(0), 4, 9))


def compressed(quantized_input: bool) -> Graph:
    random = np.random.default_rng(0)
    weights: Weights = {
        "w": random.integers(-127, 128, (3, 4, 3, 3)).astype(np.int8),
        "s": random.uniform(0.01, 0.1, 3).astype(np.float32),
        "z": np.array([0, 3, -5], np.int8),
        "xs": np.array(0.05, np.float32),
        "xz": np.array(0, np.int8),
    }
    first = "q = QuantizeLinear(x, xs, xz) a = DequantizeLinear(q, xs, xz)" if quantized_input else "a = Identity(x)"
    text = f"{first} f = DequantizeLinear<axis = 0>(w, s, z) y = Conv(a, f)"
    return graph_of(text, weights, "N, 4, 6, 7", "N, 3, H, W")


def test_compressed_weights_of_a_float_net_become_floats() -> None:
    before = compressed(quantized_input=False)
    result = DequantizeWeights()(before, NoOptions())
    assert result.evidence == {"dequantized": 1}
    assert not is_quantized(result.graph)
    check_same(before, result.graph, normal(np.random.default_rng(1), 2, 4, 6, 7))


def test_a_quantized_net_stays_one_through_all_passes() -> None:
    graph = before = compressed(quantized_input=True)
    for float_pass in FLOAT_PASSES:
        graph = float_pass(graph, NoOptions()).graph
    assert operator_counts(graph) == {"Conv": 1, "DequantizeLinear": 2, "QuantizeLinear": 1}
    assert is_quantized(graph)
    check_same(before, graph, normal(np.random.default_rng(1), 2, 4, 6, 7))


def test_folding_makes_no_file_larger_and_moves_large_weights_at_build_time() -> None:
    weights: Weights = {
        "w": np.ones((400, 400), np.float32),
        "big": np.array([70_000], np.int64),
        "one": np.ones(1, np.float32),
    }
    text = """t = Transpose<perm = [1, 0]>(w) m = MatMul(x, t) ones = Expand(one, big) r = ReduceSum(ones)
    y = Add(m, r)"""
    before = graph_of(text, weights, "N, 400", "A, B")
    after = FoldConstants()(before, NoOptions()).graph
    assert "Transpose" not in operator_counts(after)
    assert "Expand" in operator_counts(after)
    assert len(to_bytes(after)) < len(to_bytes(before)) + 1000


def test_a_picture_net_as_tensorflow_exports_it_loses_all_that_moves_and_scales() -> None:
    random = np.random.default_rng(0)
    weights: Weights = {
        "w": normal(random, 8, 3, 3, 3),
        "p": np.array([0, 0, 0, 0, 0, 0, 1, 1], np.int64),
        "gain": random.uniform(0.5, 2, (1, 8, 1, 1)).astype(np.float32),
        "shift": normal(random, 1, 8, 1, 1),
        "six": np.array(6, np.float32),
        "zero": np.array(0, np.float32),
        "d": normal(random, 8, 5),
        "e": normal(random, 5),
    }
    before = graph_of(
        """t = Transpose<perm = [0, 3, 1, 2]>(x) a = Pad(t, p) c = Conv<strides = [2, 2]>(a, w) m = Mul(c, gain)
        s = Add(m, shift) u = Transpose<perm = [0, 2, 3, 1]>(s) r = Max(u, zero) k = Min(r, six)
        v = Transpose<perm = [0, 3, 1, 2]>(k) g = ReduceMean<axes = [2, 3], keepdims = 0>(v) f = MatMul(g, d)
        y = Add(f, e)""",
        weights,
        "batch, 8, 8, 3",
        "batch, 5",
    )
    graph = before
    for float_pass in FLOAT_PASSES:
        graph = float_pass(graph, NoOptions()).graph
    assert operator_counts(graph) == {
        "Clip": 1,
        "Conv": 1,
        "Gemm": 1,
        "GlobalAveragePool": 1,
        "Squeeze": 1,
        "Transpose": 1,
    }
    assert [str(dim) for dim in graph.graph.inputs[0].shape or ()] == ["batch", "8", "8", "3"]
    check_same(before, graph, normal(random, 2, 8, 8, 3))


@pytest.mark.parametrize(
    "copy",
    ["z = Identity(y)", "z = Dropout(y)", "c = Constant<value_float = 0.0>() z = Add(y, c)", "z = Cast<to = 1>(y)"],
)
def test_an_output_that_copies_another_keeps_its_name(copy: str) -> None:
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> g (float[2, 3] x) => (float[2, 3] y, float[2, 3] z) '
        f"{{ y = Relu(x) {copy} }}"
    )
    graph = import_proto(model, "test")
    for float_pass in FLOAT_PASSES:
        graph = float_pass(graph, NoOptions()).graph
    x = normal(np.random.default_rng(0), 2, 3)
    for found in open_session(to_bytes(graph), Arithmetic.EXACT).run(["y", "z"], {"x": x}):
        np.testing.assert_array_equal(found, np.maximum(x, 0))


def test_a_body_of_scan_that_gives_its_state_twice_stays_whole() -> None:
    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17]> g (float[2] start, float[3, 2] x) => (float[2] y, float[3, 2] z) {
            y, z = Scan<num_scan_inputs = 1, body = step (float[2] state, float[2] next)
                => (float[2] after, float[2] copy) { after = Add(state, next) copy = Identity(after) }>(start, x)
        }"""
    )
    graph = RemoveNoOps()(import_proto(model, "test"), NoOptions()).graph
    x = normal(np.random.default_rng(0), 3, 2)
    feeds = {"start": np.zeros(2, np.float32), "x": x}
    _, sums = open_session(to_bytes(graph), Arithmetic.EXACT).run(["y", "z"], feeds)
    np.testing.assert_allclose(sums, np.cumsum(x, axis=0), rtol=1e-5)
