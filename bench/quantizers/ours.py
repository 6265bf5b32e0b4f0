"""What this project makes of the same net and the same calibration samples."""

from __future__ import annotations

import tempfile
from pathlib import Path

from edgewright.compiler.data import Samples
from edgewright.compiler.frontends.onnx import load_onnx
from edgewright.compiler.graph import to_bytes
from edgewright.compiler.lower.onnxruntime import Arithmetic
from edgewright.compiler.pipeline import optimise
from edgewright.compiler.plans import Planner
from edgewright.compiler.quantize.calibration.observe import collect
from edgewright.compiler.quantize.emit import emit
from edgewright.compiler.quantize.scheme import Scheme
from edgewright.compiler.scratch import Scratch

from .nets import Data, Net, model_file

OURS = "ours"
GUARDED = "ours, guarded"
"""For the CPU whose sums saturate."""
FULL_RANGE = (OURS,)
"""Those whose exact execution is a bar for everyone, ours included."""


def ours(net: Net, data: Data) -> dict[str, bytes]:
    """Models by name: the full-range plan for this CPU, and the guarded one for a CPU without VNNI."""
    graph, _ = optimise(load_onnx(model_file(net)).graph, None)
    samples = Samples({graph.graph.inputs[0].name or "": data.calibration}, None)
    schemes = {OURS: Scheme(), GUARDED: Scheme(guard="pairs")}
    with tempfile.TemporaryDirectory() as folder, Scratch(Path(folder)) as scratch:
        statistics = collect(graph, samples, scratch)
        planner = Planner(graph, statistics, samples, samples, Arithmetic.EXACT, scratch)
        plans, _ = planner.plan_all(schemes.values())
    return {name: to_bytes(emit(graph, plans.by_name[scheme.name])) for name, scheme in schemes.items()}
