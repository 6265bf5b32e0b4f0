"""Bias correction: the mean error of a layer with rounded weights vanishes on the data that it was calibrated with."""

from __future__ import annotations

import dataclasses

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewright.compiler.graph import Graph, add_weight, clone
from edgewright.compiler.quantize.corrections.bias_correction import corrected
from edgewright.compiler.quantize.corrections.equalize import equalized
from edgewright.compiler.quantize.corrections.smooth import find_smoothings
from edgewright.compiler.quantize.emit import emit
from edgewright.compiler.quantize.plan import Operator, Plan
from edgewright.compiler.quantize.propose import propose
from edgewright.compiler.quantize.scheme import Scheme
from edgewright.compiler.quantize.weights import channel_axis, restored, rounded, symmetric_encoding, weight_array
from tests.compiler.link_nets import Array, net_of, normal, random_graph, result
from tests.compiler.nets import statistics_of

PICTURES = normal(16, 4, 6, 6, seed=1) + np.float32(1.5)
ROWS = normal(40, 4, seed=1) + np.float32(1.5)
EXACT = 1e-5
"""Share of the mean error that float32 may leave."""


def coarse(graph: Graph) -> Plan:
    """Four bits for every constant weight, so that its rounding shows."""
    operators = {
        node.name or "": Operator(compute="int8", weight=symmetric_encoding(array, "int4", channel_axis(node)))
        for node in graph.graph
        if len(node.inputs) > 1 and (array := weight_array(node)) is not None
    }
    return Plan(model_digest="sha256:0", scheme=Scheme(), operators=operators)


def with_rounded_weights(graph: Graph, plan: Plan) -> Graph:
    """The float graph with the weights that the integers stand for, and the biases as the plan corrects them."""
    after = clone(graph)
    for node in after.graph:
        operator = plan.operators.get(node.name or "")
        array = weight_array(node) if operator is not None else None
        if operator is None or operator.weight is None or array is None:
            continue
        rounded_weight = restored(rounded(array, operator.weight), operator.weight)
        node.replace_input_with(1, add_weight(after, f"{node.name}_rounded", rounded_weight))
        if operator.bias_correction:
            given = node.inputs[2] if len(node.inputs) > 2 else None
            bias = np.float32(0) if given is None or given.const_value is None else given.const_value.numpy()
            shifted = bias + np.array(operator.bias_correction, np.float32)
            node.resize_inputs(3)
            node.replace_input_with(2, add_weight(after, f"{node.name}_shifted", shifted))
    return after


def mean_errors(graph: Graph, plan: Plan, x: Array) -> Array:
    """Per channel of the output, on axis 1."""
    lost = result(with_rounded_weights(graph, plan), x) - result(graph, x)
    means: Array = np.abs(lost.mean(axis=(0, *range(2, lost.ndim)), dtype=np.float64)).astype(np.float32)
    return means


def share_left(graph: Graph, x: Array) -> float:
    """Of the largest mean error, after correction."""
    plan = coarse(graph)
    after = corrected(graph, plan, statistics_of(graph, {"x": x}))
    return float(mean_errors(graph, after, x).max() / mean_errors(graph, plan, x).max())


@pytest.mark.parametrize("text", ["y = Conv(x, w)", "y = Conv(x, w, b)", "y = Conv<group=2>(x, grouped)"])
def test_the_mean_error_of_a_convolution_vanishes(text: str) -> None:
    weights = {"w": (8, 4, 1, 1), "b": (8,), "grouped": (8, 2, 1, 1)}
    used = {name: normal(*shape) for name, shape in weights.items() if f" {name}" in text}
    assert share_left(net_of(text, used), PICTURES) < EXACT


@pytest.mark.parametrize("text", ["y = Gemm(x, w)", "y = Gemm(x, w, b)", "y = Gemm<transB=1>(x, v, b)"])
def test_the_mean_error_of_a_gemm_vanishes(text: str) -> None:
    weights = {"w": normal(4, 6), "v": normal(6, 4), "b": normal(6)}
    used = {name: array for name, array in weights.items() if f" {name}" in text}
    assert share_left(net_of(text, used, shape="N, 4", out="N, 6"), ROWS) < EXACT


@pytest.mark.parametrize(
    "attributes",
    [
        "pads=[1,1,1,1]",
        "pads=[2,0,1,1]",
        "pads=[1,1,1,1], strides=[2,2]",
        "pads=[2,2,2,2], dilations=[2,2]",
        'auto_pad="SAME_UPPER", strides=[2,2]',
        'auto_pad="SAME_LOWER", strides=[2,2]',
        'auto_pad="VALID"',
    ],
)
@pytest.mark.parametrize("size", [6, 7])
@pytest.mark.parametrize("groups", [1, 4])
def test_zeros_of_the_padding_are_not_counted_as_data(attributes: str, size: int, groups: int) -> None:
    """Data that is the same everywhere: positions of the kernel then differ by the padding alone."""
    weight = normal(8, 4 // groups, 3, 3)
    graph = net_of(f"y = Conv<group={groups}, {attributes}>(x, w)", {"w": weight}, shape=f"N, 4, {size}, {size}")
    x = np.broadcast_to(normal(1, 4, 1, 1), (3, 4, size, size)).copy()
    assert share_left(graph, x) < EXACT


def test_sizes_that_are_free_count_as_without_padding() -> None:
    graph = net_of("y = Conv<pads=[1,1,1,1]>(x, w)", {"w": normal(8, 4, 3, 3)}, shape="N, 4, H, W")
    assert share_left(graph, PICTURES) < 0.5


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_every_layer_of_a_random_net_is_finite_and_gets_one_number_per_channel(seed: int) -> None:
    graph, x = random_graph(seed)
    plan = corrected(graph, coarse(graph), statistics_of(graph, {"x": x}))
    for node in graph.graph:
        array = weight_array(node) if node.op_type in {"Conv", "Gemm"} else None
        if array is not None:
            values = plan.operators[node.name or ""].bias_correction
            assert len(values) == array.shape[channel_axis(node)]
            assert np.isfinite(values).all()


def net() -> Graph:
    return net_of(
        "c = Conv(x, w, b) r = Relu(c) y = Conv<pads=[1,1,1,1]>(r, v, b)",
        {"w": normal(8, 4, 1, 1, spread=1), "v": normal(8, 8, 3, 3, spread=-1, axis=1) / 3, "b": normal(8)},
    )


def test_the_emitted_model_has_the_mean_of_the_float_model() -> None:
    """With 16-bit activations, so that the rounding of weights is all there is."""
    graph = net()
    statistics = statistics_of(graph, {"x": PICTURES})
    plan = propose(graph, statistics, Scheme(activations="uint16"))
    truth = result(graph, PICTURES).mean(axis=(0, 2, 3), dtype=np.float64)
    errors = [
        np.abs(result(emit(graph, each), PICTURES).mean(axis=(0, 2, 3), dtype=np.float64) - truth).max()
        for each in (plan, corrected(graph, plan, statistics))
    ]
    assert errors[1] < errors[0] / 4


def test_corrections_belong_to_the_weights_after_equalisation() -> None:
    graph = net()
    equalizations = find_smoothings(graph, statistics_of(graph, {"x": PICTURES}), worthwhile=np.inf)
    after = equalized(graph, equalizations)
    statistics = statistics_of(after, {"x": PICTURES})
    plan = coarse(after)
    moved = corrected(graph, msgspec.structs.replace(plan, equalizations=equalizations), statistics)
    assert equalizations
    assert moved.operators == corrected(after, plan, statistics).operators


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("y = MatMul(x, w)", "it has no bias"),
        ("y = Gemm<alpha=2.0>(x, w)", "a factor"),
        ("y = Gemm<beta=2.0>(x, w)", "a factor of the bias"),
    ],
)
def test_what_cannot_be_corrected_is_left(text: str, why: str) -> None:
    graph = net_of(text, {"w": normal(4, 6)}, shape="N, 4", out="N, 6")
    plan = coarse(graph)
    assert corrected(graph, plan, statistics_of(graph, {"x": ROWS})) == plan, why


def test_operators_that_compute_in_float_are_left() -> None:
    graph = net()
    plan = coarse(graph)
    floats = {name: msgspec.structs.replace(entry, compute="float") for name, entry in plan.operators.items()}
    plan = msgspec.structs.replace(plan, operators=floats)
    assert corrected(graph, plan, statistics_of(graph, {"x": PICTURES})) == plan


def test_without_statistics_nothing_is_corrected() -> None:
    graph = net()
    known = statistics_of(graph, {"x": PICTURES})
    assert corrected(graph, coarse(graph), dataclasses.replace(known, channels={})) == coarse(graph)


def test_a_channel_of_zeros_shifts_nothing() -> None:
    w = normal(8, 4, 1, 1)
    w[3] = 0
    graph = net_of("y = Conv(x, w)", {"w": w})
    plan = corrected(graph, coarse(graph), statistics_of(graph, {"x": PICTURES}))
    assert plan.operators["n_y"].bias_correction[3] == 0.0
    assert np.isfinite(plan.operators["n_y"].bias_correction).all()
