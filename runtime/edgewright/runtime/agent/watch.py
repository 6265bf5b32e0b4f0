"""What the supervisor of the server is told at its start: how to watch it, and who hears of what happens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..control import BreakerMoved
from .vital_signs import Signs


@dataclass(frozen=True, slots=True, kw_only=True)
class Crash:
    """The end of a server that nobody had ordered."""

    reason: str
    verdict: str | None
    """Why we killed it (see `vital_signs`); None where we did not."""
    loading: tuple[str, str] | None
    """Model and version that it was loading."""
    black_box: Path | None


@dataclass(frozen=True, kw_only=True)
class Watch:
    """How the server is watched, and who hears of it."""

    ping_interval_s: float
    ping_deadline_s: float
    clock: Callable[[], float]
    look: Callable[[int, float], Signs]
    """What the kernel says of a process, at a time."""
    overdue: Callable[[Path | None], str | None]
    """Why a server that answers must be killed nevertheless: an execution that hangs."""
    on_ready: Callable[[], None]
    """The server accepts requests: time to load the models."""
    on_serving: Callable[[], None]
    """What was asked to be loaded is loaded, or has failed."""
    on_alive: Callable[[], None]
    """The server answered a ping."""
    on_breaker: Callable[[BreakerMoved], None]
    on_crash: Callable[[Crash], bool]
    """Returns whether a model is to blame: then the server itself is started again at once."""
    on_crash_loop: Callable[[str], None]
    on_left: Callable[[], None]
    """A server that was replaced is gone."""
