"""What Arm's compiler makes of our int8 and of the reference's, for an Ethos-U55 with 128 multipliers."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from bench.emitters.lossless import AS_STORED
from edgewright.compiler.graph import Graph
from edgewright.compiler.lower.ethos_u.build import optimise
from edgewright.compiler.tflite.emitter.emit import emit
from edgewright.compiler.tflite.file.write import write
from edgewright.targets.catalog import load_board

BOARD = "ethos-u55-128"


def vela(graph: Graph) -> dict[str, Any]:
    """Vela's estimate of one inference of a QDQ graph."""
    return vela_of(write(emit(graph, AS_STORED).model))


def vela_of(model: bytes) -> dict[str, Any]:
    """Vela's estimate of one inference of a file."""
    with tempfile.TemporaryDirectory() as folder:
        report = optimise(model, load_board(BOARD), Path(folder)).report
    return {
        "cycles": report.cycles,
        "inference_ms": report.inference_ms,
        "sram_bytes": report.sram_bytes,
        "flash_bytes": report.flash_bytes,
        "on_cpu": [f"{each.type} {each.name}: {each.reason}" for each in report.left_on_cpu],
        "rewritten": [f"{each.type} {each.name}" for each in report.cpu_operators if each.applied],
    }
