"""The nets that have reference .tflite files, and what this project makes of them."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.native_race.contenders import TFLITE
from bench.quantizers.nets import NETS, SHARED, Data, Net, model_file
from edgewright.compiler.data import Samples
from edgewright.compiler.frontends.onnx import load_onnx
from edgewright.compiler.graph import Graph
from edgewright.compiler.lower.onnxruntime import Arithmetic
from edgewright.compiler.pipeline import optimise
from edgewright.compiler.plans import Planner
from edgewright.compiler.quantize.calibration.observe import collect
from edgewright.compiler.quantize.emit import emit as emit_qdq
from edgewright.compiler.quantize.scheme import Scheme
from edgewright.compiler.scratch import Scratch

SCHEME = Scheme(activations="int8", rules="tflite")
REFERENCE_NETS = tuple(net for net in NETS if net.name in TFLITE)


@dataclass(frozen=True)
class Forms:
    """One net: its graphs, the reference files, and what it is measured on."""

    name: str
    data: Data
    floating: Graph
    quantized: Graph
    """QDQ, as planned for TFLite."""
    reference_float: bytes
    reference_int8: bytes

    def samples(self, count: int) -> NDArray[np.float32]:
        """As many as there are, up to `count`; those of the test first."""
        every: NDArray[np.float32] = np.concatenate([self.data.test, self.data.calibration, self.data.tune])
        return every[:count]


def present(names: Sequence[str]) -> list[Net]:
    """Of these, the nets whose files are here."""
    return [net for net in REFERENCE_NETS if net.name in names and net.is_present]


def forms(net: Net) -> Forms:
    """Everything of one net."""
    data = net.data()
    floating, _ = optimise(load_onnx(model_file(net)).graph, None)
    float_file, int8_file = (SHARED / "mlperf_tiny/models" / name for name in TFLITE[net.name])
    quantized = planned(floating, data.calibration)
    return Forms(net.name, data, floating, quantized, float_file.read_bytes(), int8_file.read_bytes())


def planned(graph: Graph, calibration: NDArray[np.float32]) -> Graph:
    """QDQ by the project's own planner."""
    samples = Samples({graph.graph.inputs[0].name or "": calibration}, None)
    with tempfile.TemporaryDirectory() as folder, Scratch(Path(folder)) as scratch:
        statistics = collect(graph, samples, scratch)
        planner = Planner(graph, statistics, samples, samples, Arithmetic.EXACT, scratch)
        plans, _ = planner.plan_all([SCHEME])
    return emit_qdq(graph, plans.by_name[SCHEME.name])
