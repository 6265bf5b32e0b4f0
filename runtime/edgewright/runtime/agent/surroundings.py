"""What the updater works with: interfaces, so that stand-ins can take the place of disk, processes and server."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from edgewright.targets.faults import UserFault

from ..telemetry.records import UpdateRecord
from .jobs import Cancelled, JobRunner
from .loop import Scheduler
from .model_state import Order, Slot, SlotName
from .slots import SlotStore


class Refused(UserFault):
    """This device must not run the bundle; the message says why."""


class Workshop(Protocol):
    """The steps that take time. They run on another thread and raise a Fault where they do not succeed."""

    def fetch(self, order: Order, security_floor: int, cancelled: Cancelled) -> None:
        """Bring the order's archive here, and check that this device may run it: a UserFault where not."""

    def unpack(self, order: Order, slot: SlotName, security_floor: int, cancelled: Cancelled) -> Slot:
        """Verify the archive, and unpack it into the slot, whose old content goes."""

    def try_out(self, directory: Path, cancelled: Cancelled) -> None:
        """Run the golden test in a process of its own."""

    def discard(self, bundle: str) -> None:
        """Remove a download, if there is one."""


class Serving(Protocol):
    """The server, as far as updates go."""

    def load(self, model: str, slot: Slot, directory: Path, done: Callable[[str | None], None]) -> None:
        """Load a bundle; `done` gets None or the reason why not. Without a server, nothing: `server_ready` follows."""

    def unload(self, model: str) -> None:
        """Stop serving a model."""


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What the updater works with."""

    loop: Scheduler
    store: SlotStore
    workshop: Workshop
    serving: Serving
    jobs: JobRunner
    report: Callable[[tuple[UpdateRecord, ...]], bool]
    """Put records into the spool; False where that failed and has to be tried again."""
    wall_clock: Callable[[], float]
    boot: str
