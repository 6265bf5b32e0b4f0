"""Drift of each feature, from merged histograms.

How the store uses this:

    live = total(latest(windows))                          # sums/windows.py: exact integer sums
    report = drift_report(reference, live, DriftGate())    # against the bundle's reference

A feature has *drifted* when its PSI (or KS distance) is above the policy's limit **and** sampling noise alone would
give such a difference with chance below alpha. It is *stable* when it has not drifted although the samples
suffice to see a drift of the limit's size. Everything else is *inconclusive*: few samples neither raise an alarm nor
pass blindly.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Literal

import msgspec

from edgewright.bundle.reference import Histogram, Reference

from ..policy.sections import DriftGate
from ..statistics import chi2_critical, chi2_two_samples, chi2_upper
from ..sums.windows import ObservedWindow, Totals, Windows, latest, merge, total
from . import divergence

__all__ = [
    "AccuracyEstimate",
    "DriftReport",
    "FeatureDrift",
    "ObservedWindow",
    "Totals",
    "Windows",
    "compare",
    "drift_report",
    "estimate_accuracy",
    "latest",
    "merge",
    "total",
    "verdict_of",
]

Verdict = Literal["stable", "drifted", "inconclusive"]


class FeatureDrift(msgspec.Struct, frozen=True, kw_only=True):
    """One feature compared: the numbers and what they say."""

    name: str
    role: Literal["input", "output"]
    kind: Literal["numeric", "categorical"]
    samples: int
    baseline_samples: int
    psi: float
    """On the joined bins that the test uses."""
    psi_critical: float | None
    """PSI that sampling noise alone reaches with chance alpha, at these sample sizes; None without samples."""
    ks: float | None
    """None for categories: they have no order."""
    js: float
    chi2: float
    degrees: int
    p_value: float
    """Of the chi-square test on the joined bins."""
    verdict: Verdict


class AccuracyEstimate(msgspec.Struct, frozen=True, kw_only=True):
    """Expected accuracy from confidence: the sum of n_b * c_b / n over the bins of the confidence histogram."""

    value: float
    standard_error: float
    samples: int


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


def drift_report(reference: Reference, live: Totals, gate: DriftGate) -> DriftReport:
    """Compare live traffic with the bundle's reference, feature by feature."""
    baseline = [histogram.counts for histogram in reference.histograms]
    features = compare(reference.histograms, live.histograms, baseline, gate)
    live_accuracy = estimate_accuracy(reference, live.histograms)
    calibrated = estimate_accuracy(reference, baseline)
    return DriftReport(
        samples=live.rows,
        features=features,
        verdict=verdict_of(features),
        input_verdict=verdict_of(features, role="input"),
        output_verdict=verdict_of(features, role="output"),
        estimated_accuracy=None if live_accuracy is None else live_accuracy.value,
        reference_accuracy=None if calibrated is None else calibrated.value,
        message=_message(features, live.rows, gate),
    )


def compare(
    histograms: Sequence[Histogram],
    live: Sequence[Sequence[int]],
    baseline: Sequence[Sequence[int]],
    gate: DriftGate,
    *,
    comparisons: int = 1,
) -> tuple[FeatureDrift, ...]:
    """Compare two groups that share edges, feature by feature.

    `gate.alpha` is shared by all features, both statistics, `comparisons` calls and all looks. Counts that do not fit
    the histograms (a device that lies, or an old bundle) are not compared: no features come back.
    """
    if not histograms or not _fits(histograms, live) or not _fits(histograms, baseline):
        return ()
    alpha = gate.alpha / (2 * len(histograms) * max(1, comparisons))
    return tuple(_feature(*triple, gate, alpha) for triple in zip(histograms, live, baseline, strict=True))


def estimate_accuracy(reference: Reference, counts: Sequence[Sequence[int]]) -> AccuracyEstimate | None:
    """Return the accuracy that the confidences promise; None without a confidence table or samples.

    It holds as long as confidence stays calibrated. It cannot see concept drift: that needs labels.
    """
    table = reference.confidence_table
    if table is None or not _fits(reference.histograms, counts):
        return None
    places = [place for place, one in enumerate(reference.histograms) if one.source.statistic == "confidence"]
    if not places or len(counts[places[0]]) != len(table) or sum(counts[places[0]]) == 0:
        return None
    confidence = counts[places[0]]
    n = sum(confidence)
    value = math.fsum(count * accuracy for count, accuracy in zip(confidence, table, strict=True)) / n
    return AccuracyEstimate(value=value, standard_error=math.sqrt(max(0.0, value * (1 - value)) / n), samples=n)


def verdict_of(features: Iterable[FeatureDrift], role: Literal["input", "output"] | None = None) -> Verdict:
    """Return the verdict of several features together."""
    verdicts = {feature.verdict for feature in features if role is None or feature.role == role}
    if "drifted" in verdicts:
        return "drifted"
    return "stable" if verdicts == {"stable"} else "inconclusive"


def _fits(histograms: Sequence[Histogram], counts: Sequence[Sequence[int]]) -> bool:
    return len(histograms) == len(counts) and all(
        len(histogram.counts) == len(row) for histogram, row in zip(histograms, counts, strict=True)
    )


def _feature(
    histogram: Histogram, live: Sequence[int], baseline: Sequence[int], gate: DriftGate, alpha: float
) -> FeatureDrift:
    n, m = sum(live), sum(baseline)
    join = divergence.join_neighbours if histogram.kind == "numeric" else divergence.join_rare
    joined_live, joined_baseline = join(live, baseline)
    chi2, degrees = chi2_two_samples(joined_live, joined_baseline)
    alpha_now = alpha / _look_spending(n, gate.min_samples)
    psi = divergence.psi(joined_live, joined_baseline)
    ks = divergence.ks(live, baseline) if histogram.kind == "numeric" else None
    p_value = chi2_upper(chi2, degrees)
    critical = chi2_critical(alpha_now, degrees) * (1 / n + 1 / m) if n and m else None
    drifted = (psi >= gate.max_psi and p_value <= alpha_now) or (
        ks is not None and ks >= gate.max_ks and divergence.ks_p_value(ks, n, m) <= alpha_now
    )
    return FeatureDrift(
        name=histogram.name,
        role=histogram.role,
        kind=histogram.kind,
        samples=n,
        baseline_samples=m,
        psi=psi,
        psi_critical=critical,
        ks=ks,
        js=divergence.js(live, baseline),
        chi2=chi2,
        degrees=degrees,
        p_value=p_value,
        verdict=_verdict(drifted, n, critical, gate),
    )


def _verdict(drifted: bool, samples: int, critical: float | None, gate: DriftGate) -> Verdict:
    if samples < gate.min_samples or critical is None:
        return "inconclusive"
    if drifted:
        return "drifted"
    return "stable" if critical <= gate.max_psi else "inconclusive"


def _look_spending(samples: int, first: int) -> float:
    """How many times smaller alpha must be for the looks of this doubling of the sample.

    Looks while the sample doubles are nearly the same look. Doubling k gets a share of 6 / (pi k)^2, and the shares sum
    to 1, so watching for ever stays within alpha.
    """
    doubling = 1 + max(0, math.floor(math.log2(max(1, samples) / first)))
    return math.pi**2 / 6 * doubling**2


def _message(features: Sequence[FeatureDrift], samples: int, gate: DriftGate) -> str:
    drifted = [feature for feature in features if feature.verdict == "drifted"]
    if drifted:
        named = ", ".join(f"{one.role} {one.name} (PSI {one.psi:.2f}, limit {gate.max_psi:g})" for one in drifted[:5])
        more = f" and {len(drifted) - 5} more" if len(drifted) > 5 else ""
        return f"Drifted on {samples} samples: {named}{more}."
    if verdict_of(features) == "stable":
        return f"No drift on {samples} samples."
    unsure = next((one for one in features if one.verdict == "inconclusive" and one.samples >= gate.min_samples), None)
    if unsure is None:
        return f"Too few samples to tell: {samples} so far, at least {gate.min_samples} are needed."
    return (
        f"Too few samples to tell: {unsure.role} {unsure.name} might have drifted by a PSI of {gate.max_psi:g} unseen, "
        f"with {unsure.samples} live samples against {unsure.baseline_samples} of the reference."
    )
