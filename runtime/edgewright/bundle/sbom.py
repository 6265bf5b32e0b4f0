"""The bill of materials of a bundle: a CycloneDX 1.6 ML-BOM. The same bundle gives the same bytes.

There is no timestamp, and the serial number is derived from the content: both would make two equal builds differ.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from pathlib import Path
from typing import Any

from .files import write_atomically
from .folder import list_files, read_chunks
from .manifest import Accuracy, Lineage, Manifest, TensorSpec
from .paths import MODEL_PREFIX, SBOM

Json = dict[str, Any]

_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "edgewright:bundle")

MODEL_REF = "model"
SOURCE_REF = "source-model"
DATA_REF = "data"
ENGINE_REF = "engine"


def write_sbom(directory: Path, manifest: Manifest) -> None:
    """Write sbom.cdx.json for the files that are in `model/` now; call it before `write_manifest`."""
    files: dict[str, str] = {}
    for path in list_files(directory):
        if path.startswith(MODEL_PREFIX):
            digest = hashlib.sha256()
            for chunk in read_chunks(directory, path):
                digest.update(chunk)
            files[path] = digest.hexdigest()
    write_atomically(directory / SBOM, encode_sbom(manifest, files))


def encode_sbom(manifest: Manifest, model_files: dict[str, str]) -> bytes:
    """The bytes of sbom.cdx.json; `model_files` are the SHA-256 of the files in `model/` by path."""
    document: Json = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": _model(manifest), "tools": {"components": _tools(manifest.lineage)}},
        "components": [_file(path, digest) for path, digest in sorted(model_files.items())] + [_engine(manifest)],
        "dependencies": [{"ref": MODEL_REF, "dependsOn": [*sorted(model_files), ENGINE_REF]}],
    }
    content = _canonical(document)
    document["serialNumber"] = f"urn:uuid:{uuid.uuid5(_NAMESPACE, hashlib.sha256(content).hexdigest())}"
    return _canonical(document)


def _canonical(document: Json) -> bytes:
    return json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False).encode() + b"\n"


def _model(manifest: Manifest) -> Json:
    return {
        "type": "machine-learning-model",
        "bom-ref": MODEL_REF,
        "name": manifest.model,
        "version": manifest.version,
        "description": f"Compiled for {manifest.target.name} in {manifest.precision}.",
        "pedigree": {"ancestors": [_source(manifest)]},
        "modelCard": _card(manifest),
        "properties": _properties(
            {
                "edgewright:target": manifest.target.name,
                "edgewright:target-digest": manifest.target.digest,
                "edgewright:precision": manifest.precision,
                "edgewright:security-epoch": str(manifest.security_epoch),
                "edgewright:passes": ", ".join(step.name for step in manifest.lineage.passes),
            }
        ),
    }


def _source(manifest: Manifest) -> Json:
    return {
        "type": "machine-learning-model",
        "bom-ref": SOURCE_REF,
        "name": f"{manifest.model} (as trained)",
        "hashes": [_hash(manifest.lineage.source_digest)],
    }


def _card(manifest: Manifest) -> Json:
    parameters: Json = {
        "inputs": [_format(spec) for spec in manifest.inputs],
        "outputs": [_format(spec) for spec in manifest.outputs],
    }
    if manifest.lineage.data_digest is not None:
        parameters["datasets"] = [
            {
                "type": "dataset",
                "bom-ref": DATA_REF,
                "name": "calibration and evaluation data",
                "contents": {"properties": _properties({"edgewright:digest": manifest.lineage.data_digest})},
            }
        ]
    card: Json = {"modelParameters": parameters}
    if manifest.accuracy is not None:
        card["quantitativeAnalysis"] = {"performanceMetrics": _metrics(manifest.accuracy)}
    if manifest.flags:
        card["considerations"] = {"technicalLimitations": list(manifest.flags)}
    return card


def _metrics(accuracy: Accuracy) -> list[Json]:
    test = f"test part of the data, {accuracy.samples} samples"
    metrics: list[Json] = [
        {
            "type": accuracy.metric,
            "value": str(accuracy.value),
            "slice": test,
            "confidenceInterval": {"lowerBound": str(accuracy.interval.low), "upperBound": str(accuracy.interval.high)},
        },
        {"type": f"{accuracy.metric} of the float model", "value": str(accuracy.float_value), "slice": test},
        {
            "type": f"{accuracy.metric} drop",
            "value": str(accuracy.drop),
            "slice": test,
            "confidenceInterval": {
                "lowerBound": str(accuracy.drop_interval.low),
                "upperBound": str(accuracy.drop_interval.high),
            },
        },
    ]
    beside_float = {"snr_db": accuracy.snr_db, "argmax_agreement": accuracy.argmax_agreement}
    metrics += [
        {"type": f"{name} to the float model", "value": str(value), "slice": test}
        for name, value in beside_float.items()
        if value is not None
    ]
    return metrics


def _engine(manifest: Manifest) -> Json:
    return {
        "type": "library",
        "bom-ref": ENGINE_REF,
        "name": manifest.engine.name,
        "properties": _properties({"edgewright:version-range": manifest.engine.version}),
    }


def _file(path: str, sha256: str) -> Json:
    return {"type": "file", "bom-ref": path, "name": path, "hashes": [_hash(sha256)]}


def _tools(lineage: Lineage) -> list[Json]:
    return [
        {"type": "application", "name": name, "version": version} for name, version in sorted(lineage.tools.items())
    ]


def _format(spec: TensorSpec) -> Json:
    shape = "x".join("any" if size == -1 else str(size) for size in spec.shape)
    return {"format": f"{spec.name}: {spec.datatype} [{shape}]" + (f" {spec.layout}" if spec.layout else "")}


def _hash(digest: str) -> Json:
    return {"alg": "SHA-256", "content": digest.removeprefix("sha256:")}


def _properties(values: dict[str, str]) -> list[Json]:
    return [{"name": name, "value": value} for name, value in sorted(values.items())]
