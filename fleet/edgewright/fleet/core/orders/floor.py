"""The security floor on the way forward: no device is ordered to a bundle below it, or below what the device runs."""

from __future__ import annotations

import math

from ..gates.status import GateStatus
from ..rows import ReleaseBundle, Rollout


def floor_gates(rollout: Rollout) -> tuple[GateStatus, ...]:
    """Return one status for each board whose bundle lies below the floor, where that was raised since the start.

    `CANCEL`: no more orders, and those that no device has heard are taken back. Who has the bundle keeps it: whether
    the way back is any safer is for a person to say. A board that is halted already stays so (gates/verdict.py).
    """
    return tuple(
        GateStatus(
            gate="floor",
            target=bundle.target,
            outcome="fail",
            action="CANCEL",
            reason=(
                f"the bundle for {bundle.target} has security epoch {bundle.security_epoch}, below the floor "
                f"{rollout.security_floor}, which was raised since"
            ),
            numbers={"security_epoch": bundle.security_epoch, "security_floor": rollout.security_floor},
        )
        for bundle in rollout.bundles
        if epoch_of(bundle) < rollout.security_floor
    )


def epoch_of(bundle: ReleaseBundle) -> float:
    """Return a bundle's security epoch; infinity where the rollout was made before epochs were kept."""
    return math.inf if bundle.security_epoch is None else bundle.security_epoch
