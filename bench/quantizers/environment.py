"""Python environments that the bench makes for its peers, and scripts that run in them with a job of JSON."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import venv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

SCRIPTS = Path(__file__).resolve().parent / "scripts"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edgewright-bench/quantize"

PINS = (
    "nncf==3.4.0",
    "numpy==2.4.6",
    "onnx==1.23.2",
    "onnxruntime==1.31.1",
    "openvino==2026.4.1",
    "pillow==13.0.0",
)
EMULATOR = "qemu-x86_64"
SATURATING_CPU = "Haswell"
"""AVX2 without VNNI: a sum of two products of u8 and s8 saturates at 16 bits there."""
TIMEOUT_S = 3600.0


class ScriptFailed(Exception):
    """A script of the bench ended with an error; the message holds the end of what it wrote."""


def digest(*parts: bytes | str) -> str:
    """Names what was made from these parts."""
    hasher = hashlib.sha256()
    for part in parts:
        content = part.encode() if isinstance(part, str) else part
        hasher.update(len(content).to_bytes(8, "little") + content)
    return hasher.hexdigest()[:32]


def peers_python(pins: Sequence[str] = PINS) -> Path:
    """The interpreter of an environment with these packages, which is made on first use (about 1 GB)."""
    folder = CACHE / f"environment-{digest(*pins)[:12]}"
    python = folder / "bin/python"
    if (folder / "complete").exists():
        return python
    print(f"making {folder} with {', '.join(pins)}", file=sys.stderr)
    shutil.rmtree(folder, ignore_errors=True)
    venv.create(folder, with_pip=True)
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *pins], check=True)
    (folder / "complete").touch()
    return python


def own_python() -> Path:
    """The interpreter of the project."""
    return Path(sys.executable)


def has_emulator() -> bool:
    """Whether an x86 CPU without VNNI can be emulated here."""
    return shutil.which(EMULATOR) is not None


def run_script(name: str, job: dict[str, Any], python: Path, scripts: Path = SCRIPTS) -> dict[str, Any]:
    """Runs `<scripts>/<name>.py` with a job, and returns what it wrote to the job's `result`.

    Raises:
        ScriptFailed: it ended with an error.
    """
    return _run([str(python)], name, job, scripts)


def run_emulated(name: str, job: dict[str, Any]) -> dict[str, Any]:
    """The same on a CPU whose u8*s8 sums saturate; slow, and its timings mean nothing."""
    interpreter = str(own_python().resolve())
    site = [path for path in sys.path if path.endswith("site-packages")]
    return _run([EMULATOR, "-cpu", SATURATING_CPU, interpreter], name, {**job, "site_packages": site})


def _run(command: Sequence[str], name: str, job: dict[str, Any], scripts: Path = SCRIPTS) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.json"
        file = Path(folder) / "job.json"
        file.write_text(json.dumps({**job, "result": str(result)}), encoding="utf-8")
        try:
            done = subprocess.run(
                [*command, str(scripts / f"{name}.py"), str(file)],
                capture_output=True,
                text=True,
                env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
                timeout=TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise ScriptFailed(f"{name}: not done after {TIMEOUT_S:.0f} s") from error
        if done.returncode != 0 or not result.exists():
            raise ScriptFailed(f"{name}: exit {done.returncode}\n{done.stderr[-2000:]}")
        content: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
        return content
