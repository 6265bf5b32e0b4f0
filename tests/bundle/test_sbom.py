"""The bill of materials: what CycloneDX 1.6 requires, and nothing that changes between two equal builds."""

import json
import re
from pathlib import Path
from typing import Any

import msgspec

from edgewright.bundle.sbom import encode_sbom, write_sbom
from tests.bundle.samples import sample_manifest, write_sample

FILES = {"model/model.onnx": "ab" * 32, "model/weights.bin": "cd" * 32}


def document(**changes: Any) -> dict[str, Any]:
    manifest = msgspec.structs.replace(sample_manifest(), **changes)
    return json.loads(encode_sbom(manifest, FILES))  # type: ignore[no-any-return]


def components(bom: dict[str, Any]) -> list[dict[str, Any]]:
    model = bom["metadata"]["component"]
    return [model, *model["pedigree"]["ancestors"], *bom["components"], *bom["metadata"]["tools"]["components"]]


def test_required_fields() -> None:
    bom = document()
    assert (bom["bomFormat"], bom["specVersion"], bom["version"]) == ("CycloneDX", "1.6", 1)
    assert re.fullmatch(r"urn:uuid:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", bom["serialNumber"])
    known = {"application", "file", "library", "machine-learning-model"}
    for component in components(bom):
        assert component["name"]
        assert component["type"] in known
        for digest in component.get("hashes", []):
            assert digest["alg"] == "SHA-256"
            assert re.fullmatch(r"[0-9a-f]{64}", digest["content"])


def test_references_are_unique_and_resolve() -> None:
    bom = document()
    references = [component["bom-ref"] for component in components(bom) if "bom-ref" in component]
    assert len(references) == len(set(references))
    for dependency in bom["dependencies"]:
        assert {dependency["ref"], *dependency["dependsOn"]} <= set(references)


def test_the_model_card_states_the_accuracy() -> None:
    card = document()["metadata"]["component"]["modelCard"]
    metric = card["quantitativeAnalysis"]["performanceMetrics"][0]
    assert (metric["type"], metric["value"]) == ("top1", "0.97")
    assert metric["confidenceInterval"] == {"lowerBound": "0.95", "upperBound": "0.985"}
    assert "360 samples" in metric["slice"]
    assert card["modelParameters"]["inputs"] == [{"format": "x: FP32 [anyx4]"}]
    assert card["modelParameters"]["datasets"][0]["type"] == "dataset"


def test_without_accuracy_and_data() -> None:
    lineage = msgspec.structs.replace(sample_manifest().lineage, data_digest=None)
    card = document(accuracy=None, lineage=lineage)["metadata"]["component"]["modelCard"]
    assert card.keys() == {"modelParameters"}
    assert "datasets" not in card["modelParameters"]


def test_flags_are_limitations() -> None:
    card = document(flags=("budget-missed",))["metadata"]["component"]["modelCard"]
    assert card["considerations"]["technicalLimitations"] == ["budget-missed"]


def test_deterministic_and_the_serial_number_follows_the_content() -> None:
    assert document() == document()
    assert "timestamp" not in json.dumps(document())
    assert document(version="2")["serialNumber"] != document()["serialNumber"]


def test_written_for_the_files_of_the_model(tmp_path: Path) -> None:
    write_sample(tmp_path / "b")
    write_sbom(tmp_path / "b", sample_manifest())
    files = json.loads((tmp_path / "b" / "sbom.cdx.json").read_text())["components"]
    assert [component["name"] for component in files if component["type"] == "file"] == ["model/model.onnx"]
