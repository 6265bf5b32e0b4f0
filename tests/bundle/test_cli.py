"""`edgewright bundle` as a person sees it: the real command, in a process of its own where exit codes matter."""

import json
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from edgewright.bundle.cli import bundle
from edgewright.bundle.steps import Reshape
from tests.bundle.samples import processed_manifest, write_sample
from tests.vectors.make import FOLDER


def edgewright(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edgewright.runtime.cli", "bundle", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env={"NO_COLOR": "1", "COLUMNS": "200"})


def test_inspect(sample_archive: Path) -> None:
    done = edgewright("inspect", sample_archive)
    assert done.returncode == 0
    for text in ("digits 1 for raspberry-pi-5", "onnxruntime >=1.31,<2", "360 samples", "model/model.onnx"):
        assert text in done.stdout


def test_inspect_json_is_the_manifest(sample_archive: Path) -> None:
    done = edgewright("inspect", sample_archive, "--json")
    assert json.loads(done.stdout)["model"] == "digits"
    assert done.stdout.encode() in sample_archive.read_bytes()


def test_verify(sample_archive: Path) -> None:
    done = edgewright("verify", sample_archive, "--json")
    assert done.returncode == 0
    result = json.loads(done.stdout)
    assert result["valid"] is True
    assert edgewright("verify", sample_archive, "--digest", result["digest"]).returncode == 0
    assert edgewright("verify", sample_archive, "--digest", "sha256:00").returncode == 2


@pytest.mark.parametrize("name", ["bad-truncated-in-content", "bad-symlink", "bad-manifest-escape-codes"])
def test_a_bad_bundle_is_one_line_and_exit_2(name: str, tmp_path: Path) -> None:
    for arguments in (("verify", FOLDER / f"{name}.bundle"), ("unpack", FOLDER / f"{name}.bundle", tmp_path / "out")):
        done = edgewright(*arguments)
        assert done.returncode == 2
        assert done.stdout == ""
        assert len(done.stderr.splitlines()) == 1
        assert "\x1b" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_unpack_then_verify_the_folder(sample_archive: Path, tmp_path: Path) -> None:
    assert edgewright("unpack", sample_archive, tmp_path / "out").returncode == 0
    assert edgewright("verify", tmp_path / "out").returncode == 0
    again = edgewright("unpack", sample_archive, tmp_path / "out")
    assert again.returncode == 2
    assert "exists already" in again.stderr


def test_a_disk_that_does_not_work_is_exit_5(sample_archive: Path, tmp_path: Path) -> None:
    done = edgewright("unpack", sample_archive, tmp_path / "missing" / "out")
    assert done.returncode == 5
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("command", ["inspect", "verify", "unpack"])
def test_help_has_examples(command: str) -> None:
    done = CliRunner().invoke(bundle, [command, "--help"])
    assert f"edgewright bundle {command} " in done.output
    assert "Examples:" in done.output


@pytest.mark.parametrize("command", ["verify", "inspect"])
def test_an_error_names_the_file(command: str, tmp_path: Path) -> None:
    path = tmp_path / "noise.bundle"
    path.write_bytes(b"noise" * 1000)
    result = CliRunner().invoke(bundle, [command, str(path)])
    assert str(result.exception).startswith(f"{path}: ")


def test_verify_refuses_steps_that_lead_nowhere(tmp_path: Path) -> None:
    fields = {name: getattr(processed_manifest(), name) for name in msgspec.structs.asdict(processed_manifest())}
    write_sample(tmp_path / "b", **(fields | {"preprocess": (Reshape(tensor="x", shape=(5,)),)}))
    done = edgewright("verify", tmp_path / "b")
    assert done.returncode == 2
    assert "preprocess, step 1 (reshape)" in done.stderr


def test_inspect_shows_steps_and_state(tmp_path: Path) -> None:
    fields = {name: getattr(processed_manifest(), name) for name in msgspec.structs.asdict(processed_manifest())}
    write_sample(tmp_path / "b", **fields)
    done = edgewright("inspect", tmp_path / "b")
    assert done.returncode == 0, done.stderr
    for words in ("normalise: tensor x, mean 0.5, std 0.25", "softmax: tensor scores", "h_out → h_in", "model input"):
        assert words in done.stdout
