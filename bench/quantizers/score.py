"""Figures of one net: what every model is worth beside float, and beside the best that int8 can be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgewright.compiler import metrics
from edgewright.compiler.metrics import Estimate

from .outputs import Answers

RESAMPLES = 1000
SEED = 0

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Quality:
    """Of one model on the test samples."""

    snr_db: float
    agreement: float
    delta_top1: Estimate | None
    """Points against float, positive is better; None without labels."""


def quality(found: Answers, reference: Answers, labels: NDArray[np.int64] | None) -> Quality:
    """SNR on logits; agreement and top-1 on what the model gives to its user."""
    truth = Answers(reference.outputs[: len(found.outputs)], reference.logits[: len(found.logits)])
    delta = None
    if labels is not None:
        compared = metrics.compare(
            metrics.BUILT_IN["top1"], found.outputs, truth.outputs, labels[: len(found.outputs)]
        ).drop
        delta = Estimate(-compared.value, -compared.high, -compared.low)
    return Quality(
        metrics.snr_db(flat(found.logits), flat(truth.logits)),
        float(np.mean(flat(found.outputs).argmax(1) == flat(truth.outputs).argmax(1))),
        delta,
    )


def margin_db(found: Answers, other: Answers, reference: Answers) -> Estimate:
    """How many dB one model's SNR is above another's, with the interval of a paired bootstrap over the samples that
    both answered."""
    count = min(len(found.logits), len(other.logits))
    truth = flat(reference.logits[:count])
    mine, theirs = (np.sum((flat(each.logits[:count]) - truth) ** 2, axis=1) for each in (found, other))
    picks = np.random.default_rng(SEED).integers(0, count, (RESAMPLES, count))
    draws = _decibel(theirs[picks].sum(1), mine[picks].sum(1))
    low, high = np.quantile(draws, [0.025, 0.975])
    return Estimate(float(_decibel(theirs.sum(), mine.sum())), float(low), float(high))


def _decibel(above: Any, below: Any) -> Any:
    tiny = np.finfo(np.float64).tiny
    return 10 * np.log10((above + tiny) / (below + tiny))


def flat(array: NDArray[Any]) -> Floats:
    """(samples, values)."""
    return array.reshape(len(array), -1).astype(np.float64)
