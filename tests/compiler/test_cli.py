"""The command itself: words, exit codes, and what is left behind."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

COMMAND = (sys.executable, "-m", "edgewright.runtime.cli", "compile", "--engine", "onnxruntime")
"""Native code has tests of its own."""


def run(*arguments: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *map(str, arguments)], capture_output=True, text=True, timeout=120, check=False, cwd=cwd
    )


def one_line(result: subprocess.CompletedProcess[str]) -> str:
    assert "Traceback" not in result.stderr
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, result.stderr
    return lines[0]


def test_help_has_examples_and_imports_no_compiler() -> None:
    code = (
        "import sys, click.testing as t; from edgewright.compiler.cli import compile_command as c;"
        "out = t.CliRunner().invoke(c, ['--help']).output;"
        "heavy = {'onnx', 'onnx_ir', 'onnxruntime', 'torch', 'numpy'} & set(sys.modules);"
        "assert 'Examples' in out and 'Exit codes' in out, out; assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_json_is_the_report(model_path: Path, data_path: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = run(
        model_path, "--target", "raspberry-pi-5", "--data", data_path, "--out", out, "--max-drop", "20%", "--json"
    )
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout) == json.loads((out / "report.json").read_text())
    assert result.stderr == ""


@pytest.mark.parametrize("columns", [80, 60])
def test_the_matrix_fits_the_terminal_and_loses_nothing(
    model_path: Path, data_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    result = run(
        model_path, "--target", "raspberry-pi-5", "--data", data_path, "--out", tmp_path / "o", "--max-drop", "9%"
    )
    assert result.returncode in {0, 3}
    assert "int8-s8s8" in result.stdout
    assert "\u2026" not in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= columns


def test_partial_success_is_not_success(model_path: Path, data_path: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ("--target", "raspberry-pi-5", "--target", "ethos-u55-128", "--data", data_path, "--max-drop", "20%")
    result = run(model_path, *arguments, "--out", out)
    assert result.returncode == 5
    assert "ethos-u55-128" in one_line(result)
    assert (out / "raspberry-pi-5.bundle").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--target", "host"), 2, "--data"),
        (("--target", "nowhere"), 2, "nowhere"),
        (("--target", "host", "--scale", "1/0"), 2, "1/255"),
        (("--target", "host", "--max-drop", "lots"), 2, "--max-drop"),
        (("--target", "host", "--metric", "nonsense"), 2, "nonsense"),
        (("--target", "host", "--tune", "-1"), 2, "0<=x<=3600"),
        (("--target", "host", "--tune", "nan"), 2, "not a number of seconds"),
        (("--target", "host", "--engine", "tensorrt"), 2, "'onnxruntime', 'native'"),
        (("--target", "host", "--emit", "rust"), 2, "'c'"),
        (("--target", "host", "--metric", "no.module:f"), 2, "no.module"),
        (("--target", "host", "--measurements", "none.json"), 2, "none.json"),
    ],
)
def test_mistakes_are_told_in_words(
    model_path: Path, data_path: Path, tmp_path: Path, arguments: Sequence[str], code: int, words: str
) -> None:
    data = () if words == "--data" else ("--data", data_path)
    result = run(model_path, *arguments, *data, "--out", tmp_path / "out")
    assert result.returncode == code, result.stderr
    assert words in result.stderr
    assert "Traceback" not in result.stderr


def test_a_model_is_needed_once(data_path: Path, tmp_path: Path) -> None:
    result = run("--target", "host", "--data", data_path, "--out", tmp_path / "out")
    assert result.returncode == 2
    assert "one model" in result.stderr


def test_no_model_file(data_path: Path, tmp_path: Path) -> None:
    result = run(tmp_path / "no.onnx", "--target", "host", "--data", data_path, "--out", tmp_path / "out")
    assert result.returncode == 2
    assert "no.onnx" in one_line(result)


def test_a_folder_that_cannot_be_written_is_the_machine_s_fault(
    model_path: Path, data_path: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    result = run(model_path, "--target", "raspberry-pi-5", "--data", data_path, "--out", tmp_path / "file" / "out")
    assert result.returncode == 5
    assert "--out" in one_line(result)


@pytest.mark.parametrize("limit_bytes", [100, 3000])
def test_a_full_disk_is_one_message_and_no_half_written_file(
    model_path: Path, data_path: Path, tmp_path: Path, limit_bytes: int
) -> None:
    out = tmp_path / "out"
    result = subprocess.run(
        [*COMMAND, model_path, "--target", "raspberry-pi-5", "--data", data_path, "--out", out, "--json"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        # Writing beyond the limit fails as it does on a full disk; it needs no mount.
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes)),
    )
    assert result.returncode == 5, result.stderr
    one_line(result)
    assert sorted(path.name for path in out.glob("*")) in ([], ["measurements.json", "report.json"])
    assert not result.stdout or json.loads(result.stdout)["exit_code"] == 5


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_leaves_nothing(
    model_path: Path, tmp_path: Path, pictures: np.ndarray, number: signal.Signals
) -> None:
    # Many samples, so that the signal falls into the work.
    repeated = np.repeat(pictures, 60, axis=0) + np.arange(12000, dtype=np.float32)[:, None, None, None] * 1e-4
    np.savez(tmp_path / "many.npz", x=repeated)
    out = tmp_path / "out"
    arguments = (*COMMAND, str(model_path), "--target", "host", "--data", str(tmp_path / "many.npz"), "--out", str(out))
    process = subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not any(out.glob(".*")) and time.monotonic() < deadline:
        time.sleep(0.005)
    os.kill(process.pid, number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    assert not out.exists()
