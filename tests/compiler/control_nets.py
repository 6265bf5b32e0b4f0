"""Small nets with random weights, their statistics and plans: what tests of accuracy control start from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx.parser
from onnx import numpy_helper

from edgewright.compiler.data import Samples
from edgewright.compiler.frontends.onnx import import_proto
from edgewright.compiler.graph import Graph, to_bytes
from edgewright.compiler.lower.onnxruntime import Arithmetic, open_session, run
from edgewright.compiler.metrics import BUILT_IN, Comparison, compare
from edgewright.compiler.optimize import FLOAT_PASSES
from edgewright.compiler.passes import NoOptions
from edgewright.compiler.quantize.calibration.observe import collect
from edgewright.compiler.quantize.calibration.statistics import Statistics
from edgewright.compiler.quantize.emit import emit
from edgewright.compiler.quantize.plan import Plan
from edgewright.compiler.quantize.propose import propose
from edgewright.compiler.quantize.scheme import Scheme
from edgewright.compiler.scratch import Scratch

CHANNELS, PIXELS = 4, 6
SHAPES = {"x": (1, CHANNELS, PIXELS, PIXELS)}
LAYERS = ("conv", "conv-relu", "depthwise-relu", "pool", "residual", "sigmoid")


@dataclass(frozen=True)
class Net:
    """A float graph with everything that accuracy control asks for."""

    graph: Graph
    statistics: Statistics
    plan: Plan
    samples: Samples

    def outputs(self, graph: Graph) -> np.ndarray:
        return run(open_session(to_bytes(graph), Arithmetic.EXACT), self.samples.inputs)["y"]

    def score(self, plan: Plan) -> Comparison:
        return compare(
            BUILT_IN["distortion"], self.outputs(emit(self.graph, plan)), self.outputs(self.graph), labels=None
        )


def make_net(layers: Sequence[str], folder: Path, scheme: Scheme | None = None, samples: int = 24) -> Net:
    """Layers in a row; `residual` adds what went into the first layer behind the last sum of products."""
    graph = _graph(layers)
    x = np.random.default_rng(3).normal(size=(samples, *SHAPES["x"][1:])).astype(np.float32)
    data = Samples({"x": x}, None)
    statistics = collect(graph, data, Scratch(folder))
    return Net(graph, statistics, propose(graph, statistics, scheme or Scheme()), data)


def _graph(layers: Sequence[str]) -> Graph:
    random = np.random.default_rng(5)
    nodes, weights = [], {}
    last, earlier = "x", "x"
    for index, layer in enumerate(layers):
        result = f"t{index}"
        if layer in {"conv", "conv-relu", "depthwise-relu"}:
            group = CHANNELS if layer.startswith("depthwise") else 1
            shape = (CHANNELS, CHANNELS // group, 3, 3)
            spread = np.geomspace(0.2, 2.0, CHANNELS).reshape(-1, 1, 1, 1)
            weights[f"w{index}"] = (random.normal(size=shape) * spread / 3 / np.sqrt(shape[1])).astype(np.float32)
            weights[f"b{index}"] = random.normal(size=CHANNELS).astype(np.float32) / 8
            relu = layer.endswith("relu")
            made = f"c{index}" if relu else result
            nodes.append(f"{made} = Conv<pads = [1, 1, 1, 1], group = {group}>({last}, w{index}, b{index})")
            if relu:
                nodes.append(f"{result} = Relu({made})")
            earlier = last
        elif layer == "pool":
            nodes.append(f"{result} = MaxPool<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>({last})")
        elif layer == "residual":
            nodes.append(f"{result} = Add({last}, {earlier})")
        else:
            nodes.append(f"{result} = Sigmoid({last})")
        last = result
    nodes.append(f"y = Identity({last})")
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> '
        f"g (float[N, {CHANNELS}, {PIXELS}, {PIXELS}] x) => (float[N, A, B, C] y) {{ {' '.join(nodes)} }}"
    )
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in weights.items())
    graph = import_proto(model, "test")
    for float_pass in FLOAT_PASSES:
        graph = float_pass(graph, NoOptions()).graph
    return graph
