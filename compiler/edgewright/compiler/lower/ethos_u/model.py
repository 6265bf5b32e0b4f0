"""A QDQ graph as a .tflite file for a board's Ethos-U, and what there is to tell of it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from edgewright.targets.board import Board

from ...graph import Graph
from ...tensor_specs import tensor_specs
from ...tflite.emitter.emit import emit
from ...tflite.file.read import read
from ...tflite.file.write import write
from ..engine_model import EngineModel
from ..litert import FILE, ON_NPU, requirement, written
from .build import optimise
from .report import NpuReport

DELEGATE = "ethos-u"
"""What LiteRT loads on a board with Linux; firmware without it runs the same file through TFLite Micro."""


@dataclass(frozen=True)
class EthosUModel:
    """What ships, and its report."""

    model: EngineModel
    report: NpuReport
    on_npu: dict[str, int]
    """Operators by type."""
    on_cpu: dict[str, int]

    @property
    def settings(self) -> dict[str, str | int | float | bool | None]:
        """What Vela was told."""
        report = self.report
        return {
            "accelerator_config": report.accelerator_config,
            "system_config": report.system_config,
            "memory_mode": report.memory_mode,
        }

    @property
    def figures(self) -> dict[str, str | int | float | bool | None]:
        """What Vela says."""
        report = self.report
        return {
            "vela_version": report.vela_version,
            "cycles": report.cycles,
            "inference_ms": report.inference_ms,
            "sram_bytes": report.sram_bytes,
            "dram_bytes": report.dram_bytes,
            "flash_bytes": report.flash_bytes,
        }


def ethos_u_model(graph: Graph, board: Board, folder: Path) -> EthosUModel:
    """A QDQ graph for a board's NPU, its files below `folder`.

    Raises:
        UnsupportedModel: something has no form in TFLite, or Vela refuses the model.
        ToolchainMissing: Vela is not installed.
        EnvironmentFault: the disk is full or cannot be written.
    """
    emitted = emit(graph, ON_NPU)
    built = optimise(write(emitted.model), board, folder.parent)
    inputs, outputs = tensor_specs(graph)
    needed = requirement(emitted, delegate=DELEGATE)
    model = EngineModel(
        requirement=needed,
        folder=written({FILE: built.model}, folder),
        here=written({FILE: built.source}, folder / "here"),
        inputs=inputs,
        outputs=outputs,
        precision="int8",
        memory_bytes=built.report.sram_bytes + built.report.dram_bytes,
    )
    types = Counter(operator.type for operator in read(built.source, "the model for Vela").operators)
    left = Counter(operator.type for operator in built.report.left_on_cpu)
    return EthosUModel(model, built.report, dict(types - left), dict(left))
