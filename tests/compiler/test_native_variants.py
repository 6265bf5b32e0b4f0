"""Native code as a way to ship: timed beside ONNX Runtime, scored, packaged, replayed, handed out as C."""

from __future__ import annotations

import gc
import json
import os
import shutil
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgewright.bundle.archive import unpack
from edgewright.bundle.golden import compare, read_golden
from edgewright.bundle.manifest_json import decode_manifest
from edgewright.bundle.native_library import NativeLibrary
from edgewright.compiler.measure import ratio
from edgewright.compiler.pipeline import compile_model
from edgewright.compiler.report.schema import Report, TargetReport
from edgewright.compiler.request import Request
from edgewright.runtime.engines.native import ENGINE
from edgewright.runtime.engines.protocol import LoadOptions
from tests.compiler.native.single_layer import HERE
from tests.compiler.nets import Net as Writer

MakeRequest = Callable[..., Request]

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")


def only(report: Report) -> TargetReport:
    (target,) = report.targets
    return target


def test_it_ships_where_it_is_the_fastest_and_a_device_s_engine_passes_its_self_test(
    make_request: MakeRequest, tmp_path: Path
) -> None:
    target = only(compile_model(make_request(targets=("host",), engines=("native",))))
    assert target.exit_code == 0
    assert target.chosen is not None
    assert target.chosen.startswith("native-")
    folder = tmp_path / "unpacked"
    unpack(tmp_path / "out" / "host.bundle", folder)
    manifest = decode_manifest((folder / "manifest.json").read_bytes())
    assert (manifest.engine.name, manifest.engine.version) == ("native", ">=1,<2")
    assert manifest.memory.peak_bytes > manifest.memory.model_bytes == (folder / "model/model.so").stat().st_size
    (record,) = [record for record in manifest.lineage.passes if record.name == "native"]
    assert "gcc" in str(record.evidence["toolchain"])
    golden = read_golden(folder / "golden.safetensors")
    instance = ENGINE.load(folder, manifest, LoadOptions())
    assert compare(golden, instance.run(golden.inputs)).passed
    instance.close()


def test_a_small_net_stays_with_one_thread_however_many_are_asked_for(
    make_request: MakeRequest, tmp_path: Path
) -> None:
    compile_model(make_request(targets=("host",), engines=("native",), threads=4))
    unpack(tmp_path / "out" / "host.bundle", tmp_path / "unpacked")
    manifest = decode_manifest((tmp_path / "unpacked" / "manifest.json").read_bytes())
    assert manifest.engine.options == {}
    assert "1 thread(s)" in manifest.latency.method
    entries = NativeLibrary(tmp_path / "unpacked/model/model.so").entries
    assert [entry.max_parts for entry in entries] == [0] * len(entries)


@pytest.fixture
def large(make_request: MakeRequest, tmp_path: Path) -> Callable[..., Request]:
    """Of a net that takes some milliseconds, and two threads."""
    net = Writer((16, 96, 96), np.random.default_rng(0))
    for _ in range(4):
        net.conv(64)
    net.node("GlobalAveragePool", net.here)
    net.shape = (64, 1, 1)
    net.flatten()
    onnx.save(net.model(), tmp_path / "large.onnx")
    np.savez(tmp_path / "x.npz", x=np.random.default_rng(0).normal(size=(24, 16, 96, 96)).astype(np.float32))

    def request(**changes: object) -> Request:
        own = {"model": str(tmp_path / "large.onnx"), "data": tmp_path / "x.npz", "metric": "snr", "max_drop": None}
        return make_request(**{**own, "engines": ("native",), "threads": 2, **changes})

    return request


@pytest.mark.skipif("avx2" not in HERE.isa or (os.cpu_count() or 1) < 2, reason="needs two cores with AVX2")
def test_a_net_of_some_milliseconds_gets_the_threads_that_are_asked_for(
    large: Callable[..., Request], tmp_path: Path
) -> None:
    compile_model(large(targets=("x86-64-avx2",)))
    folder = tmp_path / "unpacked"
    unpack(tmp_path / "out" / "x86-64-avx2.bundle", folder)
    manifest = decode_manifest((folder / "manifest.json").read_bytes())
    assert manifest.engine.options == {"threads": 2}
    golden = read_golden(folder / "golden.safetensors")
    answers = []
    for threads in (None, 1):
        instance = ENGINE.load(folder, manifest, LoadOptions(threads=threads))
        answers.append(instance.run(golden.inputs))
        instance.close()
    assert compare(golden, answers[0]).passed
    assert all(answers[0][name].tobytes() == answers[1][name].tobytes() for name in answers[0])
    gc.collect()  # pools of tests before
    end_s = time.monotonic() + 60
    while [thread for thread in threading.enumerate() if thread.name.startswith("edgewright-native")]:
        assert time.monotonic() < end_s, "a closed instance keeps its threads"
        time.sleep(0.01)


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="needs two cores")
def test_here_threads_ship_only_where_they_were_faster_for_certain(
    large: Callable[..., Request], tmp_path: Path
) -> None:
    compile_model(large(targets=("host",)))
    record = json.loads((tmp_path / "out/measurements.json").read_bytes())["rounds_ns"]
    unpack(tmp_path / "out" / "host.bundle", tmp_path / "unpacked")
    manifest = decode_manifest((tmp_path / "unpacked" / "manifest.json").read_bytes())
    pairs = list(zip(*(_rounds(record, end) for end in ("beside one thread", "beside threads")), strict=True))
    faster = [ratio(shared, alone).high < 1 for shared, alone in pairs]
    assert faster
    assert manifest.engine.options in [{"threads": 2} if one else {} for one in faster]
    again = large(targets=("host",), out=tmp_path / "again", measurements=tmp_path / "out/measurements.json")
    compile_model(again)
    assert (tmp_path / "again/host.bundle").read_bytes() == (tmp_path / "out/host.bundle").read_bytes()


def _rounds(record: dict[str, list[int]], end: str) -> list[list[int]]:
    return [rounds for key, rounds in sorted(record.items()) if key.endswith(end)]


def test_it_stands_beside_onnx_runtime_and_agrees_with_it(make_request: MakeRequest) -> None:
    target = only(compile_model(make_request(targets=("host",), engines=None)))
    rows = {row.name: row for row in target.candidates}
    assert {"float32", "native-float32"} <= set(rows)
    assert rows["native-float32"].test.snr_db is not None
    assert rows["native-float32"].test.snr_db > 100
    for name, row in rows.items():
        if name.startswith("native-int8"):
            twin = rows[name.removeprefix("native-")]
            assert row.test.value == twin.test.value
            assert row.test.snr_db == pytest.approx(twin.test.snr_db, abs=0.5)


def test_a_record_gives_the_same_bundle_again(make_request: MakeRequest, tmp_path: Path) -> None:
    first = make_request(targets=("host",), engines=("native",), tune_s=20.0)
    compile_model(first)
    recorded = json.loads((tmp_path / "out" / "measurements.json").read_bytes())
    assert recorded["tiles"]
    again = make_request(
        targets=("host",), engines=("native",), out=tmp_path / "again", measurements=tmp_path / "out/measurements.json"
    )
    compile_model(again)
    for name in ("host.bundle", "measurements.json", "report.json"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "out" / name).read_bytes()


def test_it_ships_to_an_absent_target_only_where_it_is_asked_for(make_request: MakeRequest) -> None:
    target = only(compile_model(make_request(engines=None)))
    assert not [row for row in target.candidates if row.name.startswith("native")]
    assert "--engine native" in target.notes[0]


def test_a_model_with_an_operator_that_has_no_native_form_ships_as_before(
    make_request: MakeRequest, tmp_path: Path
) -> None:
    path = tmp_path / "odd.onnx"
    node = helper.make_node("Det", ["m"], ["d"], "determinant")
    ones = helper.make_tensor("s", TensorProto.INT64, [3], [-1, 8, 8])
    nodes = [helper.make_node("Reshape", ["x", "s"], ["m"]), node]
    graph = helper.make_graph(
        nodes,
        "odd",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 1, 8, 8])],
        [helper.make_tensor_value_info("d", TensorProto.FLOAT, ["N"])],
        [ones],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    np.savez(tmp_path / "odd.npz", x=np.random.default_rng(0).normal(size=(64, 1, 8, 8)).astype(np.float32))
    request = make_request(
        model=str(path), data=tmp_path / "odd.npz", targets=("host",), engines=None, metric="snr", max_drop=None
    )
    target = only(compile_model(request))
    assert (target.exit_code, target.chosen) == (0, "float32")
    assert sum("determinant" in note for note in target.notes) == 1, "one reason for all forms is said once"
    refused = only(compile_model(make_request(**{**vars(request), "engines": ("native",)})))
    assert refused.exit_code == 4
    assert "Det at node 'determinant'" in refused.reason


def test_without_a_compiler_the_line_that_installs_one_is_said(
    model_path: Path, data_path: Path, tmp_path: Path
) -> None:
    code = "import sys; sys.modules['ziglang'] = None; from edgewright.runtime.cli import main; main()"
    command = [sys.executable, "-c", code, "compile", model_path, "--data", data_path, "--target", "host"]
    environment = {**os.environ, "PATH": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)}
    run = subprocess.run(
        [*map(str, command), "--engine", "native", "--out", str(tmp_path / "o")],
        capture_output=True, text=True, env=environment, check=False, timeout=120,
    )  # fmt: skip
    assert run.returncode == 5, run.stderr
    assert "pip install 'edgewright[native]'" in run.stderr
    assert "Traceback" not in run.stderr
    run = subprocess.run(
        [*map(str, command), "--out", str(tmp_path / "o")],
        capture_output=True, text=True, env=environment, check=False, timeout=120,
    )  # fmt: skip
    assert run.returncode in {0, 3}, run.stderr
    assert "no native code: no C compiler" in " ".join(run.stdout.split()), "else it ships without, and says so"


def test_the_c_source_builds_and_answers(make_request: MakeRequest, tmp_path: Path) -> None:
    target = only(compile_model(make_request(targets=("host",), engines=("native",), emit_c=True)))
    assert target.c_source == "host-c.zip"
    with zipfile.ZipFile(tmp_path / "out" / "host-c.zip") as archive:
        archive.extractall(tmp_path / "c")
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
    page = (tmp_path / "c" / "README.md").read_text()
    line = next(line.removeprefix("$ ") for line in page.splitlines() if line.startswith("$ cc "))
    (tmp_path / "c" / "input.bin").write_bytes(np.ones((1, 1, 8, 8), np.float32).tobytes())
    run = subprocess.run(
        ["sh", "-c", f"{line} && ./example input.bin"], cwd=tmp_path / "c", capture_output=True, text=True, check=True
    )
    assert run.stdout.startswith("output scores FP32 1x4\n")
    assert len(run.stdout.splitlines()) == 1 + 4
