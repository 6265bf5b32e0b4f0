"""Drift from merged histograms: exact sums of cumulative window records, and statistics on the bins.

How the store uses this:

    windows = [ObservedWindow(device="cam-1", record=WindowRecord(...)), ...]    # duplicates and old versions are harmless
    live = total(latest(windows))                                               # exact integer sums
    report = drift_report(reference, live, DriftGate())                         # against the bundle's reference
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import msgspec

from edgewright.runtime.telemetry.records import WindowRecord

from .policy import DriftGate

Verdict = Literal["stable", "drifted", "inconclusive"]


class ReferenceHistogram(msgspec.Struct, frozen=True, kw_only=True):
    """What the core needs of `edgewright.bundle.reference.Histogram` (same field names)."""

    name: str
    role: Literal["input", "output"]
    kind: Literal["numeric", "categorical"]
    edges: tuple[float, ...]
    counts: tuple[int, ...]


class ReferenceSummary(msgspec.Struct, frozen=True, kw_only=True):
    """What the core needs of `edgewright.bundle.reference.Reference` (same field names)."""

    histograms: tuple[ReferenceHistogram, ...]
    confidence_table: tuple[float | None, ...] | None = None
    """Accuracy in each bin of the `confidence` histogram."""


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


class FeatureDrift(msgspec.Struct, frozen=True, kw_only=True):
    """One feature compared: the numbers and what they say."""

    name: str
    role: Literal["input", "output"]
    kind: Literal["numeric", "categorical"]
    samples: int
    baseline_samples: int
    psi: float
    psi_critical: float
    """PSI that sampling noise alone reaches with chance alpha, at these sample sizes."""
    ks: float | None
    """None for categories: they have no order."""
    js: float
    chi2: float
    degrees: int
    p_value: float
    verdict: Verdict


class DriftReport(msgspec.Struct, frozen=True, kw_only=True):
    """A group of devices against its bundle's reference."""

    samples: int
    features: tuple[FeatureDrift, ...]
    verdict: Verdict
    input_verdict: Verdict
    output_verdict: Verdict
    estimated_accuracy: float | None
    reference_accuracy: float | None
    """What the same estimate says about the calibration data."""
    message: str
    """One sentence for people."""


def latest(windows: Iterable[ObservedWindow]) -> dict[WindowKey, ObservedWindow]:
    """Keep for each key the record with the highest seq: idempotent, in any order."""
    raise NotImplementedError


def merge(one: Windows, other: Windows) -> dict[WindowKey, ObservedWindow]:
    """Join two sets of windows: associative, commutative, idempotent."""
    raise NotImplementedError


def total(windows: Windows) -> Totals:
    """Add up windows of one reference; a record whose histogram sizes differ from the first is left out."""
    raise NotImplementedError


def drift_report(reference: ReferenceSummary, live: Totals, gate: DriftGate) -> DriftReport:
    """Compare live traffic with the bundle's reference, feature by feature."""
    raise NotImplementedError


def compare(
    histograms: Sequence[ReferenceHistogram],
    live: Sequence[Sequence[int]],
    baseline: Sequence[Sequence[int]],
    gate: DriftGate,
    *,
    comparisons: int = 1,
) -> tuple[FeatureDrift, ...]:
    """Compare two groups that share edges, feature by feature."""
    raise NotImplementedError
