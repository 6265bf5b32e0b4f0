"""The ways in which a model can ship: as float, or in one of the int8 schemes. Made once, shared by all targets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgewright.bundle.manifest import PassRecord, Precision

from .data import Samples
from .faults import ModelError, NotQuantizable, first_line
from .graph import Graph
from .lower.model_file import ModelFile, write_model
from .lower.onnxruntime import Arithmetic, Outputs, open_session, run
from .quantize.calibrate import Ranges
from .quantize.offer import Scheme
from .quantize.placement import computes_in_integers, is_boundary
from .quantize.static import QuantizeStatic
from .scratch import Scratch

FLOAT = "float32"


@dataclass(frozen=True)
class Variant:
    """One model file that could ship."""

    name: str
    precision: Precision
    model: ModelFile
    scheme: Scheme | None
    records: tuple[PassRecord, ...]
    graph: Graph
    float_operators: Mapping[str, int] = field(default_factory=dict)


def float_variant(graph: Graph, scratch: Scratch) -> Variant:
    """The optimised float model."""
    return Variant(FLOAT, "float32", write_model(graph, scratch), None, (), graph)


def int8_variant(graph: Graph, ranges: Ranges, scheme: Scheme, scratch: Scratch) -> Variant:
    """The model in one int8 scheme.

    Raises:
        NotQuantizable: the quantizer cannot handle the graph, or the engine not what the quantizer made of it.
    """
    result = QuantizeStatic(ranges)(graph, scheme)
    model = write_model(result.graph, scratch)
    try:
        open_session(model, Arithmetic.ENGINE)
    except Exception as error:  # the binding raises a dozen classes without a common base but Exception
        raise NotQuantizable(f"the quantized model does not load in ONNX Runtime: {first_line(error)}") from error
    return Variant(
        name=scheme.name,
        precision="int8",
        model=model,
        scheme=scheme,
        records=(result.record,),
        graph=result.graph,
        float_operators=operators_in_float(result.graph),
    )


def operators_in_float(graph: Graph) -> dict[str, int]:
    """Operators of a QDQ graph that compute in float."""
    counts: dict[str, int] = {}
    for node in graph.graph:
        if not is_boundary(node) and not computes_in_integers(node):
            counts[node.op_type] = counts.get(node.op_type, 0) + 1
    return dict(sorted(counts.items()))


class Evaluator:
    """Outputs of variants on the parts of the data, each computed once however many targets ask."""

    def __init__(self, parts: Mapping[str, Samples], threads: int) -> None:
        self._parts = parts
        self._threads = threads
        self._known: dict[tuple[str, Arithmetic, str], Outputs] = {}

    def outputs(self, variant: Variant, arithmetic: Arithmetic, part: str) -> Outputs:
        """All outputs of a variant on one part."""
        wanted = (variant.name, arithmetic, part)
        if wanted not in self._known:
            self._known[wanted] = evaluate(variant.model, self._parts[part], arithmetic, self._threads)
        return self._known[wanted]

    def first(self, variant: Variant, arithmetic: Arithmetic, part: str) -> NDArray[Any]:
        """The first output: the one that metrics score."""
        return next(iter(self.outputs(variant, arithmetic, part).values()))


def evaluate(model: ModelFile, samples: Samples, arithmetic: Arithmetic, threads: int) -> Outputs:
    """Runs a model file over samples.

    Raises:
        ModelError: an output has no row per sample, or is not finite.
    """
    outputs = run(open_session(model, arithmetic, threads), samples.inputs)
    for name, array in outputs.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise ModelError(f"output {name!r} holds NaN or infinity on the given data; check the data's scale")
    return outputs
