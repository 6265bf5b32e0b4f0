"""The trial process: it hangs, dies, eats memory, writes without end, or its agent is killed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edgewright.runtime.agent.workshop import free_memory_bytes

PLENTY = str(2**40)


def tethered(directory: Path, code: str, *, memory_bytes: str = PLENTY, parent: int | None = None) -> list[str]:
    (directory / "candidate.py").write_text(code)
    tether = [sys.executable, "-m", "edgewright.runtime.agent.tether", str(parent or os.getpid()), memory_bytes]
    return [*tether, "candidate", "argument"]


def run(command: list[str], directory: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=30, check=False)


def test_module_runs_with_its_arguments(tmp_path: Path) -> None:
    done = run(tethered(tmp_path, "import sys; print(sys.argv[1:], __name__)"), tmp_path)
    assert done.stdout.strip() == "['argument'] __main__"


def test_process_of_a_parent_that_is_gone_does_not_begin(tmp_path: Path) -> None:
    done = run(tethered(tmp_path, "print('began')", parent=1), tmp_path)
    assert (done.returncode, done.stdout) == (1, "")


def is_running(process: Path) -> bool:
    try:
        return ") Z" not in (process / "stat").read_text()
    except OSError:  # it ended before the file was opened, or before it was read
        return False


def test_killed_parent_takes_the_process_along(tmp_path: Path) -> None:
    command = tethered(tmp_path, "import os,time; open('pid','w').write(str(os.getpid())); time.sleep(600)")
    code = f"import os,subprocess; c={command!r}; c[3]=str(os.getpid()); subprocess.run(c)"
    parent = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path)
    until_s = time.monotonic() + 60
    while not ((tmp_path / "pid").exists() and (tmp_path / "pid").read_text()):
        assert time.monotonic() < until_s
        time.sleep(0.02)
    child = Path("/proc") / (tmp_path / "pid").read_text()
    assert child.exists()
    parent.kill()
    parent.wait()
    while is_running(child):
        assert time.monotonic() < until_s, "the process outlives its parent"
        time.sleep(0.02)


def test_memory_hog_ends_itself_and_nobody_else(tmp_path: Path) -> None:
    done = run(tethered(tmp_path, "x = bytearray(2**30)", memory_bytes=str(256 * 2**20)), tmp_path)
    assert done.returncode == 1
    assert "MemoryError" in done.stderr


def test_process_dies_first_when_memory_runs_out_and_cannot_fill_the_disk(tmp_path: Path) -> None:
    code = (
        "print(open('/proc/self/oom_score_adj').read().strip());"
        "f = open('log', 'wb', buffering=0)\n"
        "try:\n    [f.write(bytes(2**20)) for _ in range(9)]\n"
        "except OSError as error:\n    print(error.strerror, f.tell())"
    )
    done = run(tethered(tmp_path, code), tmp_path)
    assert done.stdout.splitlines() == ["1000", f"File too large {4 * 2**20}"]


@pytest.mark.parametrize(
    ("files", "free"),
    [
        ({}, 2**62),
        ({"proc/meminfo": "MemTotal: 9 kB\nMemAvailable:    1000 kB\n"}, 1_024_000),
        (
            {
                "proc/meminfo": "MemAvailable: 1000000 kB\n",
                "proc/self/cgroup": "0::/a/b\n",
                "sys/fs/cgroup/a/b/memory.max": "max\n",
                "sys/fs/cgroup/a/memory.max": "5000\n",
                "sys/fs/cgroup/a/memory.current": "4000\n",
                "sys/fs/cgroup/a/memory.stat": "anon 1\ninactive_file 300\n",
            },
            1300,
        ),
        ({"proc/meminfo": "MemAvailable: 8 kB\n", "sys/fs/cgroup/memory.max": "junk"}, 8192),
    ],
)
def test_free_memory_is_what_the_kernel_and_the_groups_leave(tmp_path: Path, files: dict[str, str], free: int) -> None:
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    assert free_memory_bytes(tmp_path) == free
