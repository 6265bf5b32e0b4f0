"""Models for LiteRT: a graph as a .tflite file, with what the device's engine has to know of its ports."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import onnx_ir as ir

from edgewright.bundle.files import storage_faults
from edgewright.bundle.manifest import EngineRequirement, Precision

from ..faults import UnsupportedModel
from ..graph import Graph, nodes, place
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

CONVERSIONS = frozenset({"Cast", "CastLike"})
ON_CPU = Ports()
"""Floats as the graph has them: LiteRT's own kernels round and turn them faster than a caller in Python."""
ON_NPU = Ports(integer=True, channels_last=True)
"""An NPU computes neither in float nor on other layouts, and what it cannot do at its ports costs a trip to the CPU."""


def litert_model(graph: Graph, precision: Precision, folder: Path, *, half_weights: bool = False) -> EngineModel:
    """A graph for LiteRT on a CPU, written below `folder`.

    Raises:
        UnsupportedModel: something of the graph has no form in TFLite, or computes in what no kernel does.
        EnvironmentFault: the disk is full or cannot be written.
    """
    _check_computes(graph)
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


def _check_computes(graph: Graph) -> None:
    """TFLite has a type for half precision; only conversions from it have kernels on a CPU."""
    for node in nodes(graph):
        read = [value.dtype for value in node.inputs if value is not None]
        if ir.DataType.FLOAT16 in read and node.op_type not in CONVERSIONS:
            raise UnsupportedModel(
                f"{node.op_type} at {place(node)} computes in FLOAT16, and LiteRT's kernels on CPUs in float32: export "
                "the model in float32; its weights can be stored in half precision all the same"
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
