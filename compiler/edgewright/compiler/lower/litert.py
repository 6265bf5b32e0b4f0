"""Models for LiteRT: a graph as a .tflite file, with what the device's engine has to know of its ports."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from edgewright.bundle.files import storage_faults
from edgewright.bundle.manifest import EngineRequirement, Precision

from ..graph import Graph
from ..tensor_specs import tensor_specs
from ..tflite.emitter.emit import Emitted, emit
from ..tflite.emitter.ports import Ports
from ..tflite.file.half_weights import with_half_weights
from ..tflite.file.read import read
from ..tflite.file.summary import summary
from ..tflite.file.write import write
from .engine_model import MODEL_FOLDER, EngineModel

NAME = "litert"
VERSION_RANGE = ">=1.2,<3"
FILE = "model.tflite"

ON_CPU = Ports()
"""Floats as the graph has them: LiteRT's own kernels round and turn them faster than a caller in Python."""
ON_NPU = Ports(integer=True, channels_last=True)
"""An NPU computes neither in float nor on other layouts, and what it cannot do at its ports costs a trip to the CPU."""


def litert_model(graph: Graph, precision: Precision, folder: Path, *, half_weights: bool = False) -> EngineModel:
    """A graph for LiteRT on a CPU, written below `folder`.

    Raises:
        UnsupportedModel: something of the graph has no form in TFLite.
        EnvironmentFault: the disk is full or cannot be written.
    """
    emitted = emit(graph, ON_CPU)
    model = with_half_weights(emitted.model) if half_weights else emitted.model
    inputs, outputs = tensor_specs(graph)
    return EngineModel(
        requirement=requirement(emitted),
        folder=written({FILE: write(model)}, folder),
        inputs=inputs,
        outputs=outputs,
        precision=precision,
    )


def requirement(emitted: Emitted, **options: str) -> EngineRequirement:
    """What a device needs for an emitted model."""
    turned = {"channels_last": ",".join(emitted.channels_last)} if emitted.channels_last else {}
    return EngineRequirement(name=NAME, version=VERSION_RANGE, options={**turned, **options})


def written(files: dict[str, bytes], folder: Path) -> Path:
    """The `model/` folder below `folder`, with these files.

    Raises:
        EnvironmentFault: the disk is full or cannot be written.
    """
    target = folder / MODEL_FOLDER
    with storage_faults(f"writing a model to {folder.parent}"):
        target.mkdir(parents=True)
        for name, content in files.items():
            (target / name).write_bytes(content)
    return target


def operators(model: EngineModel) -> dict[str, int]:
    """How many of each operator a file has, by type and by what it gives: `CONV_2D int8`."""
    counts: Counter[str] = Counter()
    for found in summary(read((model.folder / FILE).read_bytes(), FILE)):
        counts[f"{found.type} {'/'.join(found.writes).lower()}"] += found.count
    return dict(counts)
