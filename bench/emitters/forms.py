"""The nets that have reference .tflite files, and what this project makes of them."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.emitters.accelerator import BOARD, vela
from bench.native_race.contenders import TFLITE
from bench.quantizers.nets import NETS, SHARED, Data, Net, model_file
from edgewright.compiler.choose import SIMILAR_LATENCY
from edgewright.compiler.data import Samples
from edgewright.compiler.frontends.onnx import load_onnx
from edgewright.compiler.graph import Graph, to_bytes
from edgewright.compiler.logits import with_logits
from edgewright.compiler.lower.onnxruntime import Arithmetic, open_session, run
from edgewright.compiler.metrics import snr_db
from edgewright.compiler.pipeline import optimise
from edgewright.compiler.plans import Planner
from edgewright.compiler.quantize.calibration.observe import collect
from edgewright.compiler.quantize.emit import emit as emit_qdq
from edgewright.compiler.quantize.offer import tflite_schemes_for
from edgewright.compiler.quantize.scheme import Scheme
from edgewright.compiler.scratch import Scratch
from edgewright.targets.catalog import load_board

SCHEME = Scheme(activations="int8", rules="tflite")
REFERENCE_NETS = tuple(net for net in NETS if net.name in TFLITE)


@dataclass(frozen=True)
class Forms:
    """One net: its graphs, the reference files, and what it is measured on."""

    name: str
    data: Data
    floating: Graph
    plans: Mapping[str, Graph]
    """QDQ, by the name of the scheme: all int8 that the compiler offers the NPU."""
    chosen: str
    """The one that it ships there."""
    reference_float: bytes
    reference_int8: bytes

    @property
    def quantized(self) -> Graph:
        """QDQ, as it ships."""
        return self.plans[self.chosen]

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
    schemes = [each for each in tflite_schemes_for(load_board(BOARD), floating) if each.activations == "int8"]
    plans = {scheme.name: planned(floating, data.calibration, scheme) for scheme in schemes}
    chosen = shipped(floating, plans, data.tune)
    return Forms(net.name, data, floating, plans, chosen, float_file.read_bytes(), int8_file.read_bytes())


def shipped(floating: Graph, plans: Mapping[str, Graph], x: NDArray[np.float32]) -> str:
    """As `choose.py` has it: of plans whose latency is about the least, the one that is nearest to float."""
    cycles = {name: vela(graph)["cycles"] for name, graph in plans.items()}
    fast = [name for name in plans if cycles[name] <= SIMILAR_LATENCY * min(cycles.values())]
    return max(fast, key=lambda name: logits_snr_db(plans[name], floating, x))


def logits_snr_db(graph: Graph, floating: Graph, x: NDArray[np.float32]) -> float:
    """Of a QDQ graph, computed as written."""
    found, truth = (_logits(each, x) for each in (graph, floating))
    return float(snr_db(found, truth))


def _logits(graph: Graph, x: NDArray[np.float32]) -> NDArray[np.float32]:
    probed, name = with_logits(graph)
    outputs = run(open_session(to_bytes(probed), Arithmetic.EXACT), {graph.graph.inputs[0].name or "": x})
    return outputs[name] if name is not None else next(iter(outputs.values()))


def planned(graph: Graph, calibration: NDArray[np.float32], scheme: Scheme = SCHEME) -> Graph:
    """QDQ by the project's own planner."""
    samples = Samples({graph.graph.inputs[0].name or "": calibration}, None)
    with tempfile.TemporaryDirectory() as folder, Scratch(Path(folder)) as scratch:
        statistics = collect(graph, samples, scratch)
        planner = Planner(graph, statistics, samples, samples, Arithmetic.EXACT, scratch)
        plans, _ = planner.plan_all([scheme])
    return emit_qdq(graph, plans.by_name[scheme.name])
