"""What an update wants done, after its new state is on disk. Every effect can be repeated."""

from __future__ import annotations

import msgspec

from .model_state import Order, SlotName


class Effect(msgspec.Struct, frozen=True, kw_only=True):
    """Something to do after the new state is on disk."""


class Fetch(Effect, frozen=True, kw_only=True):
    """Bring the order's archive here, going on where an earlier try stopped, and see whether it may run here."""

    order: Order


class Unpack(Effect, frozen=True, kw_only=True):
    """Empty the slot, and unpack the order's archive into it."""

    order: Order
    slot: SlotName


class Try(Effect, frozen=True, kw_only=True):
    """Run the golden test of the slot's bundle in a trial process."""

    slot: SlotName


class Load(Effect, frozen=True, kw_only=True):
    """Have the server load the active slot."""

    slot: SlotName


class Unload(Effect, frozen=True, kw_only=True):
    """Have the server stop serving the model."""


class WatchProbation(Effect, frozen=True, kw_only=True):
    """Come back with ProbationOver after so long."""

    after_s: float


class StopProbation(Effect, frozen=True, kw_only=True):
    """Forget the clock: a bundle that does not serve is not on probation. Loaded starts it anew."""


class Discard(Effect, frozen=True, kw_only=True):
    """Remove the order's download."""

    bundle: str
