"""The choice of a recipe: smoothing has to gain more than the samples that it was fitted to can gain by chance."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgewright.compiler.data import Samples
from edgewright.compiler.graph import Graph
from edgewright.compiler.lower.onnxruntime import Arithmetic
from edgewright.compiler.plans import Planner
from edgewright.compiler.quantize.scheme import Scheme
from edgewright.compiler.scratch import Scratch
from tests.compiler.nets import Net, convolutional, optimised, statistics_of


def smoothings(net: Net, x: NDArray[np.float32], scratch: Scratch) -> int:
    """How many the chosen plan has."""
    graph: Graph = optimised(net.model())
    inputs = {"x": x}
    samples = Samples(inputs, None)
    planner = Planner(graph, statistics_of(graph, inputs), samples, samples, Arithmetic.EXACT, scratch)
    return len(planner.plan(Scheme()).equalizations)


def test_a_small_gain_on_few_samples_is_luck(scratch: Scratch) -> None:
    x = np.random.default_rng(1).normal(size=(24, 3, 12, 12)).astype(np.float32)
    assert smoothings(convolutional(0), x, scratch) == 0


def test_a_large_gain_is_taken(scratch: Scratch) -> None:
    net = Net((7, 16), np.random.default_rng(1))
    scale = np.ones(16, np.float32)
    scale[3] = 60
    net.node("LayerNormalization", net.here, net.constant(scale), net.weight(16), axis=-1)
    weight = net.random.normal(size=(16, 8)).astype(np.float32)
    weight[3] /= 60
    net.shape = (7, 8)
    net.node("MatMul", net.here, net.constant(weight))
    x = np.random.default_rng(2).normal(size=(64, 7, 16)).astype(np.float32)
    assert smoothings(net, x, scratch) == 1
