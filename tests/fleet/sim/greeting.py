"""What a device says first, where a test has no virtual device that says it."""

from __future__ import annotations

from edgewright.fleet.sim.starting import BOARDS
from edgewright.runtime.telemetry.wire import Hello, ModelState


def hello(*models: ModelState) -> Hello:
    """Return the greeting of a device of the first board that runs these models."""
    return Hello(
        software="",
        target=BOARDS[0],
        target_digest="",
        emulated=True,
        isa=(),
        boot="b",
        spool="s",
        spool_next_seq=1,
        desired_epoch=0,
        models=models,
    )
