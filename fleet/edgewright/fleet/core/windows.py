"""Exact sums of cumulative window records.

A record replaces an earlier one of the same key, so a set of windows is a join semilattice: merging is associative,
commutative and idempotent, and duplicates, reordering and late arrivals cannot change a sum.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from edgewright.runtime.telemetry.records import WindowRecord


class ObservedWindow(msgspec.Struct, frozen=True, kw_only=True):
    """A window record and the device that sent it."""

    device: str
    record: WindowRecord


WindowKey = tuple[str, str, str, str, int, int, str, str]
"""device, model, version, bundle, window start, window length, boot, incarnation."""

Windows = Mapping[WindowKey, ObservedWindow]


class Totals(msgspec.Struct, frozen=True, kw_only=True):
    """Sums over windows that share one reference."""

    devices: int = 0
    windows: int = 0
    requests: int = 0
    failures: int = 0
    rows: int = 0
    latency_us_sum: int = 0
    latency: tuple[int, ...] = ()
    histograms: tuple[tuple[int, ...], ...] = ()


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
    return Totals(
        devices=len({window.device for window in records}),
        windows=len(records),
        requests=sum(window.record.requests for window in records),
        failures=sum(window.record.failures for window in records),
        rows=sum(window.record.rows for window in records),
        latency_us_sum=sum(window.record.latency_us_sum for window in records),
        latency=_add([window.record.latency for window in records]),
        histograms=tuple(_add(column) for column in zip(*(w.record.histograms for w in records), strict=True)),
    )


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
    """Order records of one key. Past `seq` it only matters to a device that lies, and then only that order is fixed."""
    return record.seq, record.closed, record.requests, record.rows, record.failures, record.latency, record.histograms


def _same_shape(windows: list[ObservedWindow]) -> list[ObservedWindow]:
    shapes: dict[tuple[int, ...], list[ObservedWindow]] = {}
    for window in windows:
        record = window.record
        shape = (len(record.latency), *(len(counts) for counts in record.histograms))
        shapes.setdefault(shape, []).append(window)
    return max(shapes.values(), key=len) if shapes else []


def _add(rows: Iterable[tuple[int, ...]]) -> tuple[int, ...]:
    return tuple(sum(column) for column in zip(*rows, strict=True))
