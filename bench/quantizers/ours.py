"""What this project makes of the same net and the same calibration samples."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

from edgewright.compiler.data import Samples
from edgewright.compiler.frontends.onnx import load_onnx
from edgewright.compiler.graph import to_bytes
from edgewright.compiler.pipeline import optimise
from edgewright.compiler.quantize.emit import emit
from edgewright.compiler.quantize.observe import collect
from edgewright.compiler.quantize.propose import propose
from edgewright.compiler.quantize.saturation import guarded
from edgewright.compiler.quantize.scheme import Scheme
from edgewright.compiler.scratch import Scratch
from edgewright.targets.accumulation import accumulation

from .nets import Data, Net, model_file

OURS = "ours"
GUARDED = "ours, guarded"
"""For the CPU whose sums saturate."""
FULL_RANGE = (OURS,)
"""Those whose exact execution is a bar for everyone, ours included."""
SATURATING_ISA = ("sse4.2", "avx", "avx2", "fma")


def ours(net: Net, data: Data) -> dict[str, bytes]:
    """Models by name: the full-range plan for this CPU, and the guarded one for a CPU without VNNI."""
    graph, _ = optimise(load_onnx(model_file(net)).graph, None)
    input_name = graph.graph.inputs[0].name or ""
    with tempfile.TemporaryDirectory() as folder, Scratch(Path(folder)) as scratch:
        statistics = collect(graph, Samples({input_name: data.calibration}, None), scratch)
    plan = propose(graph, statistics, Scheme())
    lookup = functools.partial(accumulation, "x86_64", SATURATING_ISA, "onnxruntime")
    careful = guarded(graph, propose(graph, statistics, Scheme(guard="pairs")), statistics, lookup)
    return {OURS: to_bytes(emit(graph, plan)), GUARDED: to_bytes(emit(graph, careful))}
