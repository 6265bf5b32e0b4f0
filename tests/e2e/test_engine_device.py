"""One device goes through bundles for several engines: it installs, tries, serves and rolls back each in its engine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from examples.demo.processes import edgewright, run_json, wait_until
from tests.e2e.bare_device import BareDevice, bare_device
from tests.e2e.test_native_device import Net, answers_as, samples

ENGINES = {"1": "litert", "2": "openvino", "3": "tvm"}


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A version for each engine, by the real command."""
    for package in ("ai_edge_litert", "openvino", "tvm"):
        pytest.importorskip(package)
    folder = tmp_path_factory.mktemp("bundles")
    np.savez(folder / "data.npz", x=samples(256))
    found = {}
    for version, engine in ENGINES.items():
        Net(version).save(folder / f"{version}.onnx")
        run_json(
            edgewright(
                *("compile", str(folder / f"{version}.onnx"), "--name", "net", "--release-version", version),
                *("--target", "host", "--data", str(folder / "data.npz"), "--metric", "snr"),
                *("--engine", engine, "--out", str(folder / version)),
            ),
            accept=(0, 3),  # either precision will do
        )
        found[version] = folder / version / "host.bundle"
    return found


@pytest.fixture
def device(tmp_path: Path) -> Iterator[BareDevice]:
    with bare_device(tmp_path / "device") as found:
        yield found


def test_a_device_goes_from_engine_to_engine_and_back(device: BareDevice, bundles: dict[str, Path]) -> None:
    for version, bundle in bundles.items():
        installed = device.install(bundle)
        assert installed.returncode == 0, installed.stderr
        assert answers_as(device, version)
    back = device.command("device", "rollback", "net", "--state-dir", str(device.device.state))
    assert back.returncode == 0, back.stderr
    wait_until(lambda: device.versions("net") == ["2"], timeout_s=120, what="version 2")
    assert answers_as(device, "2")
    shown = device.command("bundle", "inspect", str(bundles["1"])).stdout
    assert "Operators by engine" in shown
    assert "FULLY_CONNECTED" in shown
