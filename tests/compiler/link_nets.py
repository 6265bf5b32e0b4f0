"""Nets for moving factors between weights: random ones, ones from text, and whether two compute the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx.parser
from numpy.typing import NDArray
from onnx import numpy_helper

from edgewright.compiler.frontends.onnx import import_proto
from edgewright.compiler.graph import Graph, to_bytes
from edgewright.compiler.lower.onnxruntime import Arithmetic, open_session, run
from edgewright.compiler.quantize.corrections.links import find_links
from edgewright.compiler.quantize.plan import Equalization
from tests.compiler.nets import Net, optimised

Array = NDArray[np.float32]


def net_of(
    text_nodes: str, weights: Mapping[str, NDArray[Any]], shape: str = "N, 4, 6, 6", out: str = "N, A, B, C"
) -> Graph:
    """A graph from ONNX text with input x and output y; nodes are named after what they give."""
    model = onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : 17]> g (float[{shape}] x) => (float[{out}] y) {{ {text_nodes} }}'
    )
    for node in model.graph.node:
        node.name = f"n_{node.output[0]}"
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in weights.items())
    return import_proto(model, "test")


def normal(*shape: int, seed: int = 0, spread: float = 0.0, axis: int = 0) -> Array:
    """Random weights; `spread` is the standard deviation of the natural logarithm of each channel's size."""
    random = np.random.default_rng(seed)
    sizes = np.exp(random.normal(size=shape[axis]) * spread)
    spread_out = np.expand_dims(sizes, [i for i in range(len(shape)) if i != axis])
    array: Array = (random.normal(size=shape) * spread_out).astype(np.float32)
    return array


def random_net(seed: int) -> Net:
    """Convolutions with and without groups, residual branches, shared weights, pools, then dense layers."""
    random = np.random.default_rng(seed)
    net = Net((4, 8, 8), random)
    net.conv(8)
    shared = net.weight(8, 8, 1, 1)
    parts = ["grouped", "depthwise", "dense", "act", "pool", "residual", "shared", "pad"]
    for part in random.choice(parts, size=8):
        _add(net, str(part), shared)
    net.node("GlobalAveragePool", net.here)
    net.shape = (8, 1, 1)
    net.flatten()
    net.gemm(6)
    net.node("Relu", net.here)
    net.shape = (5,)
    net.node("Gemm", net.here, net.weight(6, 5))
    return net


def _add(net: Net, part: str, shared: str) -> None:
    before = net.here
    if part in {"grouped", "depthwise", "dense"}:
        net.conv(8, groups={"grouped": 2, "depthwise": 8, "dense": 1}[part])
    elif part == "act":
        net.node(str(net.random.choice(["Relu", "LeakyRelu", "Identity", "Sigmoid", "Clip"])), before)
    elif part == "pool":
        net.node("AveragePool", before, kernel_shape=[3, 3], pads=[1] * 4, count_include_pad=1)
    elif part == "residual":
        net.conv(8, groups=8)
        net.node("Add", net.here, before)
    elif part == "shared":
        net.node("Conv", before, shared)
    else:
        padded = net.node("Pad", before, net.constant(np.array([0, 0, 1, 1, 0, 0, 1, 1])))
        net.node("MaxPool", padded, kernel_shape=[3, 3])


def random_graph(seed: int) -> tuple[Graph, Array]:
    """A random net, optimised, and an input for it."""
    net = random_net(seed)
    x = np.random.default_rng(seed + 1).normal(size=(3, *net.input_shape)).astype(np.float32)
    return optimised(net.model()), x


def random_factors(graph: Graph, seed: int) -> tuple[Equalization, ...]:
    """Factors between 1/50 and 50 for every link of a graph."""
    random = np.random.default_rng(seed)
    return tuple(
        Equalization(
            producer=link.producer.name or "",
            consumers=tuple(node.name or "" for node in link.consumers),
            factors=tuple(np.exp(random.uniform(-np.log(50), np.log(50), size=link.channels)).tolist()),
        )
        for link in find_links(graph)
    )


def result(graph: Graph, x: Array) -> Array:
    """The first output on an input x."""
    array: Array = next(iter(run(open_session(to_bytes(graph), Arithmetic.EXACT), {"x": x}).values()))
    return array


def assert_same_function(before: Graph, after: Graph, x: Array) -> None:
    """Equal to 1e-4 of the largest result."""
    old, new = result(before, x), result(after, x)
    np.testing.assert_allclose(new, old, rtol=1e-4, atol=1e-4 * float(np.abs(old).max()))
