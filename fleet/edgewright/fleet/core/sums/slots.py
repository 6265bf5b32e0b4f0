"""Running totals by bundle and time, kept exact by adding what each record changes. Pure.

A record that replaces another one of its key adds the *difference* of the two to one slot, so a total is at all times
the sum over the newest record of each key, whatever the order and however often records come (windows.py).

A slot is a window; older slots are whole hours. Which of the two a record belongs to depends on its window and on the
moment up to which the store has joined windows into hours, so each slot is the exact sum of its own records.

`cohort` is empty for the sum over the whole fleet. A wave of a rollout has one of its own: the windows of its devices
that end after their orders.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

import msgspec

from edgewright.bundle.reference import Reference
from edgewright.runtime.telemetry.records import WindowRecord

from .windows import Totals, difference, sum_of

HOUR_S = 3600
FLEET = ""
"""The cohort that every window belongs to."""


class SlotKey(NamedTuple):
    """Where a sum belongs."""

    cohort: str
    bundle: str
    start_s: int
    length_s: int
    shape: str
    """Of the histograms; sums of other shapes cannot be added."""


class Slot(msgspec.Struct, frozen=True, kw_only=True):
    """One sum."""

    key: SlotKey
    totals: Totals


class Reporting(msgspec.Struct, frozen=True, kw_only=True):
    """A device that reported traffic on a bundle, and when its last window ends."""

    device: str
    bundle: str
    ends_s: float


def cohort_of(rollout: str, wave: int) -> str:
    """Return the name of a wave's cohort."""
    return f"{rollout}/{wave}"


def control_cohort_of(rollout: str, wave: int) -> str:
    """Return the name of the cohort of the devices that were drawn into a wave and keep the old release."""
    return f"{rollout}/{wave}/control"


def cohort_of_arm(rollout: str, wave: int, *, is_control: bool) -> str:
    """Return the name of the cohort of one arm of a wave."""
    return control_cohort_of(rollout, wave) if is_control else cohort_of(rollout, wave)


SITE = "site:"
"""Begins the names of the cohorts of sites; ids of rollouts do not begin so."""


def cohort_of_site(site: str) -> str:
    """Return the name of the cohort of the devices of a site."""
    return f"{SITE}{site}"


def slot_of(record: WindowRecord, *, joined_before_s: int) -> tuple[int, int]:
    """Return start and length of the slot that a record belongs to."""
    if record.window_start_s < joined_before_s:
        return hour_of(record.window_start_s)
    return record.window_start_s, record.window_s


def hour_of(start_s: int) -> tuple[int, int]:
    """Return start and length of the hour in which a window begins."""
    return start_s // HOUR_S * HOUR_S, HOUR_S


def shape_of(histograms: Sequence[Sequence[object]]) -> str:
    """Return a short name of the sizes of some histograms."""
    return _shape(tuple(len(one) for one in histograms))


def shape_of_reference(reference: Reference) -> str:
    """Return the shape of records that follow a reference."""
    return _shape(tuple(len(one.counts) for one in reference.histograms))


@lru_cache(maxsize=1024)
def _shape(sizes: tuple[int, ...]) -> str:
    return hashlib.sha256(repr(sizes).encode()).hexdigest()[:16]


class Changes:
    """What a batch of records changes, by slot."""

    def __init__(self) -> None:
        self._added: dict[SlotKey, list[Totals]] = {}
        self._removed: dict[SlotKey, list[Totals]] = {}

    def add(self, key: SlotKey, totals: Totals) -> None:
        """Note that a slot grows."""
        self._added.setdefault(key, []).append(totals)

    def remove(self, key: SlotKey, totals: Totals) -> None:
        """Note that a slot loses a record that is replaced or moves to another slot."""
        self._removed.setdefault(key, []).append(totals)

    def keys(self) -> list[SlotKey]:
        """Return the slots that change."""
        return sorted({*self._added, *self._removed})

    def after(self, before: Mapping[SlotKey, Totals]) -> dict[SlotKey, Totals]:
        """Return the new sums of the slots that change."""
        return {
            key: difference(
                sum_of([*([before[key]] if key in before else []), *self._added.get(key, [])]),
                sum_of(self._removed.get(key, [])),
            )
            for key in self.keys()
        }


def into_hours(slots: Iterable[Slot]) -> Changes:
    """Return what whole hours gain when these slots become parts of them."""
    changes = Changes()
    for slot in slots:
        start_s, length_s = hour_of(slot.key.start_s)
        changes.add(slot.key._replace(start_s=start_s, length_s=length_s), slot.totals)
    return changes
