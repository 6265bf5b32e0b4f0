"""Exact sums of cumulative window records.

A record replaces an earlier one of the same key, so a set of windows is a join semilattice: merging is associative,
commutative and idempotent, and duplicates, reordering and late arrivals cannot change a sum.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import repeat, zip_longest
from operator import add, sub

import msgspec

from edgewright.runtime.telemetry.records import WindowRecord


class ObservedWindow(msgspec.Struct, frozen=True, kw_only=True):
    """A window record and the device that sent it."""

    device: str
    record: WindowRecord


WindowKey = tuple[str, str, str, str, int, int, str, str]
"""device, model, version, bundle, window start, window length, boot, incarnation."""

Windows = Mapping[WindowKey, ObservedWindow]


MOST = 2**63 - 1
"""Sums end here: what a database and JSON can hold. Only devices that lie get this far."""


class Totals(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """Sums over windows that share one reference."""

    devices: int = 0
    windows: int = 0
    requests: int = 0
    failures: int = 0
    rows: int = 0
    latency_us_sum: int = 0
    latency: tuple[int, ...] = ()
    histograms: tuple[tuple[int, ...], ...] = ()
    crashes: int = 0
    energy_uj_sum: int = 0
    energy_requests: int = 0
    shadow_rows: int = 0
    shadow_disagreements: int = 0
    labelled: tuple[int, ...] = ()
    labelled_correct: tuple[int, ...] = ()


def latest(windows: Iterable[ObservedWindow]) -> dict[WindowKey, ObservedWindow]:
    """Keep for each key the record with the highest seq, whatever the order they come in."""
    kept: dict[WindowKey, ObservedWindow] = {}
    for window in windows:
        key = _key(window)
        present = kept.get(key)
        if present is None or _rank(window.record) > _rank(present.record):
            kept[key] = window
    return kept


def merge(one: Windows, other: Windows) -> dict[WindowKey, ObservedWindow]:
    """Join two sets of windows."""
    return latest((*one.values(), *other.values()))


def total(windows: Windows) -> Totals:
    """Add up windows of one reference.

    A record whose histogram sizes are not those of most records cannot come from that reference and is left out.
    """
    records = _same_shape([window for _, window in sorted(windows.items())])
    if not records:
        return Totals()
    return msgspec.structs.replace(
        sum_of(amounts(window.record) for window in records), devices=len({window.device for window in records})
    )


def amounts(record: WindowRecord) -> Totals:
    """Return what one record adds to a sum."""
    return Totals(
        windows=1,
        requests=record.requests,
        failures=record.failures,
        rows=record.rows,
        latency_us_sum=record.latency_us_sum,
        latency=record.latency,
        histograms=record.histograms,
        crashes=record.crashes,
        energy_uj_sum=record.energy_uj_sum,
        energy_requests=record.energy_requests,
        shadow_rows=record.shadow_rows,
        shadow_disagreements=record.shadow_disagreements,
        labelled=record.labelled,
        labelled_correct=record.labelled_correct,
    )


def sum_of(parts: Iterable[Totals]) -> Totals:
    """Add sums of one shape. `devices` do not add up, since one device is in many parts: they come out as 0."""
    found = list(parts)
    if not found:
        return Totals()
    return Totals(
        windows=_bounded(part.windows for part in found),
        requests=_bounded(part.requests for part in found),
        failures=_bounded(part.failures for part in found),
        rows=_bounded(part.rows for part in found),
        latency_us_sum=_bounded(part.latency_us_sum for part in found),
        latency=_columns(part.latency for part in found),
        histograms=tuple(_columns(column) for column in zip(*(part.histograms for part in found), strict=True)),
        crashes=_bounded(part.crashes for part in found),
        energy_uj_sum=_bounded(part.energy_uj_sum for part in found),
        energy_requests=_bounded(part.energy_requests for part in found),
        shadow_rows=_bounded(part.shadow_rows for part in found),
        shadow_disagreements=_bounded(part.shadow_disagreements for part in found),
        labelled=_ragged_columns(part.labelled for part in found),
        labelled_correct=_ragged_columns(part.labelled_correct for part in found),
    )


def difference(one: Totals, other: Totals) -> Totals:
    """Return `one` without `other`, which is a part of it (so that nothing falls below 0); `Totals()` always is."""
    if not other.windows:
        return one
    return Totals(
        windows=max(0, one.windows - other.windows),
        requests=max(0, one.requests - other.requests),
        failures=max(0, one.failures - other.failures),
        rows=max(0, one.rows - other.rows),
        latency_us_sum=max(0, one.latency_us_sum - other.latency_us_sum),
        latency=_less(one.latency, other.latency),
        histograms=tuple(_less(*pair) for pair in zip(one.histograms, other.histograms, strict=True)),
        crashes=max(0, one.crashes - other.crashes),
        energy_uj_sum=max(0, one.energy_uj_sum - other.energy_uj_sum),
        energy_requests=max(0, one.energy_requests - other.energy_requests),
        shadow_rows=max(0, one.shadow_rows - other.shadow_rows),
        shadow_disagreements=max(0, one.shadow_disagreements - other.shadow_disagreements),
        labelled=_ragged_less(one.labelled, other.labelled),
        labelled_correct=_ragged_less(one.labelled_correct, other.labelled_correct),
    )


def rank(seq: int, closed: bool, counts: Totals) -> tuple[object, ...]:
    """Order records of one key. Past `closed` it only matters to a device that lies: then only that order is fixed."""
    return (
        seq,
        closed,
        counts.requests,
        counts.rows,
        counts.failures,
        counts.latency,
        counts.histograms,
        counts.labelled,
        counts.labelled_correct,
        counts.crashes,
        counts.energy_uj_sum,
        counts.energy_requests,
        counts.shadow_rows,
        counts.shadow_disagreements,
    )


def _bounded(values: Iterable[int]) -> int:
    return min(sum(values), MOST)


def _less(one: tuple[int, ...], other: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(map(max, map(sub, one, other), repeat(0)))


def _columns(rows: Iterable[tuple[int, ...]]) -> tuple[int, ...]:
    """Add up column by column; pairwise `map` is several times faster here than `zip` over all."""
    first, *rest = rows
    for row in rest:
        first = tuple(map(add, first, row))
    return first if max(first, default=0) <= MOST else tuple(min(count, MOST) for count in first)


def _ragged_columns(rows: Iterable[tuple[int, ...]]) -> tuple[int, ...]:
    """Add up column by column; most devices have no labels, and their rows are empty."""
    filled = [row for row in rows if row]
    return tuple(min(sum(column), MOST) for column in zip_longest(*filled, fillvalue=0))


def _ragged_less(one: tuple[int, ...], other: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(max(0, a - b) for a, b in zip_longest(one, other, fillvalue=0))


def _key(window: ObservedWindow) -> WindowKey:
    record = window.record
    return (
        window.device,
        record.model,
        record.version,
        record.bundle,
        record.window_start_s,
        record.window_s,
        record.boot,
        record.incarnation,
    )


def _rank(record: WindowRecord) -> tuple[object, ...]:
    return rank(record.seq, record.closed, amounts(record))


def _same_shape(windows: list[ObservedWindow]) -> list[ObservedWindow]:
    shapes: dict[tuple[int, ...], list[ObservedWindow]] = {}
    for window in windows:
        record = window.record
        shape = (len(record.latency), *(len(counts) for counts in record.histograms))
        shapes.setdefault(shape, []).append(window)
    return max(shapes.values(), key=len) if shapes else []
