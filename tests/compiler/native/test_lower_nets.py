"""Whole nets: random ones, the shapes that exporters write, and the five of the benchmark where they are here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from edgewright.compiler.faults import UnsupportedModel
from edgewright.compiler.frontends.onnx import import_proto
from edgewright.compiler.lower.native.net import Alias, Move, Net, Separable
from tests.compiler.native.lowered import check_model
from tests.compiler.nets import Net as Writer
from tests.compiler.nets import convolutional, optimised
from tests.compiler.random_nets import nets_and_outputs

DATA = Path(__file__).parents[4] / "shared" / "data"
NETS = {
    "ad": ("mlperf_tiny/onnx/ad_f32.onnx", 10),
    "ic": ("mlperf_tiny/onnx/ic_resnet8_f32.onnx", 12),
    "kws": ("mlperf_tiny/onnx/kws_f32.onnx", 12),
    "vww": ("mlperf_tiny/onnx/vww_f32.onnx", 30),
    "mnist": ("mnist/mnist.onnx", 5),
}
"""Files, and how many layers compute something; a separable convolution is two."""


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(nets_and_outputs(), st.integers(1, 3))
def test_random_nets(drawn: tuple[Writer, tuple[str, ...]], batch: int) -> None:
    net, outputs = drawn
    assume(len(net.input_shape) < 4)  # three dimensions have no native form
    check_model(net.model(*dict.fromkeys(outputs)), batch=batch)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(nets_and_outputs(), st.integers(1, 3))
def test_random_nets_after_the_compilers_passes(drawn: tuple[Writer, tuple[str, ...]], batch: int) -> None:
    net, outputs = drawn
    assume(len(net.input_shape) < 4)
    model = net.model(*dict.fromkeys(outputs))
    check_model(model, batch=batch, graph=optimised(model))


def test_three_dimensions_are_refused() -> None:
    net = Writer((2, 4, 4, 4), np.random.default_rng(0))
    net.node("Conv", net.here, net.weight(2, 2, 1, 1, 1))
    with pytest.raises(UnsupportedModel, match="one and two dimensions"):
        check_model(net.model())


@pytest.mark.parametrize("name", NETS)
def test_benchmark_nets(name: str) -> None:
    file, layers = NETS[name]
    if not (DATA / file).is_file():
        pytest.skip(f"{file} is not here")
    model = onnx.load(DATA / file)
    net = check_model(model, batch=1, graph=optimised(model))
    assert computing(net) == layers
    check_model(model, batch=1, graph=import_proto(model, name))


def computing(net: Net) -> int:
    """Layers that are more than moving data."""
    return sum(2 if isinstance(layer, Separable) else 1 for layer in net.layers if not isinstance(layer, Alias | Move))


def test_a_residual_net_is_nothing_but_products_and_pools() -> None:
    net = check_model(convolutional().model())
    kinds = [type(layer).__name__ for layer in net.layers if not isinstance(layer, Alias | Move)]
    assert kinds == ["Convolution", "Convolution", "Dense", "Pool", "Convolution", "Reduce", "Dense"]


def test_outputs_that_share_memory_are_copied() -> None:
    net = Writer((4, 6), np.random.default_rng(0))
    first = net.node("Relu", net.here)
    net.shape = (24,)
    flat = net.node("Flatten", first, axis=1)
    net.node("Identity", flat)
    check_model(net.model(first, flat, net.here))
    same = Writer((4, 6), np.random.default_rng(0))
    same.node("Identity", same.here)
    check_model(same.model())
