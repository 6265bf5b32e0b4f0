"""Runs a module that may do no harm: it dies with the agent, and it dies first when memory runs out.

python -m edgewright.runtime.agent.tether PARENT_PID MEMORY_BYTES MODULE ARGUMENTS…
"""

from __future__ import annotations

import ctypes
import os
import resource
import runpy
import signal
import sys
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_LOG_BYTES = 4 * 1024 * 1024
"""The largest file that the module may write: its log, which is the agent's to keep short."""


def main() -> None:
    """Tie this process to its parent, then become the module."""
    parent, memory_bytes = int(sys.argv[1]), int(sys.argv[2])
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(1)  # the parent died before the tether was tied
    _limit(memory_bytes)
    sys.argv = sys.argv[3:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


def _limit(memory_bytes: int) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (_LOG_BYTES, _LOG_BYTES))
    # Private memory only: what is mapped from files costs nothing that the kernel cannot take back.
    resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes, memory_bytes))
    try:
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    except OSError:  # a kernel without the file: then the limit above has to do
        return


if __name__ == "__main__":
    main()
