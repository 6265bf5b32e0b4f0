"""Models for OpenVINO: it reads the ONNX file itself, float or QDQ, so nothing is converted here."""

from __future__ import annotations

from pathlib import Path

from edgewright.bundle.files import storage_faults
from edgewright.bundle.manifest import EngineRequirement, Precision

from ..graph import Graph
from ..tensor_specs import tensor_specs
from . import model_file
from .engine_model import MODEL_FOLDER, EngineModel
from .model_file import ModelFile

NAME = "openvino"
VERSION_RANGE = ">=2025.0,<2027"


def openvino_model(model: ModelFile, graph: Graph, precision: Precision, folder: Path) -> EngineModel:
    """An ONNX model for OpenVINO, its files below `folder`.

    Raises:
        EnvironmentFault: the disk is full or cannot be written.
    """
    target = folder / MODEL_FOLDER
    with storage_faults(f"writing a model to {folder.parent}"):
        target.mkdir(parents=True)
        model_file.copy_to(model, target)
    inputs, outputs = tensor_specs(graph)
    return EngineModel(
        requirement=EngineRequirement(name=NAME, version=VERSION_RANGE),
        folder=target,
        inputs=inputs,
        outputs=outputs,
        precision=precision,
    )
