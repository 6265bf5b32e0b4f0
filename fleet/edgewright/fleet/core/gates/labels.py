"""Accuracy from a few labels, with the confidence of all samples filling in: the prediction-powered mean.

    accuracy = what the confidences of all samples promise + mean over labelled samples (right - what was promised)

The second term corrects what the confidences get wrong, so it is unbiased however badly they are calibrated, as long as
the labelled samples are a fair draw (Angelopoulos et al., Prediction-powered inference, Science 382, 2023).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from edgewright.bundle.reference import Reference

from ..drift.report import estimate_accuracy


def labelled_accuracy(
    reference: Reference, histograms: Sequence[Sequence[int]], labelled: Sequence[int], correct: Sequence[int]
) -> float | None:
    """Return the accuracy in [0, 1]; None without labels.

    Args:
        reference: of the bundle; without a confidence table, only the labels count.
        histograms: of all samples, in the reference's order.
        labelled: labelled samples by confidence bin.
        correct: those of them that were answered right.
    """
    n = sum(labelled)
    if not n or any(right > told for right, told in zip(correct, labelled, strict=True)):
        return None
    share = sum(correct) / n
    promised, table = estimate_accuracy(reference, histograms), reference.confidence_table
    if promised is None or table is None or len(table) != len(labelled):
        return share
    of_labelled = math.fsum(told * right for told, right in zip(labelled, table, strict=True)) / n
    return min(1.0, max(0.0, promised.value + share - of_labelled))
