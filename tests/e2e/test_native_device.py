"""A device with native bundles needs no inference engine: it installs, tries, serves and rolls back without one."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edgewright.bundle.archive import pack, unpack
from edgewright.bundle.assemble import write_manifest
from edgewright.bundle.manifest import TensorSpec
from examples.demo.processes import edgewright, run_json, wait_until
from tests.e2e.bare_device import BareDevice, bare_device
from tests.runtime.native_bundle import compile_c, needs_gcc, write_native_bundle

pytestmark = needs_gcc

FEATURES, HIDDEN, CLASSES = 16, 32, 4


class Net:
    """Two layers with random weights, one set per version."""

    def __init__(self, version: str) -> None:
        random = np.random.default_rng(int(version))
        self.first = random.normal(size=(FEATURES, HIDDEN)).astype(np.float32) / 4
        self.second = random.normal(size=(HIDDEN, CLASSES)).astype(np.float32) / 4

    def scores(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        return (np.maximum(rows @ self.first, 0) @ self.second).astype(np.float32)

    def save(self, path: Path) -> None:
        nodes = [
            helper.make_node("MatMul", ["features", "first"], ["sums"]),
            helper.make_node("Relu", ["sums"], ["hidden"]),
            helper.make_node("MatMul", ["hidden", "second"], ["scores"]),
        ]
        weights = [numpy_helper.from_array(self.first, "first"), numpy_helper.from_array(self.second, "second")]
        features = helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", FEATURES])
        scores = helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", CLASSES])
        graph = helper.make_graph(nodes, "net", [features], [scores], weights)
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)


def samples(rows: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).uniform(-1, 1, (rows, FEATURES)).astype(np.float32)


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Versions 1 and 2 as native code and version 3 for ONNX Runtime, by the real command."""
    folder = tmp_path_factory.mktemp("bundles")
    np.savez(folder / "data.npz", x=samples(256))
    found = {}
    for version, engine in (("1", "native"), ("2", "native"), ("3", "onnxruntime")):
        Net(version).save(folder / f"{version}.onnx")
        run_json(
            edgewright(
                *("compile", str(folder / f"{version}.onnx"), "--name", "net", "--release-version", version),
                *("--target", "host", "--data", str(folder / "data.npz"), "--metric", "snr"),
                *("--engine", engine, "--tune", "0", "--out", str(folder / version)),
            ),
            accept=(0, 3),  # either precision will do
        )
        found[version] = folder / version / "host.bundle"
    return found


@pytest.fixture
def device(tmp_path: Path, bundles: dict[str, Path]) -> Iterator[BareDevice]:
    """A device that serves version 1."""
    with bare_device(tmp_path / "device") as found:
        installed = found.install(bundles["1"])
        assert installed.returncode == 0, installed.stderr
        yield found


def answers_as(device: BareDevice, version: str) -> bool:
    rows = samples(5, seed=3)
    return near(device.ask("net", "features", rows), Net(version).scores(rows))


def near(found: NDArray[np.float32], expected: NDArray[np.float32]) -> bool:
    """Equal but for what int8 costs; the versions have nothing in common."""
    return bool(np.linalg.norm(found - expected) < 0.1 * np.linalg.norm(expected))


def test_it_serves_and_rolls_forward_and_back_without_an_engine(
    device: BareDevice, bundles: dict[str, Path], tmp_path: Path
) -> None:
    assert answers_as(device, "1")
    updated = device.install(bundles["2"])
    assert updated.returncode == 0, updated.stderr
    assert device.versions("net") == ["2"]
    assert answers_as(device, "2")
    back = device.command("device", "rollback", "net", "--state-dir", str(device.device.state))
    assert back.returncode == 0, back.stderr
    wait_until(lambda: device.versions("net") == ["1"], timeout_s=120, what="version 1")
    assert answers_as(device, "1")

    np.savez(tmp_path / "inputs.npz", x=samples(40))
    ran = device.command(
        *("run", str(bundles["2"]), "--input", str(tmp_path / "inputs.npz"), "--output", str(tmp_path / "scores.npz")),
        "--json",
    )
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout)["rows"] == 40
    assert near(np.load(tmp_path / "scores.npz")["scores"], Net("2").scores(samples(40)))
    shown = device.command("bundle", "inspect", str(bundles["2"])).stdout
    for label in ("native >=1,<2", "toolchain", "arena bytes", "model/model.so"):
        assert label in shown
    assert device.wanted() == []


def test_a_bundle_for_an_engine_that_is_not_there_is_refused_with_the_line_to_type(
    device: BareDevice, bundles: dict[str, Path]
) -> None:
    """And so the packages are absent indeed."""
    refused = device.install(bundles["3"])
    assert refused.returncode != 0
    assert "pip install 'onnxruntime" in refused.stderr
    assert device.wanted() == ["onnxruntime"]
    assert answers_as(device, "1")


def test_code_for_a_processor_that_has_more_is_refused(
    device: BareDevice, bundles: dict[str, Path], tmp_path: Path
) -> None:
    """Whether the manifest says so, or only the library."""
    manifest = unpack(bundles["2"], tmp_path / "more")
    (tmp_path / "more/manifest.json").unlink()
    target = msgspec.structs.replace(manifest.target, isa=(*manifest.target.isa, "avx1024"))
    write_manifest(tmp_path / "more", msgspec.structs.replace(manifest, target=target))
    pack(tmp_path / "more", tmp_path / "more.bundle")
    for bundle in (tmp_path / "more.bundle", hand_written(tmp_path / "silent", "", isa="avx1024")):
        refused = device.install(bundle)
        assert refused.returncode != 0
        assert "lacks" in refused.stderr
        assert "avx1024" in refused.stderr
        assert answers_as(device, "1")


def test_a_changed_library_is_never_run(device: BareDevice, bundles: dict[str, Path], tmp_path: Path) -> None:
    """Not from a bundle, and not when a file on the device was changed after it was installed."""
    content = bytearray(bundles["2"].read_bytes())
    content[content.index(b"\x7fELF") + 5000] ^= 1
    (tmp_path / "tampered.bundle").write_bytes(content)
    refused = device.install(tmp_path / "tampered.bundle")
    assert refused.returncode != 0
    assert "model/model.so" in refused.stderr
    assert answers_as(device, "1")

    assert device.install(bundles["2"]).returncode == 0
    device.stop()
    (library,) = [path for path in installed_libraries(device) if path.read_bytes() in bundles["2"].read_bytes()]
    library.chmod(0o600)
    with library.open("r+b") as file:
        file.seek(5000)
        file.write(b"tampered")
    device.start()
    wait_until(lambda: device.versions("net") == ["1"], timeout_s=120, what="version 1")
    assert answers_as(device, "1")


def installed_libraries(device: BareDevice) -> list[Path]:
    return sorted(device.device.state.rglob("model.so"))


CODE = """
#include "edgewright_native.h"
static const int64_t in_shape[] = {1, 16}, out_shape[] = {1, 4};
static const edgewright_tensor in_[] = {{"features", "FP32", 2, 0, in_shape, 64}};
static const edgewright_tensor out_[] = {{"scores", "FP32", 2, 0, out_shape, 16}};
static void run(const void *const *in, void *const *out, void *arena) {
    const float *x = in[0];
    BODY
    for (int i = 0; i < 4; i++)
        ((float *)out[0])[i] = x[i];
}
static const edgewright_entry entries[] = {{1, 64, 64, in_, out_, run}};
static const edgewright_model model = {1, 1, 1, 1, "net", "ISA", "by hand", entries};
const edgewright_model *edgewright_describe(void) { return &model; }
"""
NO_INSTRUCTION = "__builtin_trap();"
"""The processor stops at it with SIGILL."""


def hand_written(folder: Path, body: str, *, isa: str = "") -> Path:
    """A bundle of code that gives its first four features back, and does something before it."""
    folder.mkdir()
    compile_c(folder / "model.so", CODE.replace("BODY", body).replace("ISA", isa))
    rows = samples(3)
    write_native_bundle(
        folder / "bundle",
        folder / "model.so",
        _specs("features", FEATURES),
        _specs("scores", CLASSES),
        ({"features": rows}, {"scores": rows[:, :4].copy()}),
        name="net",
        version="9",
    )
    return folder / "bundle.bundle"


def _specs(name: str, size: int) -> Sequence[TensorSpec]:
    return [TensorSpec(name=name, datatype="FP32", shape=(-1, size))]


def test_code_that_crashes_in_its_trial_does_not_touch_the_running_model(device: BareDevice, tmp_path: Path) -> None:
    server = device.server()
    refused = device.install(hand_written(tmp_path / "crashing", NO_INSTRUCTION))
    assert refused.returncode != 0
    assert "SIGILL" in refused.stderr
    assert device.server() == server
    assert device.versions("net") == ["1"]
    assert answers_as(device, "1")


def test_code_that_crashes_on_probation_is_rolled_back(device: BareDevice, tmp_path: Path) -> None:
    """It passes its trial: only some inputs kill it."""
    (device.device.state / "device.toml").write_text("probation_s = 600.0\n", encoding="utf-8")
    device.stop()
    device.start()
    bundle = hand_written(tmp_path / "crashing", f"if (x[0] == 666.0f) {NO_INSTRUCTION}")
    began = device.install(bundle, wait="probation")
    assert began.returncode == 0, began.stderr
    wait_until(lambda: device.versions("net") == ["9"], timeout_s=120, what="version 9")
    deadly = np.full((1, FEATURES), 666, np.float32)

    def rolled_back() -> bool:
        if device.versions("net") == ["9"]:
            with pytest.raises((OSError, http.client.HTTPException)):
                device.ask("net", "features", deadly)
        return device.versions("net") == ["1"]

    wait_until(rolled_back, timeout_s=120, what="version 1", interval_s=0.2)
    assert answers_as(device, "1")
    status = device.command("device", "status", "--state-dir", str(device.device.state))
    assert "SIGILL" in status.stdout
