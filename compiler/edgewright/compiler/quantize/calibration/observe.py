"""Calibration: runs the float graph over samples, looks at every float activation, and keeps none of them.

Memory stays bounded: samples go in chunks and, where one call alone would be too much, activations are watched in
groups, one run over all samples per group.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from ...data import Samples
from ...graph import Graph, clone, fixed_batch
from ...lower.model_file import discard, write_model
from ...lower.onnxruntime import CHUNK_SAMPLES, Arithmetic, Chunk, open_session, run_chunks
from ...scratch import Scratch
from .channels import ChannelCollector
from .statistics import ChannelStatistics, Statistics, TensorStatistics

WATCHED_BYTES = 48 << 20
"""Of activations that one call gives back. The engine holds them too while it hands them over: twice this is used."""
FLOAT_BYTES = 4


def collect(
    graph: Graph,
    samples: Samples,
    scratch: Scratch,
    advance: Callable[[int], None] = lambda _: None,
    watched_bytes: int = WATCHED_BYTES,
) -> Statistics:
    """Statistics of all float32 inputs and activations of the main graph; `advance` hears how many samples are done.

    Samples are in the model's types. What padding to a fixed batch adds is left out wherever the first axis of an
    activation is as long as the batch.

    Raises:
        DataError: the engine refuses the values.
    """
    collector = _Collector(channel_axes(graph))
    floats = [value.name for value in graph.graph.inputs if value.name and _is_float(value)]
    for chunk in _chunks(samples, CHUNK_SAMPLES):
        for name in floats:
            collector.add(name, chunk.inputs[name])
    batch = fixed_batch(graph) or 1
    groups = grouped(bytes_per_sample(graph, samples, scratch), watched_bytes // batch)
    progress = _Progress(len(groups), advance)
    if not groups:
        advance(len(samples))
    for group in groups:
        step = max(batch, min(CHUNK_SAMPLES, watched_bytes // max(1, sum(group.values()))))
        for called in _calls(with_outputs(graph, list(group)), samples, step, scratch):
            for name, array in called.outputs.items():
                collector.add(name, _without_padding(array, called))
            progress.step(called.kept)
    return Statistics(len(samples), collector.tensors, collector.finished_channels())


def channel_axes(graph: Graph) -> dict[str, set[int]]:
    """Activations that are looked at channel by channel: axis 1 where a convolution reads, -1 where a product does."""
    axes: dict[str, set[int]] = {}
    for node in graph.graph:
        value = node.inputs[0] if node.inputs else None
        if value is None or not value.name or value.const_value is not None or not _is_float(value):
            continue
        if node.op_type in {"Conv", "ConvTranspose"}:
            axes.setdefault(value.name, set()).add(1)
        elif node.op_type in {"Gemm", "MatMul"} and _has_weight(node) and not node.attributes.get_int("transA", 0):
            axes.setdefault(value.name, set()).add(-1)
    return axes


def _is_float(value: ir.Value) -> bool:
    """Whether it is known to be a float32 tensor; operators that shape inference cannot see into leave it open."""
    return isinstance(value.type, ir.TensorType) and value.dtype == ir.DataType.FLOAT


def _has_weight(node: ir.Node) -> bool:
    weight = node.inputs[1]
    return weight is not None and weight.const_value is not None


def grouped(sizes: Mapping[str, int], limit: int) -> list[dict[str, int]]:
    """Cuts activations, in their order, into groups whose bytes sum to at most `limit`; a larger one stands alone."""
    groups: list[dict[str, int]] = []
    for name, size in sizes.items():
        if not groups or sum(groups[-1].values()) + size > limit:
            groups.append({})
        groups[-1][name] = size
    return groups


def with_outputs(graph: Graph, names: Sequence[str]) -> Graph:
    """A copy that gives these activations, and nothing else."""
    watched = clone(graph)
    values = {value.name: value for node in watched.graph for value in node.outputs}
    watched.graph.outputs.clear()
    watched.graph.outputs.extend(values[name] for name in names)
    return watched


def bytes_per_sample(graph: Graph, samples: Samples, scratch: Scratch) -> dict[str, int]:
    """How large each float activation of the main graph is, as the engine says: shapes that are free get their size."""
    sized = clone(graph)
    sized.graph.outputs.clear()
    names: dict[str, str] = {}
    for node in list(sized.graph):
        for value in node.outputs:
            if value.name and _is_float(value):
                size = ir.node("Size", [value])
                result = size.outputs[0]
                result.name = f"{value.name}/elements"
                result.type = ir.TensorType(ir.DataType.INT64)
                sized.graph.append(size)
                sized.graph.outputs.append(result)
                names[result.name] = value.name
    if not names:
        return {}
    batch = fixed_batch(graph) or 1
    called = next(_calls(sized, samples.take(np.arange(1)), 1, scratch))
    return {names[name]: -(-int(array) * FLOAT_BYTES // batch) for name, array in called.outputs.items()}


def _calls(graph: Graph, samples: Samples, step: int, scratch: Scratch) -> Iterator[Chunk]:
    """Runs a graph over samples, at most `step` of them at once."""
    model = write_model(graph, scratch)
    session = open_session(model, Arithmetic.EXACT)
    discard(model)  # the session keeps its files open
    for chunk in _chunks(samples, step):
        yield from run_chunks(session, chunk.inputs)


def _chunks(samples: Samples, step: int) -> Iterator[Samples]:
    for start in range(0, len(samples), step):
        yield samples.take(np.arange(start, min(start + step, len(samples))))


def _without_padding(array: NDArray[np.float32], called: Chunk) -> NDArray[np.float32]:
    return array[: called.kept] if array.ndim and len(array) == called.given else array


class _Collector:
    """Everything that was seen so far."""

    def __init__(self, axes: Mapping[str, set[int]]) -> None:
        self.tensors: dict[str, TensorStatistics] = {}
        self._channels = {(name, axis): ChannelCollector(axis) for name in axes for axis in sorted(axes[name])}
        self._axes = axes

    def add(self, name: str, array: NDArray[np.float32]) -> None:
        found = TensorStatistics.of(array)
        self.tensors[name] = self.tensors[name].merged(found) if name in self.tensors else found
        for axis in self._axes.get(name, ()):
            self._channels[name, axis].add(array)

    def finished_channels(self) -> dict[tuple[str, int], ChannelStatistics]:
        return {place: found.finished() for place, found in self._channels.items()}


class _Progress:
    """Several runs over the samples count as one."""

    def __init__(self, runs: int, advance: Callable[[int], None]) -> None:
        self._runs = runs
        self._done = 0
        self._advance = advance

    def step(self, count: int) -> None:
        before = self._done // self._runs
        self._done += count
        self._advance(self._done // self._runs - before)
