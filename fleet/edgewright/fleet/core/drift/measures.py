"""What one window of a group says about one metric, and how far that is from a baseline. Pure.

A *sample* is rows of counts, so samples of one reference add up exactly, and a baseline can be a weighted sum of
earlier ones.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from edgewright.bundle.reference import Histogram, Reference

from ..statistics import chi2_two_samples, chi2_upper, normal_upper
from ..sums.windows import Totals
from . import divergence
from .alert_rules import AlertMetric, AlertRule, Distance

Rows = tuple[tuple[float, ...], ...]
MIN_EVENTS = 3
"""Failed requests or wrong labels below this never raise an alert."""


class Judged(msgspec.Struct, frozen=True, kw_only=True):
    """One window against its baseline."""

    value: float
    """In the unit of the metric (alert_rules.AlertMetric); never below 0."""
    p_value: float
    """Chance of such a difference where nothing changed, shared by all features."""
    samples: int
    baseline_samples: int
    feature: str = ""
    """The one that moved most."""


def sample_of(metric: AlertMetric, totals: Totals, reference: Reference) -> Rows | None:
    """Return what a window's sums say about a metric; None where they say nothing."""
    match metric:
        case "inputs" | "outputs":
            chosen = _places(metric, reference)
            if not chosen or not _fits(reference, totals.histograms):
                return None
            return tuple(totals.histograms[place] for place in chosen)
        case "errors":
            return ((totals.failures, totals.requests - totals.failures),) if totals.requests else None
        case "latency":
            return (totals.latency, (totals.latency_us_sum, totals.requests)) if totals.requests else None
        case "accuracy":
            place = _confidence(reference)
            if place is None or not _fits(reference, totals.histograms):
                return None
            return (totals.histograms[place],)
        case "labels":
            right, all_of_them = sum(totals.labelled_correct), sum(totals.labelled)
            return ((right, all_of_them - right),) if all_of_them else None


def reference_sample(metric: AlertMetric, reference: Reference) -> Rows | None:
    """Return what the bundle's reference says about a metric; None where it says nothing."""
    counts = tuple(histogram.counts for histogram in reference.histograms)
    found = sample_of(metric, Totals(histograms=counts), reference)
    if metric == "errors":
        return ((0.0, math.inf),)
    if metric != "labels":
        return found
    confidence = sample_of("accuracy", Totals(histograms=counts), reference)
    if confidence is None:
        return None
    right, samples = _estimate(confidence[0], reference), sum(confidence[0])
    return ((right * samples, (1 - right) * samples),) if samples else None


def samples_in(metric: AlertMetric, rows: Rows) -> float:
    """Return how many samples are in a sample."""
    return rows[-1][1] if metric == "latency" else max((sum(row) for row in rows), default=0)


def judge(rule: AlertRule, live: Rows, baseline: Rows, reference: Reference) -> Judged:
    """Compare a window with its baseline, made of rows of the same sizes."""
    match rule.metric:
        case "inputs" | "outputs":
            return _judge_features(rule, live, baseline, reference)
        case "latency":
            return _judge_latency(live, baseline)
        case "accuracy":
            return _judge_accuracy(live[0], baseline[0], reference)
        case "errors":
            return _judge_share(live[0], baseline[0])
        case "labels":
            return _judge_share(live[0][::-1], baseline[0][::-1])


def _judge_features(rule: AlertRule, live: Rows, baseline: Rows, reference: Reference) -> Judged:
    histograms = [reference.histograms[place] for place in _places(rule.metric, reference)]
    found = [
        (*_distance(rule.distance, histogram, now, before), histogram.name)
        for histogram, now, before in zip(histograms, live, baseline, strict=True)
    ]
    sure = [each for each in found if each[1] <= rule.alpha / len(found)]
    value, p_value, name = max(sure or found)
    return Judged(
        value=value,
        p_value=min(1.0, p_value * len(found)),
        samples=int(samples_in(rule.metric, live)),
        baseline_samples=int(samples_in(rule.metric, baseline)),
        feature=name,
    )


def _distance(
    kind: Distance, histogram: Histogram, live: Sequence[float], baseline: Sequence[float]
) -> tuple[float, float]:
    numeric = histogram.kind == "numeric"
    if kind == "ks" and numeric:
        value = divergence.ks(live, baseline)
        return value, divergence.ks_p_value(value, sum(live), sum(baseline))
    join = divergence.join_neighbours if numeric else divergence.join_rare
    joined = join(live, baseline)
    p_value = chi2_upper(*chi2_two_samples(*joined))
    if kind == "psi":
        return divergence.psi(*joined), p_value
    return divergence.js(live, baseline), p_value


def _judge_latency(live: Rows, baseline: Rows) -> Judged:
    (histogram, (total_us, requests)), (old_histogram, (old_us, old_requests)) = live, baseline
    joined = divergence.join_neighbours(histogram, old_histogram)
    change = (total_us / requests) / (old_us / old_requests) - 1 if requests and old_us else 0.0
    return Judged(
        value=max(0.0, 100 * change),
        p_value=chi2_upper(*chi2_two_samples(*joined)),
        samples=int(requests),
        baseline_samples=int(old_requests),
    )


def _judge_accuracy(live: Sequence[float], baseline: Sequence[float], reference: Reference) -> Judged:
    now, before = _estimate(live, reference), _estimate(baseline, reference)
    n, m = sum(live), sum(baseline)
    error = math.sqrt(now * (1 - now) / n + before * (1 - before) / m) if n and m else math.inf
    drop = before - now
    return Judged(
        value=max(0.0, 100 * drop),
        p_value=normal_upper(drop / error) if error else float(drop <= 0),
        samples=int(n),
        baseline_samples=int(m),
    )


def _judge_share(live: Sequence[float], baseline: Sequence[float]) -> Judged:
    """Compare shares of bad events; rows are (bad, good). An infinite baseline is a share of zero."""
    n, m = sum(live), sum(baseline)
    usual = baseline[0] / m if m and math.isfinite(m) else 0.0
    rise = live[0] / n - usual if n else 0.0
    p_value = 0.0 if math.isinf(m) else chi2_upper(*chi2_two_samples(live, baseline)) if rise > 0 else 1.0
    return Judged(
        value=max(0.0, 100 * rise),
        p_value=p_value if live[0] >= MIN_EVENTS else 1.0,
        samples=int(n),
        baseline_samples=int(m) if math.isfinite(m) else 0,
    )


def _estimate(confidence: Sequence[float], reference: Reference) -> float:
    table = reference.confidence_table or ()
    n = sum(confidence)
    return math.fsum(count * right for count, right in zip(confidence, table, strict=True)) / n if n else 0.0


def _places(metric: AlertMetric, reference: Reference) -> list[int]:
    role = "input" if metric == "inputs" else "output"
    return [place for place, one in enumerate(reference.histograms) if one.role == role]


def _confidence(reference: Reference) -> int | None:
    if reference.confidence_table is None:
        return None
    places = [place for place, one in enumerate(reference.histograms) if one.source.statistic == "confidence"]
    return places[0] if places else None


def _fits(reference: Reference, counts: Sequence[Sequence[int]]) -> bool:
    return [len(one.counts) for one in reference.histograms] == [len(row) for row in counts]
