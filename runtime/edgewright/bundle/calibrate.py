"""Build the drift reference from calibration data: choose what to watch and where the edges lie, then count."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from .errors import DriftReferenceError
from .manifest import TensorSpec
from .observer import Observer
from .reference import Histogram, Reference, Source
from .statistic import CHANNEL_STATISTICS, Array, Sampling, are_probabilities, channel_statistics, classify, is_numeric

MAX_COLUMNS = 32
MAX_CHANNELS = 4
MAX_CLASSES = 1000
BINS = 20
SAMPLED_VALUES = 4096
"""Values of one channel that are looked at, about: the cost of an observation stays bounded for large pictures."""

CONFIDENCE_EDGES = (
    *(step / 10 for step in range(1, 10)),
    *(0.925, 0.95, 0.96, 0.97, 0.98, 0.99, 0.995, 0.999, 0.9995, 0.9999),
)
"""Fixed, and finer near 1, where trained classifiers live."""

_CHANNEL_AXIS = {"NCHW": 1, "NHWC": 3, "NCL": 1, "NLC": 2, "NCDHW": 1, "NDHWC": 4}

Role = Literal["input", "output"]
Tensors = Mapping[str, NDArray[Any]]


@np.errstate(all="ignore")  # NaN and infinity are data here
def build_reference(
    inputs: Tensors,
    outputs: Tensors,
    labels: NDArray[Any] | None = None,
    tensors: Sequence[TensorSpec] = (),
    *,
    ranked: Collection[str] = (),
) -> Reference:
    """The drift reference of a model.

    Args:
        inputs: calibration inputs as a client sends them, by tensor name.
        outputs: what the shipped model answers to them.
        labels: the true class of each sample, where known: gives the table of accuracy by confidence.
        tensors: specs of inputs and outputs, where known: `layout` tells which axis holds the channels.
        ranked: outputs whose columns are ranks, not classes, though they look like scores (those of top-k).
    """
    layouts = {spec.name: spec.layout for spec in tensors}
    histograms: list[Histogram] = []
    for name, array in sorted(inputs.items()):
        histograms += _features("input", name, array, layouts.get(name))
    for name, array in sorted(outputs.items()):
        histograms += (
            _scores(name, array)
            if name not in ranked and _looks_like_scores(array)
            else _features("output", name, array, layouts.get(name))
        )
    empty = Reference(histograms=tuple(histograms))
    return msgspec.structs.replace(
        _counted(empty, inputs, outputs), confidence_table=_confidence_table(empty, outputs, labels)
    )


def _looks_like_scores(array: NDArray[Any]) -> bool:
    return array.dtype.kind == "f" and array.ndim == 2 and array.shape[1] >= 2


def _features(role: Role, name: str, array: NDArray[Any], layout: str | None) -> list[Histogram]:
    if not is_numeric(array) or not array.size:
        return []
    if array.ndim == 2 and array.shape[1] <= MAX_COLUMNS:
        sources = [Source(tensor=name, statistic="column", index=index) for index in range(array.shape[1])]
        numbers = array.astype(np.float64)
    else:
        sources, numbers = _channel_features(name, array, layout)
    return [_numeric(role, source, _quantile_edges(column)) for source, column in zip(sources, numbers.T, strict=True)]


def _channel_features(name: str, array: NDArray[Any], layout: str | None) -> tuple[list[Source], Array]:
    axis = _CHANNEL_AXIS.get(layout or "")
    if axis is None or axis >= array.ndim or array.shape[axis] > MAX_CHANNELS:
        axis = None
    channels = 1 if axis is None else array.shape[axis]
    sampling = Sampling(axis, _stride(array.shape, axis))
    sources = [
        Source(
            tensor=name,
            statistic=statistic,
            index=None if axis is None else channel,
            axis=axis,
            stride=sampling.stride,
        )
        for channel in range(channels)
        for statistic in CHANNEL_STATISTICS
    ]
    return sources, channel_statistics(array, sampling).reshape(len(array), -1)


def _stride(shape: tuple[int, ...], axis: int | None) -> int:
    """A step that leaves about `SAMPLED_VALUES` values, and has no factor in common with a dimension."""
    kept = [size for place, size in enumerate(shape) if place not in (0, axis)]
    stride = max(1, -(-math.prod(kept) // SAMPLED_VALUES))
    while any(math.gcd(stride, size) > 1 for size in kept):
        stride += 1
    return stride


def _scores(name: str, array: NDArray[Any]) -> list[Histogram]:
    softmax = not are_probabilities(array)
    classes = min(array.shape[1], MAX_CLASSES)
    predicted = Source(tensor=name, statistic="class", softmax=softmax)
    confidence = Source(tensor=name, statistic="confidence", softmax=softmax)
    return [
        Histogram(
            name=f"{name} class", role="output", kind="categorical", edges=(), counts=(0,) * classes, source=predicted
        ),
        _numeric("output", confidence, CONFIDENCE_EDGES),
    ]


def _numeric(role: Role, source: Source, edges: tuple[float, ...]) -> Histogram:
    place = "" if source.index is None else f"[{source.index}]"
    statistic = "" if source.statistic == "column" else f" {source.statistic}"
    return Histogram(
        name=f"{source.tensor}{place}{statistic}",
        role=role,
        kind="numeric",
        edges=edges,
        counts=(0,) * (len(edges) + 1),
        source=source,
    )


def _quantile_edges(numbers: Array) -> tuple[float, ...]:
    """Edges that give bins of about equal counts; a value that many samples share gets a bin of its own."""
    finite = numbers[np.isfinite(numbers)]
    if not finite.size:
        return (0.0,)
    quantiles = np.quantile(finite, np.arange(1, BINS) / BINS, method="lower")
    edges, times = np.unique(quantiles, return_counts=True)
    shared = np.nextafter(edges[times > 1], np.inf)
    return tuple(float(edge) for edge in np.unique(np.concatenate((edges, shared))) if math.isfinite(edge))


def _counted(reference: Reference, inputs: Tensors, outputs: Tensors) -> Reference:
    cells = np.zeros(reference.cells, dtype=np.uint64)
    Observer(reference).observe(inputs, outputs, cells)
    start, counted = 0, []
    for histogram in reference.histograms:
        end = start + len(histogram.counts)
        counted.append(msgspec.structs.replace(histogram, counts=tuple(int(count) for count in cells[start:end])))
        start = end
    return msgspec.structs.replace(reference, histograms=tuple(counted))


def _confidence_table(reference: Reference, outputs: Tensors, labels: NDArray[Any] | None) -> tuple[float, ...] | None:
    """Accuracy in each confidence bin; one imagined sample, as right as the bin's middle says, fills empty bins."""
    histogram = next((h for h in reference.histograms if h.source.statistic == "confidence"), None)
    if labels is None or histogram is None:
        return None
    scores = outputs[histogram.source.tensor]
    if labels.shape != (len(scores),):
        raise DriftReferenceError(
            f"labels: expected one class per sample, shape [{len(scores)}], got {list(labels.shape)}."
        )
    classes, confidence = classify(scores, histogram.source.softmax)
    bins = np.searchsorted(histogram.edges, confidence, side="right")
    total = np.bincount(bins, minlength=len(histogram.counts))
    right = np.bincount(bins, weights=classes == labels, minlength=len(histogram.counts))
    borders = np.array([0.0, *histogram.edges, 1.0])
    middle = (borders[:-1] + borders[1:]) / 2
    return tuple(float(accuracy) for accuracy in (right + middle) / (total + 1))
