"""Dead or only slow: the rule, and the real kernel's answers for processes that are stopped, stuck and busy."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewright.runtime.agent.vital_signs import Signs, Verdict, judge, read_signs

BEFORE = Signs(0.25, "S", 100)


@pytest.mark.parametrize(
    ("unanswered_s", "before", "now", "verdict"),
    [
        (0.5, None, Signs(0.5, "T", 100), "stopped"),
        (0.5, None, Signs(0.5, "Z", 100), "stopped"),
        (0.3, None, Signs(0.3, "T", 100), None),
        (0.5, None, Signs(0.5, "S", 100), None),
        (1.0, BEFORE, Signs(1.0, "S", 100), "stuck"),
        (1.0, None, Signs(1.0, "S", 100), None),
        (1.0, BEFORE, Signs(0.9, "S", 100), None),
        (1.0, BEFORE, Signs(1.0, "S", 101), None),
        (9.0, BEFORE, Signs(9.0, "R", 100), None),
        (9.0, BEFORE, Signs(9.0, "D", 100), None),
        (9.0, Signs(0.5, "R", 100), Signs(9.0, "S", 100), None),
        (9.0, BEFORE, Signs(9.0, "t", 100), None),
        (9.0, BEFORE, Signs(9.0, "", 0), None),
        (30.0, BEFORE, Signs(30.0, "R", 900), "busy"),
    ],
)
def test_rule(unanswered_s: float, before: Signs | None, now: Signs, verdict: Verdict | None) -> None:
    assert judge(unanswered_s, before, now, 30.0) == verdict


@given(
    unanswered_s=st.floats(0, 29.9),
    states=st.tuples(st.sampled_from("RSDItTZX"), st.sampled_from("RSDIt")),
    ticks=st.tuples(st.integers(0, 100), st.integers(0, 100)),
    apart_s=st.floats(0, 10),
)
def test_whoever_computes_or_waits_for_a_disk_is_never_dead_before_the_deadline(
    unanswered_s: float, states: tuple[str, str], ticks: tuple[int, int], apart_s: float
) -> None:
    before, now = Signs(0.0, states[0], ticks[0]), Signs(apart_s, states[1], ticks[1])
    verdict = judge(unanswered_s, before, now, 30.0)
    assert verdict in (None, "stuck")
    if verdict == "stuck":
        assert ticks[0] == ticks[1]
        assert states[1] == "S"


def test_kernel_tells_stopped_from_sleeping_from_busy() -> None:
    sleeping = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        until_s = time.monotonic() + 60
        first = read_signs(busy.pid, 0.0)
        while read_signs(busy.pid, 0.0).cpu_ticks < first.cpu_ticks + 2 or read_signs(sleeping.pid, 0.0).state != "S":
            assert time.monotonic() < until_s
            time.sleep(0.02)
        os.kill(sleeping.pid, signal.SIGSTOP)
        while read_signs(sleeping.pid, 0.0).state != "T":
            assert time.monotonic() < until_s
    finally:
        for process in (sleeping, busy):
            process.kill()
            process.wait()


def test_process_that_is_gone_or_has_a_strange_name_is_read(tmp_path: Path) -> None:
    assert read_signs(2**22 + 1, 3.0) == Signs(3.0, "", 0)
    (tmp_path / "7").mkdir()
    (tmp_path / "7/stat").write_text("7 (a) b) (c) T 1 1 1 0 -1 4194304 1 0 0 0 30 12 0 0 20 0 1 0 5 0 0\n")
    assert read_signs(7, 1.0, tmp_path) == Signs(1.0, "T", 42)
    (tmp_path / "7/stat").write_text("nonsense")
    assert read_signs(7, 1.0, tmp_path).state == ""
