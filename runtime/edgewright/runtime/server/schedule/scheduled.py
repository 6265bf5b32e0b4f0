"""What the two shells share: telling jobs how they ended."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from ..pipeline import Job
from ..refusal import Refusal
from .core import Core
from .execution import Deliver, Ended, Execution
from .queue import Waiting

_log = logging.getLogger(__name__)


def nobody(jobs: Sequence[Job], executions: Sequence[Execution]) -> None:
    """Nobody counts how jobs ended."""
    del jobs, executions


def answer(batch: Sequence[Waiting], executions: Sequence[Execution], ended: Ended) -> None:
    """Tell how a batch ended, then deliver it. Whoever cannot take an outcome takes none from the others."""
    try:
        ended([waiting.job for waiting in batch], executions)
    except Exception as error:  # noqa: BLE001 - a fault of ours: even then each of them is answered
        _log.exception("a batch could not be counted")
        executions = [Execution(None, error) for _ in batch]  # no answer is given that is not counted
    for waiting, execution in zip(batch, executions, strict=True):
        tell(waiting.deliver, execution)


def tell(deliver: Deliver, execution: Execution) -> None:
    """Deliver one outcome; that somebody cannot take it is a protocol's matter, and only of this one request."""
    try:
        deliver(execution)
    except Exception:  # noqa: BLE001 - see above
        _log.exception("an outcome could not be delivered")


def dismiss(dead: Sequence[Waiting], core: Core, now_ns: int) -> None:
    """Count jobs that are not run, and say so to who may still listen."""
    for waiting in dead:
        waited_ns = now_ns - waiting.submitted_ns
        if waiting.job.cancelled:
            core.cancelled += 1
            refusal = Refusal(499, "the client is gone")
        else:
            core.expired += 1
            refusal = Refusal(504, f"not done in time; it had waited {waited_ns / 1e6:.1f} ms")
        tell(waiting.deliver, Execution(None, None, refusal, waited_ns))
