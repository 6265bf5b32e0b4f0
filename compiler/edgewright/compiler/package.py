"""Writes the bundle of one target: model, self-test, drift reference, SBOM, manifest; then the archive."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from edgewright.bundle.archive import pack
from edgewright.bundle.assemble import write_manifest
from edgewright.bundle.calibrate import build_reference
from edgewright.bundle.golden import Golden, write_golden
from edgewright.bundle.manifest import (
    Accuracy,
    EngineRequirement,
    Latency,
    Lineage,
    Manifest,
    MemoryNeed,
    PassRecord,
    TargetRequirement,
    oldest_version_for,
)
from edgewright.bundle.paths import GOLDEN, REFERENCE
from edgewright.bundle.reference import write_reference
from edgewright.bundle.sbom import write_sbom
from edgewright.targets.board import Board

from . import measure
from .data import Dataset
from .graph import Graph, digest
from .lower import onnxruntime as engine
from .lower.compiled import copy_to, size_bytes
from .lower.engine_model import EngineModel
from .lower.native.library import VERSION_RANGE as NATIVE_VERSIONS
from .lower.native.library import NativeModel
from .lower.onnxruntime import Outputs
from .lower.workload import BYTES, Shapes, memory
from .measure import Measurements
from .processing import ClientSide
from .variants import NATIVE, Variant

MODEL_FOLDER = "model"


@dataclass(frozen=True, kw_only=True)
class Shipment:
    """Everything that one bundle says and holds."""

    name: str
    version: str
    security_epoch: int
    board: Board
    graph: Graph
    call_shapes: Shapes
    variant: Variant
    golden: Golden
    data: Dataset
    client: ClientSide
    reference_outputs: Outputs
    """Of the model."""
    engine_options: dict[str, str | int | bool]
    latency: Latency
    accuracy: Accuracy
    flags: tuple[str, ...]
    source_digest: str
    measurements: Measurements | None
    records: tuple[PassRecord, ...]
    tools: dict[str, str]
    classes_known: bool
    """Whether labels are the true classes of the first output's scores."""


def write_bundle(shipment: Shipment, stage: Path) -> tuple[str, str]:
    """Makes `<target>.bundle` in the stage; returns its file name and digest."""
    folder = stage / f"{shipment.board.name}.files"
    (folder / MODEL_FOLDER).mkdir(parents=True)
    client = shipment.client
    copy_to(shipment.variant.model, folder / MODEL_FOLDER)
    write_golden(folder / GOLDEN, shipment.golden)
    samples = client.data.reference
    answers = client.after(shipment.reference_outputs) if client.processed else shipment.reference_outputs
    labels = samples.labels if shipment.classes_known else None
    write_reference(
        folder / REFERENCE,
        build_reference(
            client.observed(samples.inputs),
            client.observed(answers),
            labels,
            (*client.inputs, *client.outputs),
            ranked=client.ranked,
        ),
    )
    manifest = make_manifest(shipment)
    write_sbom(folder, manifest)
    write_manifest(folder, manifest)
    file_name = f"{shipment.board.name}.bundle"
    bundle_digest = pack(folder, stage / file_name)
    shutil.rmtree(folder)
    return file_name, bundle_digest


def make_manifest(shipment: Shipment) -> Manifest:
    """The manifest, without the list of files."""
    board, variant, client = shipment.board, shipment.variant, shipment.client
    return Manifest(
        format_version=oldest_version_for(processed=client.processed, stateful=bool(client.state)),
        model=shipment.name,
        version=shipment.version,
        security_epoch=shipment.security_epoch,
        precision=variant.precision,
        target=TargetRequirement(name=board.name, digest=board.digest(), arch=board.arch, isa=board.cpu.isa),
        engine=engine_requirement(variant, shipment.engine_options),
        inputs=client.inputs,
        outputs=client.outputs,
        preprocess=client.declared.before,
        postprocess=client.declared.after,
        model_inputs=client.model_inputs if client.processed else (),
        model_outputs=client.model_outputs if client.processed else (),
        state=client.state,
        memory=_with_steps(memory_need(shipment.graph, variant, shipment.call_shapes), client),
        latency=shipment.latency,
        accuracy=shipment.accuracy,
        flags=shipment.flags,
        lineage=make_lineage(shipment),
        entries=(),
    )


def _with_steps(need: MemoryNeed, client: ClientSide) -> MemoryNeed:
    return MemoryNeed(model_bytes=need.model_bytes, peak_bytes=need.peak_bytes + client.scratch_bytes)


def engine_requirement(variant: Variant, options: dict[str, str | int | bool]) -> EngineRequirement:
    """What loads the model on the device: not always the tool that made it. LiteRT runs the files for Ethos-U."""
    if isinstance(variant.model, EngineModel):
        needed = variant.model.requirement
        return EngineRequirement(name=needed.name, version=needed.version, options=options)
    version = NATIVE_VERSIONS if variant.engine == NATIVE else engine.VERSION_RANGE
    return EngineRequirement(name=variant.engine, version=version, options=options)


def make_lineage(shipment: Shipment) -> Lineage:
    """Where the model comes from."""
    measurements = shipment.measurements
    return Lineage(
        source_digest=shipment.source_digest,
        data_digest=shipment.data.digest,
        measurements_digest=None if measurements is None else digest(measure.encode(measurements)),
        passes=(*shipment.records, *shipment.variant.records),
        tools=shipment.tools,
    )


def memory_need(graph: Graph, variant: Variant, call_shapes: Shapes) -> MemoryNeed:
    """Predicted: the file, the engine's packed copy of the weights, and activations at their fullest."""
    if isinstance(variant.model, NativeModel):
        size = variant.model.size_bytes
        return MemoryNeed(model_bytes=size, peak_bytes=size + variant.model.arena_bytes)
    if isinstance(variant.model, EngineModel) and variant.model.memory_bytes is not None:
        size = variant.model.size_bytes
        return MemoryNeed(model_bytes=size, peak_bytes=size + variant.model.memory_bytes)
    need = memory(graph, BYTES[variant.precision], call_shapes)
    model_bytes = size_bytes(variant.model)
    peak_bytes = model_bytes + need.weight_bytes + 2 * need.peak_activation_bytes
    return MemoryNeed(model_bytes=model_bytes, peak_bytes=peak_bytes)
