"""Count what a model sees and says, on the edges of the drift reference. Runs for every request: it has to be quick.

One step counts all histograms that come out of one computation: a step turns a batch into one number per sample and
histogram, finds all bins with one comparison against all edges, and adds them to the cells.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .reference import Histogram, Reference
from .statistic import CHANNEL_STATISTICS, Array, Sampling, channel_statistics, classify, is_numeric

Cells = NDArray[np.uint64]
Bins = NDArray[np.intp]
Member = tuple[Histogram, int]
"""A histogram, and where its counts start in the cells."""

ROWS_AT_ONCE = 1024
"""Bounds the memory of one step on a large batch."""


class Observer:
    """Counts batches into the caller's cells; keeps no counts of its own, so any number of threads may share it."""

    def __init__(self, reference: Reference) -> None:
        self.cells = reference.cells
        """Length of the flat array of counters: all histograms, one after the other, in the reference's order."""
        self._inputs: list[tuple[str, _Step]] = []
        self._outputs: list[tuple[str, _Step]] = []
        for (role, tensor), members in _by_tensor(reference).items():
            steps = self._inputs if role == "input" else self._outputs
            steps.extend((tensor, step) for step in _steps(members))

    def observe(self, inputs: Mapping[str, NDArray[Any]], outputs: Mapping[str, NDArray[Any]], cells: Cells) -> None:
        """Add one count per sample to each histogram whose tensor is present; a tensor of another form is left out."""
        with np.errstate(all="ignore"):  # NaN and infinity are data here
            for tensor, step in self._inputs:
                _count(step, inputs.get(tensor), cells)
            for tensor, step in self._outputs:
                _count(step, outputs.get(tensor), cells)


class _Step(Protocol):
    def fits(self, array: NDArray[Any]) -> bool:
        """Whether the array has the rank and width that the histograms were made for."""

    def bins(self, array: NDArray[Any]) -> Bins:
        """Cell to count in, [samples, histograms]."""


class _Edges:
    """Finds the cells of numbers, one column per histogram."""

    def __init__(self, members: list[Member]) -> None:
        self._starts = np.array([start for _, start in members], dtype=np.intp)
        self._edges = np.full((len(members), max(len(histogram.edges) for histogram, _ in members)), np.inf)
        self._last = np.array([len(histogram.edges) for histogram, _ in members], dtype=np.intp)
        for row, (histogram, _) in enumerate(members):
            self._edges[row, : len(histogram.edges)] = histogram.edges

    def cells_of(self, numbers: Array) -> Bins:
        # "not below" is also true of NaN, which therefore falls into the last bin
        below = np.less(numbers[:, :, None], self._edges)
        bins: Bins = np.add.reduce(np.logical_not(below, out=below), axis=2, dtype=np.intp)
        np.minimum(bins, self._last, out=bins)  # infinity is not below the infinities that fill up a row
        bins += self._starts
        return bins


class _Columns:
    """The values of a rank-2 tensor's columns."""

    def __init__(self, members: list[Member]) -> None:
        self._columns = np.array([histogram.source.index for histogram, _ in members], dtype=np.intp)
        self._needed = int(self._columns.max()) + 1
        self._all = bool(np.array_equal(self._columns, np.arange(self._needed)))
        self._edges = _Edges(members)

    def fits(self, array: NDArray[Any]) -> bool:
        return array.ndim == 2 and array.shape[1] >= self._needed

    def bins(self, array: NDArray[Any]) -> Bins:
        if not self._all or array.shape[1] != self._needed:
            array = array.take(self._columns, axis=1)
        return self._edges.cells_of(array.astype(np.float64))


class _Channels:
    """Mean, spread and the like, over samples or their channels."""

    def __init__(self, sampling: Sampling, members: list[Member]) -> None:
        self._sampling = sampling
        sources = [histogram.source for histogram, _ in members]
        self._needed = max(source.index or 0 for source in sources) + 1
        width = len(CHANNEL_STATISTICS)
        self._picked = np.array(
            [(source.index or 0) * width + CHANNEL_STATISTICS.index(source.statistic) for source in sources]
        )
        self._all = bool(np.array_equal(self._picked, np.arange(self._needed * width)))
        self._edges = _Edges(members)

    def fits(self, array: NDArray[Any]) -> bool:
        axis = self._sampling.axis
        return array.ndim >= 1 if axis is None else array.ndim > axis and array.shape[axis] >= self._needed

    def bins(self, array: NDArray[Any]) -> Bins:
        numbers = channel_statistics(array, self._sampling)
        numbers = numbers.reshape(len(numbers), -1)
        if not self._all or numbers.shape[1] != len(self._picked):
            numbers = numbers.take(self._picked, axis=1)
        return self._edges.cells_of(numbers)


class _Scores:
    """The predicted class and its probability."""

    def __init__(self, softmax: bool, members: list[Member]) -> None:
        self._softmax = softmax
        classes = [member for member in members if member[0].kind == "categorical"]
        confidences = [member for member in members if member[0].kind == "numeric"]
        self._class_starts = np.array([start for _, start in classes], dtype=np.intp)
        self._last_class = np.array([len(histogram.counts) - 1 for histogram, _ in classes], dtype=np.intp)
        self._edges = _Edges(confidences) if confidences else None

    def fits(self, array: NDArray[Any]) -> bool:
        return array.ndim == 2 and array.shape[1] >= 2

    def bins(self, array: NDArray[Any]) -> Bins:
        classes, confidence = classify(array, self._softmax)
        class_cells = np.minimum(classes[:, None], self._last_class)
        class_cells += self._class_starts
        if self._edges is None:
            return class_cells
        return np.concatenate((class_cells, self._edges.cells_of(confidence[:, None])), axis=1)


def _by_tensor(reference: Reference) -> dict[tuple[str, str], list[Member]]:
    groups: dict[tuple[str, str], list[Member]] = {}
    start = 0
    for histogram in reference.histograms:
        groups.setdefault((histogram.role, histogram.source.tensor), []).append((histogram, start))
        start += len(histogram.counts)
    return groups


def _steps(members: Iterable[Member]) -> Iterable[_Step]:
    columns: list[Member] = []
    channels: dict[Sampling, list[Member]] = {}
    scores: dict[bool, list[Member]] = {}
    for member in members:
        source = member[0].source
        if source.statistic == "column":
            columns.append(member)
        elif source.statistic in CHANNEL_STATISTICS:
            channels.setdefault(Sampling(source.axis, source.stride), []).append(member)
        else:
            scores.setdefault(source.softmax, []).append(member)
    if columns:
        yield _Columns(columns)
    yield from (_Channels(sampling, group) for sampling, group in channels.items())
    yield from (_Scores(softmax, group) for softmax, group in scores.items())


def _count(step: _Step, array: NDArray[Any] | None, cells: Cells) -> None:
    if array is None or not array.size or not is_numeric(array) or not step.fits(array):
        return
    if len(array) == 1:
        cells[step.bins(array)[0]] += _ONE  # the cells of one sample are all different
        return
    for row in range(0, len(array), ROWS_AT_ONCE):
        np.add.at(cells, step.bins(array[row : row + ROWS_AT_ONCE]).ravel(), _ONE)


_ONE = np.uint64(1)
