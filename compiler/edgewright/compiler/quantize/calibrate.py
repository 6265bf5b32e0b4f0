"""Ranges of every float activation, from one run over the calibration samples. All targets share them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from ..data import Samples
from ..graph import Graph, clone
from ..lower.model_file import discard, write_model
from ..lower.onnxruntime import Arithmetic, open_session, run_chunks
from ..scratch import Scratch

CHUNK_SAMPLES = 32


@dataclass(frozen=True)
class Ranges:
    """Smallest and largest value of each float tensor, by name."""

    lowest: dict[str, float]
    highest: dict[str, float]
    samples: int


def calibrate(
    graph: Graph, samples: Samples, scratch: Scratch, advance: Callable[[int], None] = lambda _: None
) -> Ranges:
    """Runs the float graph with every activation as an output; `advance` hears how many samples are done."""
    watched = write_model(with_all_outputs(graph), scratch)
    session = open_session(watched, Arithmetic.EXACT)
    discard(watched)  # the session keeps its files open
    lowest: dict[str, float] = {}
    highest: dict[str, float] = {}
    for start in range(0, len(samples), CHUNK_SAMPLES):
        chunk = samples.take(np.arange(start, min(start + CHUNK_SAMPLES, len(samples))))
        _widen(lowest, highest, {name: array for name, array in chunk.inputs.items() if array.dtype.kind == "f"})
        for called in run_chunks(session, chunk.inputs):
            _widen(lowest, highest, called.outputs)  # whatever their first axis means
        advance(len(chunk))
    return Ranges(lowest, highest, len(samples))


def with_all_outputs(graph: Graph) -> Graph:
    """A copy that gives every float activation as an output beside its own."""
    watched = clone(graph)
    shown = {id(value) for value in watched.graph.outputs}
    for node in watched.graph:
        for value in node.outputs:
            # Values whose type is not known come from operators that shape inference cannot see into.
            if value.dtype == ir.DataType.FLOAT and id(value) not in shown:
                watched.graph.outputs.append(value)
    return watched


def _widen(lowest: dict[str, float], highest: dict[str, float], values: dict[str, NDArray[Any]]) -> None:
    for name, array in values.items():
        if array.size and array.dtype.kind == "f":
            lowest[name] = min(lowest.get(name, np.inf), float(array.min()))
            highest[name] = max(highest.get(name, -np.inf), float(array.max()))
