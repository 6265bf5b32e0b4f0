"""The other engines as ways to ship: a bundle for each, which the device's own engine loads and which passes there."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgewright.bundle.archive import unpack
from edgewright.bundle.golden import compare, read_golden
from edgewright.bundle.manifest import Manifest
from edgewright.bundle.manifest_json import decode_manifest
from edgewright.compiler.engine_choice import KNOWN_ENGINES, tried_engines
from edgewright.compiler.pipeline import compile_model
from edgewright.compiler.report.schema import Report, TargetReport
from edgewright.compiler.request import Request
from edgewright.runtime.engines.catalog import find_engine
from edgewright.runtime.engines.protocol import LoadOptions
from edgewright.targets.catalog import board_names, load_board

MakeRequest = Callable[..., Request]
PACKAGES = {"litert": "ai_edge_litert", "openvino": "openvino", "tvm": "tvm"}


def only(report: Report) -> TargetReport:
    (target,) = report.targets
    return target


def unpacked(bundle: Path, folder: Path) -> Manifest:
    unpack(bundle, folder)
    return decode_manifest((folder / "manifest.json").read_bytes())


@pytest.mark.parametrize("engine", PACKAGES)
def test_a_bundle_of_an_engine_passes_its_self_test_in_that_engine(
    engine: str, make_request: MakeRequest, tmp_path: Path
) -> None:
    pytest.importorskip(PACKAGES[engine])
    target = only(compile_model(make_request(targets=("host",), engines=(engine,))))
    assert target.exit_code == 0, target.reason
    assert target.chosen is not None
    assert target.chosen.startswith(f"{engine}-")
    assert all(candidate.name.startswith(f"{engine}-") for candidate in target.candidates)
    manifest = unpacked(tmp_path / "out" / "host.bundle", tmp_path / "unpacked")
    assert manifest.engine.name == engine
    instance = find_engine(engine).load(tmp_path / "unpacked", manifest, LoadOptions())
    golden = read_golden(tmp_path / "unpacked" / "golden.safetensors")
    assert compare(golden, instance.run(golden.inputs)).passed
    instance.close()


def test_all_engines_take_turns_in_one_measurement(make_request: MakeRequest) -> None:
    for package in PACKAGES.values():
        pytest.importorskip(package)
    target = only(compile_model(make_request(targets=("host",), engines=("onnxruntime", *PACKAGES))))
    engines = {candidate.name.split("-")[0] for candidate in target.candidates} & set(PACKAGES)
    assert engines == set(PACKAGES)
    assert {candidate.latency.kind for candidate in target.candidates} == {"measured"}
    rows = {candidate.name: candidate for candidate in target.candidates}
    assert rows["litert-float32"].test.snr_db is not None
    assert rows["litert-float32"].test.snr_db > 100
    assert rows["litert-float16"].model_bytes < rows["litert-float32"].model_bytes


def test_other_engines_are_tried_only_where_they_are_named(make_request: MakeRequest) -> None:
    target = only(compile_model(make_request(targets=("host",), engines=None, tune_s=0.0)))
    assert not [row.name for row in target.candidates if row.name.split("-")[0] in PACKAGES]


@pytest.mark.parametrize("board", board_names())
def test_something_is_tried_on_every_shipped_board(board: str) -> None:
    assert tried_engines(load_board(board), None)
    assert set(tried_engines(load_board(board), KNOWN_ENGINES)) <= set(KNOWN_ENGINES)


def test_an_absent_board_gets_litert_where_it_is_named(make_request: MakeRequest, tmp_path: Path) -> None:
    pytest.importorskip("ai_edge_litert")
    target = only(compile_model(make_request(targets=("raspberry-pi-5",), engines=("litert",))))
    assert target.exit_code == 0, target.reason
    manifest = unpacked(tmp_path / "out" / "raspberry-pi-5.bundle", tmp_path / "unpacked")
    assert (manifest.engine.name, manifest.target.arch) == ("litert", "aarch64")
    assert manifest.latency.kind == "estimated"


def test_operators_are_counted_for_who_looks_into_the_bundle(make_request: MakeRequest, tmp_path: Path) -> None:
    pytest.importorskip("ai_edge_litert")
    compile_model(make_request(targets=("host",), engines=("litert",)))
    manifest = unpacked(tmp_path / "out" / "host.bundle", tmp_path / "unpacked")
    (record,) = [record for record in manifest.lineage.passes if record.name == "operators"]
    assert record.options == {"engine": "litert"}
    assert [count for name, count in record.evidence.items() if name.startswith("CONV_2D ")] == [1]


@pytest.mark.parametrize("engine", PACKAGES)
def test_the_same_record_gives_the_same_bundle_of_another_engine(
    engine: str, make_request: MakeRequest, tmp_path: Path
) -> None:
    pytest.importorskip(PACKAGES[engine])
    first = only(compile_model(make_request(targets=("host",), engines=(engine,), out=tmp_path / "a")))
    again = make_request(
        targets=("host",), engines=(engine,), out=tmp_path / "b", measurements=tmp_path / "a" / "measurements.json"
    )
    assert only(compile_model(again)).bundle_digest == first.bundle_digest
    assert json.loads((tmp_path / "a" / "report.json").read_text()) == json.loads(
        (tmp_path / "b" / "report.json").read_text()
    )


@pytest.mark.parametrize(("engines", "code"), [(("onnxruntime", "openvino"), 0), (("openvino",), 4)])
def test_a_model_that_an_engine_refuses_costs_its_candidates_or_the_target_where_it_is_the_only_one(
    engines: tuple[str, ...], code: int, make_request: MakeRequest, tmp_path: Path
) -> None:
    pytest.importorskip("openvino")
    random = np.random.default_rng(0)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["m"]), helper.make_node("Det", ["m"], ["y"])],
        "determinant",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n"])],
        [numpy_helper.from_array(random.normal(size=(3, 3)).astype(np.float32), "w")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), tmp_path / "d.onnx")
    np.savez(tmp_path / "d.npz", x=random.normal(size=(60, 3, 3)).astype(np.float32))
    request = make_request(
        model=str(tmp_path / "d.onnx"), data=tmp_path / "d.npz", targets=("host",), engines=engines, max_drop=None
    )
    target = only(compile_model(request))
    assert target.exit_code == code, target.reason
    told = " ".join(target.notes) if code == 0 else target.reason
    assert "openvino" in told
    assert "Det" in told
