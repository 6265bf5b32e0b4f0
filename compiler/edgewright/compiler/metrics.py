"""What a model is worth on samples, what the user allows it to lose, and how sure the data makes us.

A metric scores outputs; a budget is absolute points for top1, auc, agreement and the user's own functions, relative
for errors (mse, distortion), and dB for snr. Intervals are paired: both models are asked about the same samples.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from .faults import MetricError

Unit = Literal["points", "relative", "dB"]
Floats = NDArray[np.float64]

Z_95 = 1.959963984540054
RESAMPLES = 1000
FUNCTION_RESAMPLES = 100
"""A user's function that gives one number has to be called for every resample."""
SEED = 20_261_120
DEFAULT_LIMITS = {"snr": 0.5, "distortion": 0.05}
"""Where it is not 1 %. 5 % of distortion is an SNR of 26 dB, which well calibrated int8 nets reach."""
MAX_SNR_DB = 200.0
"""Stands for equal outputs; JSON has no infinity."""
MAX_DISTORTION = 1e6


@dataclass(frozen=True)
class Estimate:
    """A figure and its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Comparison:
    """A candidate beside the float model on the same samples."""

    metric: str
    unit: Unit
    candidate: Estimate
    float_value: float
    drop: Estimate
    """In the budget's unit; positive is worse."""
    samples: int
    snr_db: float
    argmax_agreement: float | None

    @property
    def standard_error(self) -> float:
        """Of the drop, as its interval has it."""
        return (self.drop.high - self.drop.low) / 2 / Z_95


@dataclass(frozen=True)
class Budget:
    """How much a candidate may lose."""

    limit: float
    unit: Unit

    def __str__(self) -> str:
        return f"{self.limit:g} dB" if self.unit == "dB" else f"{self.limit * 100:g} %"


@dataclass(frozen=True)
class Metric:
    """A named way to score. Exactly one of the three functions is set."""

    name: str
    unit: Unit
    higher_is_better: bool
    needs_labels: bool
    per_sample: Callable[[Floats, NDArray[Any]], Floats] | None = None
    """Its mean is the value."""
    whole: Callable[[Floats, NDArray[Any]], float] | None = None
    """For values that are no mean over samples."""
    from_powers: Callable[[float, float], float] | None = None
    """For values of the summed squares of error and of signal: cheap to resample."""

    def value(self, outputs: Floats, reference: NDArray[Any]) -> float:
        """The score of some outputs."""
        if self.per_sample is not None:
            return float(np.mean(self.per_sample(outputs, reference)))
        if self.from_powers is not None:
            noise, signal = powers(outputs, reference)
            return self.from_powers(float(noise.sum()), float(signal.sum()))
        if self.whole is None:
            raise TypeError(f"metric {self.name} has no function")
        return float(self.whole(outputs, reference))


def parse_budget(text: str | None, metric: Metric) -> Budget:
    """`1%`, `0.01`, or `0.5dB` in the metric's own unit; None gives the default."""
    if text is None:
        return Budget(DEFAULT_LIMITS.get(metric.name, 0.01), metric.unit)
    match = re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*(%|dB|db)?\s*", text)
    if match is None:
        raise MetricError(f"--max-drop {text!r}: expected a number with % or dB, for example 1% or 0.5dB")
    number, suffix = float(match.group(1)), (match.group(2) or "").lower()
    if (suffix == "db") != (metric.unit == "dB"):
        wanted = "dB, for example 0.5dB" if metric.unit == "dB" else "a percentage, for example 1%"
        hint = " (1% of distortion is an SNR of 40 dB against the float model)" if metric.name == "distortion" else ""
        raise MetricError(f"--max-drop {text!r}: the metric {metric.name} takes {wanted}{hint}")
    limit = number / 100 if suffix == "%" else number
    if metric.unit != "dB" and limit >= 1:
        raise MetricError(f"--max-drop {text!r}: that allows everything; 1% is written 1% or 0.01")
    return Budget(limit, metric.unit)


def looks_like_classes(outputs: NDArray[Any]) -> bool:
    """Whether rows of the output can be scores of two or more classes."""
    return outputs.ndim == 2 and outputs.shape[1] >= 2


def resolve_metric(
    name: str | None,
    outputs: NDArray[Any],
    labels: NDArray[Any] | None,
    input_shapes: Collection[tuple[int, ...]] = (),
) -> Metric:
    """The metric by name, or the one that fits the data.

    Without labels the float model is the reference: agreement of the predicted class, or distortion (relative RMS).
    """
    if name is None:
        name = _default_name(outputs, labels, rebuilds_input=outputs.shape in input_shapes)
    if name == "snr" and labels is None:
        name = "distortion"
    metric = BUILT_IN.get(name)
    if metric is None:
        raise MetricError(f"--metric {name!r}: expected one of {', '.join(sorted(BUILT_IN))}, or module:function")
    check_metric(metric, outputs, labels)
    return metric


def _default_name(outputs: NDArray[Any], labels: NDArray[Any] | None, *, rebuilds_input: bool) -> str:
    # An autoencoder's output has rows of numbers too, but its largest one means nothing.
    classes = looks_like_classes(outputs) and not rebuilds_input
    if labels is None:
        return "agreement" if classes else "distortion"
    if classes and labels.ndim == 1 and labels.dtype.kind in "biu":
        return "top1"
    return "auc" if labels.ndim == 1 and labels.dtype.kind in "biu" and set(np.unique(labels)) <= {0, 1} else "mse"


def check_metric(metric: Metric, outputs: NDArray[Any], labels: NDArray[Any] | None) -> None:
    """Raises where the data cannot feed the metric."""
    if metric.needs_labels and labels is None:
        raise MetricError(f"--metric {metric.name} needs labels: add an array `y` to the data, or leave --metric out")
    if metric.name in {"top1", "agreement"} and not looks_like_classes(outputs):
        raise MetricError(
            f"--metric {metric.name} needs class scores (samples, classes), the output is {outputs.shape}"
        )
    if metric.name == "top1" and labels is not None and (labels.ndim != 1 or labels.dtype.kind not in "biu"):
        raise MetricError(f"--metric top1 needs one whole number per sample in `y`, got {labels.dtype} {labels.shape}")
    if metric.name == "top1" and labels is not None:
        check_classes(labels, outputs.shape[1])
    if metric.name == "auc" and labels is not None:
        if labels.ndim != 1 or set(np.unique(labels).tolist()) != {0, 1}:
            raise MetricError("--metric auc needs `y` of zeros and ones, both of them present")
        if outputs.reshape(len(outputs), -1).shape[1] > 2:
            raise MetricError(
                f"--metric auc needs one score (or two classes) per sample, the output is {outputs.shape}"
            )
    if metric.name in {"mse", "snr"} and labels is not None and labels.size != outputs.size:
        raise MetricError(f"--metric {metric.name} needs `y` like the output {outputs.shape}, got {labels.shape}")


def check_classes(labels: NDArray[Any], classes: int) -> None:
    """Raises where a label is no class of the output: all such samples would count as wrong."""
    strays = labels[(labels < 0) | (labels >= classes)]
    if len(strays):
        raise MetricError(
            f"--metric top1: `y` holds {strays[0]}, but the output scores {classes} classes, 0 to {classes - 1}"
        )


def compare(
    metric: Metric,
    candidate: NDArray[Any],
    reference: NDArray[Any],
    labels: NDArray[Any] | None,
    logits: tuple[NDArray[Any], NDArray[Any]] | None = None,
    seed: int = SEED,
) -> Comparison:
    """Scores a candidate's outputs beside the float model's, with paired intervals.

    Without labels, `reference` (the float model's own outputs) is what both are held against. `logits` are what SNR is
    taken of, candidate and reference; else it is taken of the outputs.
    """
    found, truth = _flat(candidate), _flat(reference)
    target = labels if metric.needs_labels and labels is not None else truth
    classes = looks_like_classes(candidate)
    return Comparison(
        metric=metric.name,
        unit=metric.unit,
        candidate=_value_estimate(metric, found, target, seed),
        float_value=metric.value(truth, target),
        drop=_drop_estimate(metric, found, truth, target, seed),
        samples=len(candidate),
        snr_db=snr_db(found, truth) if logits is None else snr_db(*logits),
        argmax_agreement=float(np.mean(found.argmax(1) == truth.argmax(1))) if classes else None,
    )


def drop(metric: Metric, candidate: float, float_value: float) -> float:
    """How much worse a value is, in the metric's unit."""
    worse = float_value - candidate if metric.higher_is_better else candidate - float_value
    if metric.unit != "relative" or metric.name == "distortion":
        return worse
    return worse / max(abs(float_value), 1e-12)


def snr_db(found: NDArray[Any], truth: NDArray[Any]) -> float:
    """Signal-to-noise ratio of `found` with `truth` as the signal."""
    noise, signal = powers(_flat(found), truth)
    return snr_of_powers(float(noise.sum()), float(signal.sum()))


def powers(found: Floats, truth: NDArray[Any]) -> tuple[Floats, Floats]:
    """Summed squares of error and of signal, per sample."""
    reference = _flat(truth)
    return np.sum((found - reference) ** 2, axis=1), np.sum(reference**2, axis=1)


def snr_of_powers(noise: float, signal: float) -> float:
    """Decibels, within +-`MAX_SNR_DB`."""
    if noise == 0:
        return MAX_SNR_DB
    if signal == 0:
        return -MAX_SNR_DB
    return max(-MAX_SNR_DB, min(MAX_SNR_DB, 10 * math.log10(signal / noise)))


def wilson(successes: int, count: int) -> Estimate:
    """A proportion and its Wilson interval."""
    share = successes / count
    centre = (share + Z_95**2 / (2 * count)) / (1 + Z_95**2 / count)
    half = Z_95 * math.sqrt(share * (1 - share) / count + Z_95**2 / (4 * count**2)) / (1 + Z_95**2 / count)
    return Estimate(share, min(max(0.0, centre - half), share), max(min(1.0, centre + half), share))


def mcnemar(lost: int, gained: int, count: int) -> Estimate:
    """Drop of a proportion between paired answers: `lost` right only before, `gained` right only after.

    Agresti and Min's interval: Wald on the discordant pairs, with half a pair added to each cell.
    """
    value = (lost - gained) / count
    b, c, n = lost + 0.5, gained + 0.5, count + 2
    centre = (b - c) / n
    half = Z_95 * math.sqrt(max(0.0, (b + c) - (b - c) ** 2 / n)) / n
    return Estimate(value, max(-1.0, min(centre - half, value)), min(1.0, max(centre + half, value)))


def _value_estimate(metric: Metric, found: Floats, target: NDArray[Any], seed: int) -> Estimate:
    if metric.name in {"top1", "agreement"}:
        hits = _hits(found, target)
        return wilson(int(hits.sum()), len(hits))
    value = metric.value(found, target)
    draws = _bootstrap(metric, (found,), target, seed)[0]
    return _around(value, draws)


def _drop_estimate(metric: Metric, found: Floats, truth: Floats, target: NDArray[Any], seed: int) -> Estimate:
    if metric.name in {"top1", "agreement"}:
        new, old = _hits(found, target), _hits(truth, target)
        return mcnemar(int((old & ~new).sum()), int((new & ~old).sum()), len(new))
    value = drop(metric, metric.value(found, target), metric.value(truth, target))
    new_draws, old_draws = _bootstrap(metric, (found, truth), target, seed)
    draws = np.array([drop(metric, new, old) for new, old in zip(new_draws, old_draws, strict=True)])
    return _around(value, draws)


def _around(value: float, draws: Floats) -> Estimate:
    low, high = np.quantile(draws, [0.025, 0.975])
    return Estimate(value, min(float(low), value), max(float(high), value))


def _bootstrap(metric: Metric, candidates: tuple[Floats, ...], target: NDArray[Any], seed: int) -> list[Floats]:
    """Values of each candidate on the same resamples of the samples."""
    random = np.random.default_rng(seed)
    count = len(target)
    if metric.per_sample is not None:
        scores = [metric.per_sample(candidate, target) for candidate in candidates]
        picks = [random.integers(0, count, count) for _ in range(RESAMPLES)]
        return [np.array([score[pick].mean() for pick in picks]) for score in scores]
    if metric.from_powers is not None:
        power = [powers(candidate, target) for candidate in candidates]
        picks = [random.integers(0, count, count) for _ in range(RESAMPLES)]
        return [np.array([metric.from_powers(n[pick].sum(), s[pick].sum()) for pick in picks]) for n, s in power]
    resamples = RESAMPLES if metric.name in BUILT_IN else FUNCTION_RESAMPLES
    picks = [_usable_pick(metric, random, target) for _ in range(resamples)]
    return [np.array([metric.value(candidate[pick], target[pick]) for pick in picks]) for candidate in candidates]


def _usable_pick(metric: Metric, random: np.random.Generator, target: NDArray[Any]) -> NDArray[np.int64]:
    """A resample; for AUC one that has both classes, drawn within each class."""
    if metric.name != "auc":
        return random.integers(0, len(target), len(target))
    strata = [np.flatnonzero(target == label) for label in (0, 1)]
    return np.concatenate([random.choice(stratum, len(stratum)) for stratum in strata])


def _flat(outputs: NDArray[Any]) -> Floats:
    return outputs.reshape(len(outputs), -1).astype(np.float64)


def _classes(target: NDArray[Any]) -> NDArray[np.int64]:
    """Labels as they are; scores by their largest."""
    return target.argmax(1) if target.ndim == 2 else target.astype(np.int64)


def _hits(outputs: Floats, target: NDArray[Any]) -> NDArray[np.bool_]:
    hits: NDArray[np.bool_] = outputs.argmax(1) == _classes(target)
    return hits


def _top1(outputs: Floats, target: NDArray[Any]) -> Floats:
    return _hits(outputs, target).astype(np.float64)


def _squared_error(outputs: Floats, target: NDArray[Any]) -> Floats:
    errors: Floats = np.mean((outputs - _flat(target)) ** 2, axis=1)
    return errors


def _distortion(noise: float, signal: float) -> float:
    """Relative RMS error against the float model; 1 % is 40 dB."""
    if noise == 0:
        return 0.0
    return min(math.sqrt(noise / signal), MAX_DISTORTION) if signal > 0 else MAX_DISTORTION


def area_under_curve(scores: Floats, labels: NDArray[Any]) -> float:
    """Probability that a positive scores above a negative; ties count half (Mann-Whitney)."""
    values, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    del values
    ends = np.cumsum(counts)
    ranks = (ends - (counts - 1) / 2)[inverse]
    positives = labels == 1
    n_positive, n_negative = int(positives.sum()), int((~positives).sum())
    return float((ranks[positives].sum() - n_positive * (n_positive + 1) / 2) / (n_positive * n_negative))


def _auc(outputs: Floats, target: NDArray[Any]) -> float:
    return area_under_curve(outputs[:, -1] - (outputs[:, 0] if outputs.shape[1] == 2 else 0.0), target)


BUILT_IN: dict[str, Metric] = {
    "top1": Metric("top1", "points", higher_is_better=True, needs_labels=True, per_sample=_top1),
    "auc": Metric("auc", "points", higher_is_better=True, needs_labels=True, whole=_auc),
    "mse": Metric("mse", "relative", higher_is_better=False, needs_labels=True, per_sample=_squared_error),
    "snr": Metric("snr", "dB", higher_is_better=True, needs_labels=True, from_powers=snr_of_powers),
    "agreement": Metric("agreement", "points", higher_is_better=True, needs_labels=False, per_sample=_top1),
    "distortion": Metric("distortion", "relative", higher_is_better=False, needs_labels=False, from_powers=_distortion),
}
"""agreement and distortion hold a candidate against the float model and need no labels."""


def metric_from_function(name: str, function: Callable[[NDArray[Any], NDArray[Any] | None], Any]) -> Metric:
    """A user's `function(outputs, y)`, higher is better, budget in points: one number, or one per sample."""

    def call(outputs: Floats, target: NDArray[Any]) -> float:
        try:
            result = np.asarray(function(outputs, target), dtype=np.float64)
        except Exception as error:
            # The user's code may raise anything; the cause stays chained to ours.
            raise MetricError(f"--metric {name}: the function raised {type(error).__name__}: {error}") from error
        if result.ndim > 1 or (result.ndim == 1 and len(result) != len(outputs)) or not np.isfinite(result).all():
            raise MetricError(
                f"--metric {name}: expected a finite number, or one per sample ({len(outputs)}), got {result.shape}"
            )
        return float(result.mean())

    return Metric(name, "points", higher_is_better=True, needs_labels=True, whole=call)
