"""What can happen to the update of a model; update.py says what follows."""

from __future__ import annotations

import msgspec

from .model_state import Order, Slot


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """Something happened. `at_s` (wall clock) and `boot` go into the report."""

    at_s: float
    boot: str


class Ordered(Event, frozen=True, kw_only=True):
    """The fleet or a person wants a bundle to run."""

    order: Order


class Booted(Event, frozen=True, kw_only=True):
    """The agent started, and found this state."""


class Stopped(Event, frozen=True, kw_only=True):
    """The agent ends because it was told to: what it leaves undone is nobody's failure."""


class Fetched(Event, frozen=True, kw_only=True):
    """The archive is here, its digest is right, and this device may run it."""


class Unpacked(Event, frozen=True, kw_only=True):
    """The bundle is verified and durable in the spare slot."""

    slot: Slot


class Rejected(Event, frozen=True, kw_only=True):
    """This device must not run this bundle."""

    reason: str


class Broken(Event, frozen=True, kw_only=True):
    """Fetching or installing did not work."""

    reason: str


class TrialPassed(Event, frozen=True, kw_only=True):
    """The bundle gave its golden outputs in a process of its own."""


class TrialFailed(Event, frozen=True, kw_only=True):
    """It did not."""

    reason: str


class Loaded(Event, frozen=True, kw_only=True):
    """The server answers for the active bundle."""


class LoadFailed(Event, frozen=True, kw_only=True):
    """The server could not load the active bundle."""

    reason: str


class Crashed(Event, frozen=True, kw_only=True):
    """The server died or hung while the active bundle was loaded."""

    reason: str


class CrashLooped(Event, frozen=True, kw_only=True):
    """The server keeps dying, and this model is the suspect."""

    reason: str


class ProbationOver(Event, frozen=True, kw_only=True):
    """The bundle has served for as long as it had to."""


class Withdrawn(Event, frozen=True, kw_only=True):
    """The order was taken back: by a newer one, or by a person."""

    reason: str
