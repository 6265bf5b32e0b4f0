"""The demo ends well, and Ctrl-C at any point leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest

from examples.demo.processes import wait_until
from tests.layering import ROOT

MARK = "EDGEWRIGHT_DEMO_TEST"


def start_demo(folder: Path, mark: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "examples.demo"],
        cwd=ROOT,
        env={**os.environ, MARK: mark, "TMPDIR": str(folder), "OMP_WAIT_POLICY": "PASSIVE"},  # no spinning
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def marked(mark: str) -> list[str]:
    """Return the command lines of all processes that descend from a demo, whatever session they are in."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if f"{MARK}={mark}".encode() in (process / "environ").read_bytes():
                found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            continue
    return found


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_demo_ends_with_its_summary(tmp_path: Path) -> None:
    mark = uuid.uuid4().hex
    process = start_demo(tmp_path, mark)
    output, _ = process.communicate(timeout=840)
    assert process.returncode == 0, output
    for line in (
        "compiled host.bundle",
        "rolled back by itself",
        "input drift",
        "acknowledged ≤ counted ≤ attempted",
        "took",
    ):
        assert line in output, output
    assert marked(mark) == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("step", ["1. Train", "2. Start", "3. Roll out"])
def test_ctrl_c_leaves_nothing_behind(tmp_path: Path, step: str) -> None:
    mark = uuid.uuid4().hex
    process = start_demo(tmp_path, mark)
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(step):
            break
    time.sleep(3)
    assert marked(mark) != []
    os.killpg(process.pid, signal.SIGINT)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 130, output
    wait_until(lambda: marked(mark) == [], timeout_s=60, what=f"no process to be left: {marked(mark)}")
    assert list(tmp_path.iterdir()) == []
