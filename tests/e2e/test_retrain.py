"""The retraining loop: drift, alert, program, release, a person's yes, rollout, drift gone; nothing is left behind."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from tests.e2e.test_demo import MARK, marked
from tests.layering import ROOT


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_drift_is_answered_by_a_release_that_a_person_approves(tmp_path: Path) -> None:
    mark = uuid.uuid4().hex
    process = subprocess.Popen(
        [sys.executable, "-m", "examples.retrain"],
        cwd=ROOT,
        env={**os.environ, MARK: mark, "TMPDIR": str(tmp_path), "OMP_WAIT_POLICY": "PASSIVE"},  # no spinning
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        output, _ = process.communicate(timeout=840)
    finally:
        process.terminate()  # one that is late takes its servers and devices along
        process.wait(timeout=60)
    assert process.returncode == 0, output
    for line in (
        "half a minute of healthy traffic: no alert",
        "alert: digits, board host",
        "waits for a person's yes",
        "the alert is over, by itself",
        "The loop is closed",
    ):
        assert line in output, output
    assert marked(mark) == []
    assert list(tmp_path.iterdir()) == []
