"""All that a decision may look at, in one place: rows of the store, the clock, and what was observed."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from .gates.evidence import TargetEvidence
from .observations import Block, GateMemory
from .rows import Assignment, Device, ReleaseBundle, Rollout


class GoodRelease(msgspec.Struct, frozen=True, kw_only=True):
    """An earlier release of the model that did well on devices of a target: a way back."""

    version: str
    bundle: ReleaseBundle
    security_epoch: int
    misfit: float | None
    """PSI of the target's present inputs against the reference of this bundle; None where too few were seen."""


class Situation(msgspec.Struct, frozen=True, kw_only=True):
    """What a tick sees. The shell reads it in one snapshot; simulations and tests make it up."""

    rollout: Rollout
    now_s: float
    devices: Sequence[Device]
    """Every enrolled device."""
    assignments: Sequence[Assignment]
    """All of this rollout, in the order of `position`."""
    evidence: Sequence[TargetEvidence] = ()
    memory: GateMemory = GateMemory()
    blocks: Sequence[Block] = ()
    """Blocks from `memory.next_block` on whose observation time is over, in their order, without a gap."""
    good_releases: Sequence[GoodRelease] = ()
    """Newest first."""
    taken_back: frozenset[str] = frozenset()
    """Bundles of the model that another rollout ordered devices back from, and that no later one brought out again."""
    is_stopped: bool = False
    """The whole fleet's emergency stop: no order goes out but those that take devices back."""
