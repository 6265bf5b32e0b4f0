"""`compile` for Ethos-U: what ships is Vela's file, what the report says of it is Vela's, and nothing runs in float."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from rich.console import Console

from edgewright.bundle.archive import unpack
from edgewright.bundle.manifest import Manifest
from edgewright.bundle.manifest_json import decode_manifest
from edgewright.compiler.pipeline import compile_model
from edgewright.compiler.report.schema import CandidateReport, Report, TargetReport
from edgewright.compiler.report.terminal import print_report
from edgewright.compiler.request import Request
from edgewright.compiler.tflite.file.read import read
from tests.compiler.nets import Net

pytest.importorskip("ethosu.vela")

MakeRequest = Callable[..., Request]
TARGET = "ethos-u55-128"


@pytest.fixture
def compiled(make_request: MakeRequest) -> Report:
    return compile_model(make_request(targets=(TARGET, "imx93"), engines=None))


def chosen_of(target: TargetReport) -> CandidateReport:
    return next(row for row in target.candidates if row.name == target.chosen)


def unpacked(bundle: Path, folder: Path) -> Manifest:
    unpack(bundle, folder)
    return decode_manifest((folder / "manifest.json").read_bytes())


def test_a_microcontroller_s_bundle_holds_vela_s_file_and_its_figures(compiled: Report, tmp_path: Path) -> None:
    target = compiled.targets[0]
    assert target.exit_code == 0, target.reason
    assert target.chosen == "ethos-u-int8-s8s8-tflite"
    npu = chosen_of(target).npu
    assert npu is not None
    assert npu.left_on_cpu == ()
    assert npu.cycles > 0
    assert npu.accelerator_config == TARGET
    manifest = unpacked(tmp_path / "out" / f"{TARGET}.bundle", tmp_path / "unpacked")
    model = read((tmp_path / "unpacked/model/model.tflite").read_bytes(), "the bundle's model")
    assert [operator.custom for operator in model.operators] == ["ethos-u"]
    assert [model.tensors[port.tensor].type for port in (*model.inputs, *model.outputs)] == ["INT8", "INT8"]
    assert manifest.engine.name == "litert"
    assert manifest.engine.options["delegate"] == "ethos-u"
    assert manifest.latency.kind == "estimated"
    assert manifest.latency.p50_ms == pytest.approx(npu.inference_ms, abs=1e-6)
    assert manifest.memory.peak_bytes == manifest.memory.model_bytes + npu.sram_bytes + npu.dram_bytes
    figures = next(record for record in manifest.lineage.passes if record.name == "vela").evidence
    assert figures["cycles"] == npu.cycles


def test_a_board_with_cores_and_an_npu_takes_the_npu(compiled: Report) -> None:
    target = compiled.targets[1]
    assert target.chosen is not None
    engines = {row.name.split("-")[0] for row in target.candidates}
    assert {"float32", "ethos"} <= engines
    assert chosen_of(target).latency.method.startswith("Vela")


def test_the_npu_s_bundle_comes_out_again_byte_for_byte(make_request: MakeRequest, tmp_path: Path) -> None:
    for name in ("a", "b"):
        compile_model(make_request(targets=(TARGET,), engines=None, out=tmp_path / name))
    first, second = ((tmp_path / name / f"{TARGET}.bundle").read_bytes() for name in ("a", "b"))
    assert first == second


def test_people_see_what_the_npu_does(compiled: Report) -> None:
    shown = io.StringIO()
    print_report(compiled, Console(width=120, file=shown))
    text = shown.getvalue()
    assert "cycles" in text
    assert "operators on the NPU, none on the CPU" in text


def test_an_operator_that_stays_on_the_cpu_comes_with_its_reason_and_its_price(
    make_request: MakeRequest, tmp_path: Path
) -> None:
    random = np.random.default_rng(0)
    net = Net((3, 16, 16), random)
    net.conv(8)
    net.node("Sin", net.here)
    net.conv(4)
    onnx.save(net.model(), tmp_path / "sin.onnx")
    np.savez(tmp_path / "sin.npz", x=random.normal(size=(60, 3, 16, 16)).astype(np.float32))
    request = make_request(
        model=str(tmp_path / "sin.onnx"), data=tmp_path / "sin.npz", targets=(TARGET,), engines=None, max_drop=None
    )
    (target,) = compile_model(request).targets
    npu = chosen_of(target).npu
    assert npu is not None
    left = {operator.type: operator for operator in npu.left_on_cpu}
    assert "SIN" in left
    assert left["SIN"].reason
    assert left["SIN"].cost_ms is not None


def test_without_vela_the_target_fails_with_the_line_to_type(model_path: Path, data_path: Path, tmp_path: Path) -> None:
    absent = tmp_path / "absent" / "ethosu"
    absent.mkdir(parents=True)
    search = os.pathsep.join(filter(None, (str(absent.parent), os.environ.get("PYTHONPATH"))))
    (absent / "__init__.py").write_text("")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "edgewright.runtime.cli", "compile", str(model_path), "--no-cache"),
            *("--target", TARGET, "--data", str(data_path), "--out", str(tmp_path / "out")),
        ],
        capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": search},
    )  # fmt: skip
    assert done.returncode == 5, done.stderr
    assert "pip install 'edgewright[ethos-u]'" in done.stderr
    assert not (tmp_path / "out" / f"{TARGET}.bundle").exists()
