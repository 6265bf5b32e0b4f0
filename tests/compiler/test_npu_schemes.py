"""What an NPU is offered beside int8: what is faster there and loses more, so that the budget decides."""

from __future__ import annotations

import numpy as np
import pytest

from edgewright.compiler.graph import Graph
from edgewright.compiler.quantize.emit import emit as emit_qdq
from edgewright.compiler.quantize.offer import tflite_schemes_for
from edgewright.compiler.quantize.propose import propose
from edgewright.compiler.quantize.scheme import Scheme
from edgewright.compiler.tflite.emitter.emit import emit
from edgewright.targets.catalog import load_board
from tests.compiler.nets import Net, optimised, statistics_of

SHAPE = (3, 9, 9)


def pooled() -> Graph:
    net = Net(SHAPE, np.random.default_rng(3))
    net.conv(6)
    net.node("Relu", net.here)
    net.node("GlobalAveragePool", net.here)
    net.shape = (6, 1, 1)
    net.flatten()
    net.gemm(4)
    return optimised(net.model())


def products() -> Graph:
    net = Net((32,), np.random.default_rng(3))
    net.gemm(16)
    net.gemm(4)
    return optimised(net.model())


def operators(scheme: Scheme) -> list[str]:
    graph = pooled()
    x = np.random.default_rng(4).normal(size=(24, *SHAPE)).astype(np.float32)
    statistics = statistics_of(graph, {graph.graph.inputs[0].name or "": x})
    model = emit(emit_qdq(graph, propose(graph, statistics, scheme))).model
    return [operator.type for operator in model.operators]


def test_a_pool_that_shares_its_encoding_is_a_pool() -> None:
    assert "AVERAGE_POOL_2D" in operators(Scheme(activations="int8", rules="tflite", shared_pools=True))


def test_a_pool_that_does_not_rescales() -> None:
    assert "AVERAGE_POOL_2D" not in operators(Scheme(activations="int8", rules="tflite"))


@pytest.mark.parametrize(
    ("graph", "more"),
    [(pooled(), {"int8-s8s8-tflite-pools"}), (products(), {"int8-s8s8-per-tensor-tflite"})],
    ids=["pools", "products"],
)
def test_an_npu_is_offered_what_is_faster_there(graph: Graph, more: set[str]) -> None:
    names = [scheme.name for scheme in tflite_schemes_for(load_board("ethos-u55-128"), graph)]
    assert set(names) == {"int8-s8s8-tflite", "int16-s16s8-tflite", *more}
    assert names[0] == "int8-s8s8-tflite"
    on_cpu = tflite_schemes_for(load_board("raspberry-pi-5"), graph)
    assert {scheme.name for scheme in on_cpu} == {"int8-s8s8-tflite"} | (more & {"int8-s8s8-tflite-pools"})
