"""Factors that move between weights: the same function, closer ranges, and nothing touched that others read."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgewright.compiler.faults import ModelError
from edgewright.compiler.graph import Graph, to_bytes
from edgewright.compiler.quantize.corrections.equalize import (
    LARGEST_FACTOR,
    SMALLEST_FACTOR,
    equalized,
    find_equalizations,
)
from edgewright.compiler.quantize.corrections.links import find_links
from edgewright.compiler.quantize.plan import Equalization
from edgewright.compiler.quantize.weights import weight_array
from tests.compiler.link_nets import (
    Array,
    assert_same_function,
    net_of,
    normal,
    random_factors,
    random_graph,
)

X = normal(3, 4, 6, 6, seed=1)
ROWS = normal(5, 4, seed=1)


def pairs(graph: Graph) -> dict[str, set[str]]:
    return {link.producer.name or "": {node.name or "" for node in link.consumers} for link in find_links(graph)}


def weight(graph: Graph, name: str) -> Array:
    array = weight_array(next(node for node in graph.graph if node.name == name))
    assert array is not None
    return array


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_any_factors_keep_the_function_of_any_net(seed: int) -> None:
    graph, x = random_graph(seed)
    before = to_bytes(graph)
    assert_same_function(graph, equalized(graph, random_factors(graph, seed)), x)
    assert to_bytes(graph) == before


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_what_is_found_keeps_the_function_too(seed: int) -> None:
    graph, x = random_graph(seed)
    assert_same_function(graph, equalized(graph, find_equalizations(graph)), x)


def test_random_nets_have_links_of_every_kind() -> None:
    kinds = {
        (link.producer.op_type, node.op_type, node.attributes.get_int("group", 1) > 1)
        for seed in range(40)
        for link in find_links(random_graph(seed)[0])
        for node in link.consumers
    }
    expected = {("Conv", "Conv", False), ("Conv", "Conv", True), ("Conv", "Gemm", False), ("Gemm", "Gemm", False)}
    assert expected <= kinds


def test_ranges_of_a_pair_become_equal() -> None:
    graph = net_of(
        "c = Conv(x, w1, b) r = Relu(c) y = Conv(r, w2)",
        {"w1": normal(8, 4, 1, 1, spread=2), "b": normal(8), "w2": normal(5, 8, 3, 3, seed=2, spread=2, axis=1)},
    )
    after = equalized(graph, find_equalizations(graph))
    made = np.abs(weight(after, "n_c")).max(axis=(1, 2, 3))
    read = np.abs(weight(after, "n_y")).max(axis=(0, 2, 3))
    np.testing.assert_allclose(made, read, rtol=0.02)
    assert_same_function(graph, after, X)


def test_a_chain_through_a_depthwise_convolution_settles() -> None:
    graph = net_of(
        "c = Conv(x, w1) r = Relu(c) d = Conv<group=8>(r, w2) s = Relu(d) y = Conv(s, w3)",
        {
            "w1": normal(8, 4, 1, 1, spread=2),
            "w2": normal(8, 1, 3, 3, seed=2, spread=2),
            "w3": normal(5, 8, 1, 1, seed=3, spread=2, axis=1),
        },
    )
    after = equalized(graph, find_equalizations(graph))
    first = np.abs(weight(after, "n_c")).max(axis=(1, 2, 3))
    middle = np.abs(weight(after, "n_d")).max(axis=(1, 2, 3))
    last = np.abs(weight(after, "n_y")).max(axis=(0, 2, 3))
    np.testing.assert_allclose(first, middle, rtol=0.05)
    np.testing.assert_allclose(middle, last, rtol=0.05)


@pytest.mark.parametrize("transposed", [0, 1])
def test_gemm_both_ways_round(transposed: int) -> None:
    shapes = [(4, 6), (6, 3)]
    w1, w2 = (normal(*(shape[::-1] if transposed else shape), spread=1) for shape in shapes)
    graph = net_of(
        f"g = Gemm<transB={transposed}>(x, w1, b) r = Relu(g) y = Gemm<transB={transposed}>(r, w2)",
        {"w1": w1, "b": normal(1, 6), "w2": w2},
        shape="N, 4",
        out="N, 3",
    )
    assert pairs(graph) == {"n_g": {"n_y"}}
    assert_same_function(graph, equalized(graph, random_factors(graph, 3)), ROWS)


def test_matmul_with_an_added_bias_for_sequences() -> None:
    graph = net_of(
        "m = MatMul(x, w1) a = Add(b, m) r = Relu(a) y = MatMul(r, w2)",
        {"w1": normal(4, 6), "b": np.array([0.5], np.float32), "w2": normal(6, 3)},
        shape="N, T, 4",
        out="N, T, 3",
    )
    assert pairs(graph) == {"n_m": {"n_y"}}
    assert_same_function(graph, equalized(graph, random_factors(graph, 3)), normal(2, 7, 4))


def test_several_readers_share_their_factors() -> None:
    graph = net_of(
        "c = Conv(x, w1) r = Relu(c) a = Conv(r, w2) m = MaxPool<kernel_shape=[1,1]>(r) b = Conv(m, w3) y = Add(a, b)",
        {"w1": normal(8, 4, 1, 1, spread=2), "w2": normal(5, 8, 1, 1), "w3": normal(5, 8, 1, 1, seed=4)},
    )
    assert pairs(graph) == {"n_c": {"n_a", "n_b"}}
    assert_same_function(graph, equalized(graph, random_factors(graph, 3)), X)


UNTOUCHABLE = {
    "a residual addition reads it": "c = Conv(x, w) r = Relu(c) d = Conv(r, v) y = Add(r, d)",
    "its bound would be one per channel": "c = Conv(x, w) r = Clip(c, zero, six) y = Conv(r, v)",
    "not homogeneous": "c = Conv(x, w) r = Sigmoid(c) y = Conv(r, v)",
    "channels are joined": "c = Conv(x, w) r = Concat<axis=1>(c, c) y = Conv(r, wide)",
    "channels are moved": "c = Conv(x, w) r = Transpose<perm=[0,2,3,1]>(c) y = Conv(r, six_inputs)",
    "padding that is not zero": "c = Conv(x, w) r = Pad(c, pads, six) y = Conv(r, v)",
    "channels are padded": "c = Conv(x, w) r = Pad(c, pads_channels) y = Conv(r, five_inputs)",
    "the same weight twice": "c = Conv(x, w) r = Relu(c) y = Conv(r, w)",
    "another node reads the weight": "c = Conv(x, w) y = Conv(c, v) e = Conv(x, w)",
    "the weight is computed": "c = Conv(x, w) k = Neg(v) y = Conv(c, k)",
    "the pixels stay": "c = Conv(x, w) f = Flatten(c) g = Gemm(f, flat) y = Unsqueeze(g, axes)",
}


@pytest.mark.parametrize("text", UNTOUCHABLE.values(), ids=UNTOUCHABLE.keys())
def test_what_must_not_be_touched(text: str) -> None:
    constants: dict[str, NDArray[Any]] = {
        "w": normal(4, 4, 1, 1),
        "v": normal(4, 4, 1, 1, seed=2),
        "wide": normal(4, 8, 1, 1),
        "six_inputs": normal(4, 6, 1, 1),
        "five_inputs": normal(4, 5, 1, 1),
        "flat": normal(144, 3),
        "zero": np.array(0, np.float32),
        "six": np.array(6, np.float32),
        "pads": np.array([0, 0, 1, 1, 0, 0, 1, 1]),
        "pads_channels": np.array([0, 1, 0, 0, 0, 0, 0, 0]),
        "axes": np.array([2, 3]),
    }
    graph = net_of(text, {name: array for name, array in constants.items() if name in text})
    assert pairs(graph) == {}


def test_a_graph_output_is_not_touched() -> None:
    graph = net_of("y = Conv(x, w) z = Conv(y, v)", {"w": normal(4, 4, 1, 1), "v": normal(4, 4, 1, 1, seed=2)})
    assert pairs(graph) == {}


def test_a_shared_bias_stays_for_the_other_reader() -> None:
    graph = net_of(
        "c = Conv(x, w, b) r = Relu(c) d = Conv(r, v, b) y = Relu(d)",
        {"w": normal(4, 4, 1, 1), "v": normal(4, 4, 1, 1, seed=2), "b": normal(4)},
    )
    assert pairs(graph) == {"n_c": {"n_d"}}
    assert_same_function(graph, equalized(graph, random_factors(graph, 3)), X)


def test_dead_channels_keep_their_weights_and_nothing_becomes_nan() -> None:
    w, v = normal(8, 4, 1, 1), normal(5, 8, 1, 1)
    w[2], v[:, 3] = 0, 0
    w[4] *= 1e-30
    graph = net_of("c = Conv(x, w) r = Relu(c) y = Conv(r, v)", {"w": w, "v": v})
    (found,) = find_equalizations(graph)
    assert found.factors[2] == found.factors[3] == 1.0
    assert all(np.float32(SMALLEST_FACTOR) <= factor <= np.float32(LARGEST_FACTOR) for factor in found.factors)
    assert_same_function(graph, equalized(graph, [found]), X)


def test_weights_that_are_not_finite_are_left_alone() -> None:
    w = normal(4, 4, 1, 1)
    w[0, 0] = np.inf
    graph = net_of("c = Conv(x, w) y = Conv(c, v)", {"w": w, "v": normal(4, 4, 1, 1, seed=2)})
    assert find_equalizations(graph) == ()


def simple() -> tuple[Graph, Equalization]:
    graph = net_of("c = Conv(x, w) y = Conv(c, v)", {"w": normal(4, 4, 1, 1), "v": normal(4, 4, 1, 1, seed=2)})
    return graph, find_equalizations(graph)[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"producer": "gone"}, "is not in the model"),
        ({"producer": "n_y"}, "no factor can move"),
        ({"consumers": ("n_c",)}, "its consumers in the model are n_y, the plan has n_c"),
        ({"factors": (1.0,)}, "expected 4 factors, one per channel, got 1"),
    ],
)
def test_an_edited_entry_that_does_not_fit_says_why(change: dict[str, object], message: str) -> None:
    graph, entry = simple()
    with pytest.raises(ModelError, match=message):
        equalized(graph, [msgspec.structs.replace(entry, **change)])


def test_applied_twice_is_applied_twice() -> None:
    graph, entry = simple()
    twice = equalized(equalized(graph, [entry]), [entry])
    np.testing.assert_allclose(weight(twice, "n_c"), weight(equalized(graph, [entry, entry]), "n_c"), rtol=1e-6)
    assert_same_function(graph, twice, X)


def test_old_weights_do_not_stay_in_the_model() -> None:
    graph, entry = simple()
    assert len(equalized(graph, [entry]).graph.initializers) == 2
