"""A device refuses what it must, says why, and serves on."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgewright.bundle.archive import pack, unpack
from edgewright.bundle.assemble import write_manifest
from examples.demo.processes import Stage, edgewright, free_port, run_json, wait_until
from examples.demo.world import Device
from tests.e2e.releases import Releases


@pytest.fixture
def device(tmp_path: Path, releases: Releases) -> Iterator[Device]:
    """A daemon of this machine that serves digits 1, with no fleet."""
    with Stage(tmp_path) as stage:
        found = Device("alone", "host", tmp_path / "state", free_port())
        found.state.mkdir()
        (found.state / "device.toml").write_text("probation_s = 0.5\n", encoding="utf-8")
        found.child = stage.start(
            "device",
            edgewright("device", "run", "--state-dir", str(found.state), "--listen", f"127.0.0.1:{found.port}"),
        )
        wait_until((found.state / "agent.sock").exists, timeout_s=120, what="the agent's socket")
        install(found, releases.bundle("1"))
        yield found


def install(device: Device, bundle: Path) -> None:
    run_json(edgewright("device", "install", str(bundle), "--wait", "confirmed", "--state-dir", str(device.state)))


def refused(device: Device, bundle: Path) -> str:
    """Install a bundle that must be refused; return what the command says."""
    done = subprocess.run(
        edgewright("device", "install", str(bundle), "--state-dir", str(device.state)),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    model = device.model("digits")
    assert model is not None
    assert model["versions"] == ["1"]
    return done.stderr


def test_a_bundle_for_another_board(device: Device, releases: Releases) -> None:
    message = refused(device, releases.bundle("2", "raspberry-pi-5"))
    assert "raspberry-pi-5" in message
    assert "host" in message


def test_a_truncated_bundle(device: Device, releases: Releases, tmp_path: Path) -> None:
    whole = releases.bundle("2").read_bytes()
    (tmp_path / "cut.bundle").write_bytes(whole[: len(whole) // 2])
    assert "the copy was cut" in refused(device, tmp_path / "cut.bundle")


def test_a_bundle_whose_golden_test_fails(device: Device, releases: Releases, tmp_path: Path) -> None:
    forged = forge_golden(releases.bundle("2"), releases.bundle("1"), tmp_path)
    assert "golden" in refused(device, forged).lower()


def test_the_good_one_is_still_welcome(device: Device, releases: Releases, tmp_path: Path) -> None:
    shutil.copy(releases.bundle("2"), tmp_path / "good.bundle")
    install(device, tmp_path / "good.bundle")
    model = device.model("digits")
    assert model is not None
    assert model["versions"] == ["2"]
    _, text = run_json(edgewright("device", "status", "--state-dir", str(device.state), "--json"))
    assert "digits" in json.dumps(json.loads(text))


def forge_golden(bundle: Path, donor: Path, folder: Path) -> Path:
    """Return a well-formed bundle whose self-test expects what another model answers."""

    manifest = unpack(bundle, folder / "forged")
    unpack(donor, folder / "donor")
    (folder / "forged" / "golden.safetensors").write_bytes((folder / "donor" / "golden.safetensors").read_bytes())
    (folder / "forged" / "manifest.json").unlink()
    write_manifest(folder / "forged", manifest)
    pack(folder / "forged", folder / "forged.bundle")
    return folder / "forged.bundle"
