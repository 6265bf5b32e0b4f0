"""Recent traffic of each bundle beside its drift reference."""

from __future__ import annotations

import msgspec
from sqlalchemy import Connection

from edgewright.bundle.reference import Reference

from .core.sums.slots import shape_of_reference
from .core.sums.windows import Totals, sum_of
from .references import reference_of
from .store import releases, totals, windows

AHEAD_S = 300.0
"""Windows that begin later than this from now come from a clock that is wrong, and speak for no time that we know."""


class Traffic(msgspec.Struct, frozen=True, kw_only=True):
    """The sum over all devices."""

    bundle: releases.StoredBundle
    reference: Reference
    live: Totals


def traffic_of(connection: Connection, *, now_s: float, span_s: float, model: str | None = None) -> list[Traffic]:
    """Return the traffic of windows that began in the last `span_s` seconds; bundles without any are left out.

    Older parts of a long span are whole hours: the one that the span begins in is left out.
    """
    bundles = [one for one in releases.every_bundle(connection) if model in (None, one.model)]
    digests, since_s = [one.digest for one in bundles], now_s - span_s
    slots = totals.slots_of(connection, digests, since_s=since_s, until_s=now_s + AHEAD_S)
    devices: dict[str, set[str]] = {}
    for each in windows.reporting(connection, digests, since_s=since_s):
        devices.setdefault(each.bundle, set()).add(each.device)
    found = []
    for bundle in bundles:
        reference = reference_of(bundle)
        shape = shape_of_reference(reference)
        live = sum_of(slot.totals for slot in slots if slot.key.bundle == bundle.digest and slot.key.shape == shape)
        if live.windows:
            live = msgspec.structs.replace(live, devices=len(devices.get(bundle.digest, ())))
            found.append(Traffic(bundle=bundle, reference=reference, live=live))
    return found
