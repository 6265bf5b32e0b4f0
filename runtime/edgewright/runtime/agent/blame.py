"""Which bundle made the server crash, and what follows for it. Pure: time and memories go in, memories come out.

| state     | what happened                                       | becomes                                           |
|-----------|-----------------------------------------------------|---------------------------------------------------|
| any       | the server crashed while it was executed or loaded  | open, for a pause that doubles                    |
| any       | that, and 3 strikes within 10 minutes               | out: back to the last known good slot, or none    |
| open      | the pause is over                                   | half_open: loaded once more, to try               |
| half_open | it served for 60 s                                  | closed                                            |
| out       | a person installs it again                          | closed (forgotten)                                |

Where several bundles were executed at that moment each gets its share of the strike: none goes back for a crash that
another one caused, unless it is there each time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec
from msgspec.structs import replace

STRIKES = 3.0
WINDOW_S = 600.0
STEADY_S = 60.0
MAX_REMEMBERED = 64

State = Literal["closed", "open", "half_open", "out"]


class Strike(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A crash, and how much of it is this bundle's."""

    at_s: float
    share: float


class Memory(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is remembered of one bundle. Times are of the wall clock, since they outlive a boot."""

    model: str
    version: str
    bundle: str
    state: State = "closed"
    strikes: tuple[Strike, ...] = ()
    pauses: int = 0
    """Pauses in a row; each is twice the one before."""
    until_s: float = 0.0
    """When an open one is tried again."""
    since_s: float = 0.0
    crashes: int = 0
    reason: str = ""


def struck(memory: Memory, now_s: float, share: float, reason: str, *, first_s: float, longest_s: float) -> Memory:
    """Note a crash that a bundle has a share of; `first_s` and `longest_s` bound its pause."""
    strikes = (*_recent(memory, now_s), Strike(at_s=now_s, share=share))
    weight = sum(strike.share for strike in strikes)
    out = weight >= STRIKES - 1e-9
    pause_s = min(longest_s, first_s * 2.0 ** min(memory.pauses, 30))
    return replace(
        memory,
        state="out" if out else "open",
        strikes=strikes[-32:],
        pauses=memory.pauses + 1,
        until_s=now_s + pause_s,
        since_s=now_s,
        crashes=memory.crashes + 1,
        reason=_out_reason(len(strikes), reason) if out else reason,
    )


def pause_left_s(memory: Memory | None, now_s: float, *, longest_s: float) -> float | None:
    """Return how long a bundle must wait to be loaded: 0 now, None for ever. Clocks that jump cost little."""
    if memory is None or memory.state in ("closed", "half_open"):
        return 0.0
    if memory.state == "out":
        return None
    return max(0.0, min(memory.until_s - now_s, longest_s))


def tried(memory: Memory, now_s: float) -> Memory:
    """It is loaded again."""
    return replace(memory, state="half_open", since_s=now_s) if memory.state == "open" else memory


def steady(memory: Memory, now_s: float) -> Memory:
    """Note that it serves; for long enough, and it is trusted again."""
    if memory.state != "half_open" or 0 <= now_s - memory.since_s < STEADY_S:
        return memory
    return replace(memory, state="closed", pauses=0, since_s=now_s, strikes=_recent(memory, now_s))


def keep(memories: Sequence[Memory]) -> tuple[Memory, ...]:
    """Return those worth remembering, newest last: a bounded number."""
    return tuple(sorted(memories, key=lambda memory: memory.since_s)[-MAX_REMEMBERED:])


def suspects(
    executing: Sequence[tuple[str, str]], loading: tuple[str, str] | None, exit_reason: str, hung: str | None
) -> tuple[tuple[str, str], ...]:
    """Return the (model, version) that may have caused the end of a server; none where it came from outside.

    `hung` is the verdict for a server that we killed: a stopped one was stopped by somebody else. SIGKILL that is not
    ours is the kernel's that needs memory, or a person's. Exit code 1 is Python's for a bug of the server itself.
    """
    if hung == "stopped" or (hung is None and exit_reason in _NO_MODELS):
        return ()
    found = dict.fromkeys(executing)
    if loading is not None:
        found[loading] = None
    return tuple(found)


_NO_MODELS = frozenset({"killed by SIGKILL", "killed by SIGTERM", "killed by SIGINT", "exit code 0", "exit code 1"})


def is_workers_own_fault(reason: str) -> bool:
    """Whether the end of a worker process, as the server tells it, may be its model's doing."""
    return not any(end in reason for end in _FROM_OUTSIDE)


_FROM_OUTSIDE = ("killed by SIGKILL", "killed by SIGTERM", "killed by SIGINT", "it is stopped (SIGSTOP)")


def _recent(memory: Memory, now_s: float) -> tuple[Strike, ...]:
    return tuple(strike for strike in memory.strikes if abs(now_s - strike.at_s) < WINDOW_S)


def _out_reason(strikes: int, last: str) -> str:
    return f"the process that runs it crashed {strikes} times within {WINDOW_S / 60:g} min; last: {last}"
