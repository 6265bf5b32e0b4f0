"""Telemetry records: what a device tells the fleet about what it did.

A `WindowRecord` is *cumulative* for its key (device, model, version, bundle, window, boot, incarnation): a later record
of the same key replaces an earlier one, and `seq` says which is later. Duplicates, reordering and weeks of delay
therefore cannot change a sum. Histograms use the bin edges that came with the bundle, so merging is adding.
"""

from __future__ import annotations

from typing import Literal

import msgspec

LATENCY_EDGES_US: tuple[int, ...] = tuple(
    int(base * 10**exponent) for exponent in range(1, 7) for base in (1, 1.5, 2, 3, 4, 5, 7)
)
"""Inner edges of the latency histogram in microseconds, 10 µs to 7 s; one bin more than edges."""


class WindowRecord(msgspec.Struct, frozen=True, kw_only=True, tag="window"):
    """What one server process did with one bundle in one time window, so far."""

    model: str
    version: str
    bundle: str
    """`sha256:…` of the bundle archive."""
    reference: str
    """`sha256:…` of the bundle's reference.cbor: the histograms below follow its order and edges."""
    window_start_s: int
    """Wall clock, seconds since 1970, a multiple of `window_s`."""
    window_s: int
    boot: str
    """Kernel boot id of the device."""
    incarnation: str
    """One run of the server process."""
    seq: int
    """Grows with every change of this record; the highest one counts."""
    closed: bool
    """True when this record cannot change any more."""
    requests: int
    """Requests executed, each counted *before* its answer is written: acknowledged <= requests <= attempted."""
    failures: int
    """Requests of those that the engine failed."""
    rows: int
    """Samples in those requests."""
    latency_us_sum: int
    latency: tuple[int, ...]
    """Counts by `LATENCY_EDGES_US`."""
    histograms: tuple[tuple[int, ...], ...]
    """Counts, one tuple for each histogram of the reference, in its order."""
    crashes: int = 0
    """1 where the server died without closing this window: a crash, a kill or a power cut."""
    energy_uj_sum: int = 0
    """Energy of the board, in microjoules, in times when only this model's requests were executed or, by rows, its
    share where several were."""
    energy_requests: int = 0
    """Requests in those times; 0 where the board measures no energy."""
    shadow_rows: int = 0
    """Samples that this bundle answered as the shadow of another one."""
    shadow_disagreements: int = 0
    """Samples of those that it answered otherwise."""
    labelled: tuple[int, ...] = ()
    """Samples whose truth was told, by the bins of the reference's first confidence histogram (one bin where it has
    none); empty: no truth was told."""
    labelled_correct: tuple[int, ...] = ()
    """Samples of those that were answered right."""


UpdatePhase = Literal[
    "refused", "fetching", "installing", "trial", "activating", "probation", "confirmed", "failed", "rolled_back"
]


class UpdateRecord(msgspec.Struct, frozen=True, kw_only=True, tag="update"):
    """One step of one update on the device. `refused`, `confirmed`, `failed` and `rolled_back` end it."""

    command: str
    model: str
    version: str
    bundle: str
    phase: UpdatePhase
    reason: str
    """For people; empty where all is well."""
    at_s: float
    boot: str


class GapRecord(msgspec.Struct, frozen=True, kw_only=True, tag="gap"):
    """The spool was full and dropped these of its own records, oldest first."""

    first_seq: int
    last_seq: int
    at_s: float


Record = WindowRecord | UpdateRecord | GapRecord
