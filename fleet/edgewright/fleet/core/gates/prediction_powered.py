"""Accuracy from a few labels and many confidences, from counts that can be added up over devices and windows.

PPI++ (Angelopoulos, Duchi & Zrnic 2023, "PPI++: Efficient prediction-powered inference", §6; package `ppi_py`,
`ppi_mean_pointestimate`): the labelled mean, corrected by `weight` times how much more the confidences promise for all
samples than for the labelled ones. The weight is the one of the smallest variance, so confidences that say nothing cost
nothing, where plain prediction-powered inference (weight 1) would be worse than the labels alone. It is unbiased
however badly the confidences are calibrated, as long as the labelled samples are a fair draw.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from edgewright.bundle.reference import Reference

from ..statistics import normal_critical
from ..sums.windows import Totals


class PoweredMean(msgspec.Struct, frozen=True, kw_only=True):
    """An accuracy and how sure it is."""

    value: float
    standard_error: float
    weight: float
    """How much the confidences count: 0 is the mean of the labels alone, 1 plain prediction-powered inference."""
    labelled: int
    unlabelled: int

    def interval(self, alpha: float) -> tuple[float, float]:
        """Return the normal interval at one fixed look (not a confidence sequence)."""
        half = normal_critical(alpha / 2) * self.standard_error
        return max(0.0, self.value - half), min(1.0, self.value + half)


def powered_accuracy(reference: Reference, totals: Totals) -> PoweredMean | None:
    """Return the accuracy of a bundle's traffic from its labels; None without labels or a confidence table.

    For sums over many devices: with a handful of labels, a weight that is fitted to them would bend the estimate, which
    is why single devices have the fixed weight 1 (labels.py).
    """
    table, labelled, correct = reference.confidence_table, totals.labelled, totals.labelled_correct
    places = [place for place, one in enumerate(reference.histograms) if one.source.statistic == "confidence"]
    if table is None or not places or len(totals.histograms) != len(reference.histograms):
        return None
    confidence = totals.histograms[places[0]]
    if not len(table) == len(confidence) == len(labelled) == len(correct):
        return None
    if any(right > told for right, told in zip(correct, labelled, strict=True)):
        return None
    rest = [max(0, count - told) for count, told in zip(confidence, labelled, strict=True)]
    return powered_mean(table, rest, labelled, correct)


def powered_mean(
    promised: Sequence[float], unlabelled: Sequence[int], labelled: Sequence[int], correct: Sequence[int]
) -> PoweredMean | None:
    """Return the prediction-powered accuracy; None without labels.

    Args:
        promised: The accuracy that each confidence bin stands for (the confidence table of the bundle).
        unlabelled: Samples without a label, by bin.
        labelled: Samples with a label, by bin.
        correct: Those of them that were answered right, by bin.

    Raises:
        ValueError: The four differ in length, or more samples were right than labelled.
    """
    if not len(promised) == len(unlabelled) == len(labelled) == len(correct):
        raise ValueError("confidence bins, samples, labels and right answers must have the same number of bins")
    if any(not 0 <= right <= told for right, told in zip(correct, labelled, strict=True)) or min(unlabelled) < 0:
        raise ValueError("a bin has more right answers than labels, or fewer than none")
    n, count = sum(labelled), sum(unlabelled)
    if n == 0:
        return None
    mean = sum(correct) / n
    if count == 0:
        return PoweredMean(value=mean, standard_error=_error(mean, n), weight=0.0, labelled=n, unlabelled=0)
    few, all_others = _moments(promised, labelled), _moments(promised, unlabelled)
    both = _moments(promised, [a + b for a, b in zip(labelled, unlabelled, strict=True)])
    covariance = math.fsum(p * right for p, right in zip(promised, correct, strict=True)) / n - few[0] * mean
    # A variance that is only rounding would make the weight a coin toss.
    spread = both[1] * (n + count) / (n + count - 1)
    weight = covariance / ((1 + n / count) * spread) if spread > 1e-12 else 0.0
    weight = min(1.0, max(0.0, weight))
    value = mean + weight * (all_others[0] - few[0])
    rest = mean * (1 - mean) - 2 * weight * covariance + weight * weight * few[1]
    variance = weight * weight * all_others[1] / count + max(0.0, rest) / n
    return PoweredMean(value=value, standard_error=math.sqrt(variance), weight=weight, labelled=n, unlabelled=count)


def _moments(values: Sequence[float], counts: Sequence[int]) -> tuple[float, float]:
    n = sum(counts)
    mean = math.fsum(value * count for value, count in zip(values, counts, strict=True)) / n
    return mean, math.fsum(count * (value - mean) ** 2 for value, count in zip(values, counts, strict=True)) / n


def _error(mean: float, n: int) -> float:
    return math.sqrt(mean * (1 - mean) / n)
