"""Smoothing: the same function, activations with equally wide channels, and only where that lowers the error."""

from __future__ import annotations

import dataclasses

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewright.compiler.graph import Graph
from edgewright.compiler.metrics import snr_db
from edgewright.compiler.quantize.corrections.equalize import equalized
from edgewright.compiler.quantize.corrections.links import find_links
from edgewright.compiler.quantize.corrections.smooth import find_smoothings
from edgewright.compiler.quantize.emit import emit
from edgewright.compiler.quantize.plan import Equalization
from edgewright.compiler.quantize.propose import propose
from edgewright.compiler.quantize.scheme import Scheme
from tests.compiler.link_nets import Array, assert_same_function, net_of, normal, random_factors, random_graph, result
from tests.compiler.nets import statistics_of

TOKENS = normal(16, 7, 16, seed=1)
PICTURES = normal(32, 4, 8, 8, seed=1)


def attention_input(form: str, scale: Array, bias: Array | None = None, gain: float = 1.0) -> Graph:
    """A pre-norm block up to its three projections, which read channel 3 with a gain."""
    norm = {
        "whole": "n = LayerNormalization<axis=-1>(x, scale, bias)",
        "without bias": "n = LayerNormalization<axis=-1>(x, scale)",
        "in parts": "mean = ReduceMean<axes=[-1]>(x) d = Sub(x, mean) q = Mul(d, d) v = ReduceMean<axes=[-1]>(q) "
        "e = Add(v, epsilon) r = Sqrt(e) u = Div(d, r) s = Mul(scale, u) n = Add(s, bias)",
    }[form]
    weights: dict[str, Array] = {
        "scale": scale,
        "bias": normal(16) if bias is None else bias,
        "epsilon": np.array([1e-5], np.float32),
        **{f"w{index}": normal(16, 8, seed=index) for index in range(3)},
    }
    for index in range(3):
        weights[f"w{index}"][3] *= np.float32(gain)
    text = f"{norm} p0 = MatMul(n, w0) p1 = MatMul(n, w1) p2 = MatMul(n, w2) y = Concat<axis=-1>(p0, p1, p2)"
    used = {name: array for name, array in weights.items() if f" {name}" in text or f"({name}" in text}
    return net_of(text, used, shape="N, T, 16", out="N, T, 24")


def outliers(size: float = 60.0) -> Array:
    scale = np.ones(16, np.float32)
    scale[3] = size
    return scale


@pytest.mark.parametrize("form", ["whole", "without bias", "in parts"])
def test_a_normalisation_gives_its_outliers_to_the_projections(form: str) -> None:
    graph = attention_input(form, outliers())
    (found,) = find_smoothings(graph, statistics_of(graph, {"x": TOKENS}))
    after = equalized(graph, [found])
    assert set(found.consumers) == {"n_p0", "n_p1", "n_p2"}
    assert_same_function(graph, after, TOKENS)
    assert unevenness(after, TOKENS) < unevenness(graph, TOKENS) / 3


@pytest.mark.parametrize("form", ["whole", "without bias", "in parts"])
def test_any_factors_keep_the_function_of_a_normalisation(form: str) -> None:
    graph = attention_input(form, outliers())
    assert_same_function(graph, equalized(graph, random_factors(graph, 5)), TOKENS)


def test_a_residual_behind_the_normalisation_forbids_it() -> None:
    graph = net_of(
        "n = LayerNormalization<axis=-1>(x, scale) p = MatMul(n, w) y = Add(p, n)",
        {"scale": outliers(), "w": normal(16, 16)},
        shape="N, T, 16",
        out="N, T, 16",
    )
    assert find_links(graph) == ()


def test_a_normalisation_over_several_axes_is_not_taken() -> None:
    graph = net_of(
        "n = LayerNormalization<axis=1>(x, scale) y = MatMul(n, w)",
        {"scale": normal(7, 16), "w": normal(16, 16)},
        shape="N, 7, 16",
        out="N, 7, 16",
    )
    assert find_links(graph) == ()


def unevenness(graph: Graph, x: Array) -> float:
    """Largest channel peak over the median one, of what the first product behind a link reads."""
    link = find_links(graph)[0]
    value = link.consumers[0].inputs[0]
    assert value is not None
    axis = 1 if link.consumers[0].op_type == "Conv" else -1
    channels = statistics_of(graph, {"x": x}).channels[value.name or "", axis]
    peaks = np.maximum(np.abs(channels.low), np.abs(channels.high))
    return float(peaks.max() / np.median(peaks))


def uneven_convolutions(depthwise: bool) -> Graph:
    """Channels that are small and read with large weights beside the opposite, as training leaves them."""
    second = "Conv<group=8>" if depthwise else "Conv"
    return net_of(
        f"c = Conv(x, w1, b) r = Relu(c) d = {second}(r, w2) s = Relu(d) y = Conv(s, w3)",
        {
            "w1": normal(8, 4, 1, 1, spread=1.5),
            "b": normal(8) / 4,
            "w2": normal(8, 1 if depthwise else 8, 3, 3, spread=-1.5, axis=0 if depthwise else 1),
            "w3": normal(5, 8, 1, 1, seed=3),
        },
        shape="N, 4, 8, 8",
    )


def int8_snr_db(graph: Graph, equalizations: tuple[Equalization, ...], x: Array) -> float:
    after = equalized(graph, equalizations)
    plan = propose(after, statistics_of(after, {"x": x}), Scheme())
    quantized = emit(graph, msgspec.structs.replace(plan, equalizations=equalizations))
    return snr_db(result(graph, x), result(quantized, x))


def test_in_front_of_a_depthwise_convolution_all_channels_become_equally_wide() -> None:
    graph = uneven_convolutions(depthwise=True)
    found = find_smoothings(graph, statistics_of(graph, {"x": PICTURES}))
    assert found[0].producer == "n_c"
    assert unevenness(graph, PICTURES) > 2
    assert unevenness(equalized(graph, found[:1]), PICTURES) == pytest.approx(1.0, rel=0.01)


@pytest.mark.parametrize("depthwise", [True, False])
def test_int8_comes_nearer_to_float(depthwise: bool) -> None:
    graph = uneven_convolutions(depthwise)
    found = find_smoothings(graph, statistics_of(graph, {"x": PICTURES}))
    assert found
    assert int8_snr_db(graph, found, PICTURES) > int8_snr_db(graph, (), PICTURES) + 2


def test_int8_projections_come_nearer_to_float() -> None:
    graph = attention_input("whole", outliers(), gain=1 / 60)
    found = find_smoothings(graph, statistics_of(graph, {"x": TOKENS}))
    assert int8_snr_db(graph, found, TOKENS) > int8_snr_db(graph, (), TOKENS) + 10


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_what_is_found_keeps_the_function(seed: int) -> None:
    graph, x = random_graph(seed)
    found = find_smoothings(graph, statistics_of(graph, {"x": x}), worthwhile=np.inf)
    assert len(found) == len(find_links(graph))
    assert_same_function(graph, equalized(graph, found), x)


def test_channels_that_are_even_already_are_left_alone() -> None:
    graph = attention_input("whole", outliers(1.0), bias=np.zeros(16, np.float32))
    assert find_smoothings(graph, statistics_of(graph, {"x": TOKENS})) == ()


def test_without_statistics_nothing_is_found() -> None:
    graph = attention_input("whole", outliers())
    known = statistics_of(graph, {"x": TOKENS})
    assert find_smoothings(graph, dataclasses.replace(known, channels={})) == ()


def test_dead_channels_get_no_factor() -> None:
    scale, bias = outliers(), normal(16)
    scale[5] = bias[5] = 0
    graph = attention_input("whole", scale, bias)
    (found,) = find_smoothings(graph, statistics_of(graph, {"x": TOKENS}))
    assert found.factors[5] == 1.0
    assert np.isfinite(found.factors).all()
    assert_same_function(graph, equalized(graph, [found]), TOKENS)


def test_a_tensor_of_zeros_is_left_alone() -> None:
    zeros = np.zeros(16, np.float32)
    graph = attention_input("whole", zeros, zeros)
    assert find_smoothings(graph, statistics_of(graph, {"x": TOKENS})) == ()
