"""Does a server that owes an answer still live? Told from what the kernel says: slow is not taken for dead.

| unanswered for | what /proc says                                          | verdict                        |
|----------------|----------------------------------------------------------|--------------------------------|
| >= 0.4 s       | T: stopped, or Z: dead                                   | dead: `stopped`                |
| >= 1 s         | sleeps, and for 0.75 s no thread got a tick of CPU       | dead: `stuck`                  |
| >= deadline    | anything                                                 | dead: `busy`                   |
| otherwise      | runnable, waits for a disk, CPU time grows, or unknown   | lives                          |

Pure, except `read_signs`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

STOPPED_S = 0.4
STUCK_S = 1.0
SAMPLE_S = 0.25
"""How often a server that owes an answer is looked at."""
REST_S = 0.75
"""Samples that are closer say nothing: a tick of CPU time is 10 ms, and a board may run 50 processes."""

Verdict = Literal["stopped", "stuck", "busy"]


@dataclass(frozen=True, slots=True)
class Signs:
    """One look at a process."""

    at_s: float
    state: str
    """The letter of /proc/PID/stat; empty where that cannot be read."""
    cpu_ticks: int
    """User and system time of all its threads."""


def judge(
    unanswered_s: float, before: Signs | None, now: Signs, deadline_s: float, *, stuck_s: float = STUCK_S
) -> Verdict | None:
    """Return why the process counts as dead, or None where it may live. `before` was taken while it owed the answer."""
    if unanswered_s >= deadline_s:
        return "busy"
    if now.state in {"T", "Z", "X"} and unanswered_s >= STOPPED_S:
        return "stopped"
    rested = before is not None and now.at_s - before.at_s >= REST_S and before.cpu_ticks == now.cpu_ticks
    sleeps = now.state == "S" and before is not None and before.state == "S"
    return "stuck" if rested and sleeps and unanswered_s >= stuck_s else None


def read_signs(pid: int, now_s: float, proc: Path = Path("/proc")) -> Signs:
    """Look at a process now."""
    try:
        text = (proc / str(pid) / "stat").read_text(encoding="ascii", errors="replace")
        fields = text[text.rindex(")") + 2 :].split()  # the name before it may hold anything
        return Signs(now_s, fields[0], int(fields[11]) + int(fields[12]))
    except (OSError, ValueError, IndexError):
        return Signs(now_s, "", 0)
