"""The ways in which a model can ship: as float, or by one of the plans. Made once, shared by all targets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgewright.bundle.manifest import PassRecord, Precision
from edgewright.targets.accumulation import saturating
from edgewright.targets.board import Board

from .data import Samples
from .faults import ModelError, NotQuantizable, first_line
from .graph import Graph, is_quantized
from .logits import with_logits
from .lower.compiled import Compiled, digest_of, open_compiled
from .lower.emulator import Emulator
from .lower.engine_model import EngineModel
from .lower.ethos_u.report import NpuReport
from .lower.model_file import LargeModel, ModelFile, settled, write_model
from .lower.native.library import NativeModel
from .lower.onnxruntime import NAME as ONNX_RUNTIME
from .lower.onnxruntime import Arithmetic, Outputs, check_loads, run
from .quantize.emission import Quantize
from .quantize.half.conversion import Half, HalfPrecision, ToHalf
from .quantize.placement import computes_in_integers, is_boundary
from .quantize.plan import Plan
from .quantize.scheme import Scheme
from .scratch import Scratch

FLOAT = "float32"
NATIVE = "native"
NATIVE_FLOAT = f"{NATIVE}-{FLOAT}"


@dataclass(frozen=True)
class Variant:
    """One model file that could ship."""

    name: str
    precision: Precision
    model: Compiled
    probe: Compiled
    """The same model with its logits as a further output, for scoring; the model itself where it gives them."""
    logits: str | None
    """Name of that output; None where the first output is what decides."""
    plan: Plan | None
    records: tuple[PassRecord, ...]
    graph: Graph
    float_operators: Mapping[str, int] = field(default_factory=dict)
    source: Variant | None = None
    """Of a form for another engine: the ONNX variant that it computes."""
    engine: str = ONNX_RUNTIME
    """Of the board's engines, the one that it is made for."""
    npu: NpuReport | None = None
    """What the compiler of an accelerator says of it."""

    @cached_property
    def probe_digest(self) -> str:
        """Of what is run for scores."""
        return digest_of(self.probe)

    @property
    def onnx(self) -> ModelFile:
        """The ONNX file: its own, or that of which it is a form."""
        written = self.model if self.source is None else self.source.model
        if isinstance(written, NativeModel | EngineModel):
            raise TypeError(f"{self.name}: the source of a form is ONNX")
        return written

    @property
    def plan_name(self) -> str:
        """Of the variant that its plan was made for: its own name, or that of the ONNX model that it is a form of."""
        return self.name if self.source is None else self.source.name

    @property
    def scheme(self) -> Scheme | None:
        """What the plan started from; None for float."""
        return None if self.plan is None else self.plan.scheme

    @property
    def sums(self) -> Scheme | None:
        """The scheme whose int8 sums it has: its plan's, or the usual one of a model that came quantized.

        Native code and LiteRT add in 32 bits on every machine, so they have none.
        """
        if self.source is not None:
            return None
        return Scheme() if self.plan is None and is_quantized(self.graph) else self.scheme


def float_variant(graph: Graph, scratch: Scratch) -> Variant:
    """The optimised float model."""
    return _variant(FLOAT, "float32", graph, scratch)


def plan_variant(graph: Graph, plan: Plan, scratch: Scratch, name: str | None = None) -> Variant:
    """The model as a plan says.

    Raises:
        NotQuantizable: the plan does not fit the graph, or the engine cannot load what it makes of it.
    """
    result = Quantize(plan)(graph, plan.scheme)
    precision: Precision = "float32" if plan.scheme.method == "weights" else "int8"
    variant = _variant(name or plan.scheme.name, precision, result.graph, scratch, plan, (result.record,))
    try:
        check_loads(variant.onnx)
    except Exception as error:  # the binding raises a dozen classes without a common base but Exception
        raise NotQuantizable(f"the quantized model does not load in ONNX Runtime: {first_line(error)}") from error
    return variant


def half_variant(
    graph: Graph, precision: HalfPrecision, board: Board, ranges: Mapping[str, tuple[float, float]], scratch: Scratch
) -> Variant:
    """The model in half precision; `ranges` are those of its activations.

    Raises:
        UnsupportedModel: an operator or a range of the model stands against it.
    """
    result = ToHalf(ranges)(graph, Half(precision=precision), board)
    return _variant(precision, precision, result.graph, scratch, records=(result.record,))


def _variant(
    name: str,
    precision: Precision,
    graph: Graph,
    scratch: Scratch,
    plan: Plan | None = None,
    records: tuple[PassRecord, ...] = (),
) -> Variant:
    graph = settled(graph, scratch)
    model = write_model(graph, scratch)
    probed, logits = with_logits(graph)
    return Variant(
        name=name,
        precision=precision,
        model=model,
        probe=model if logits is None else write_model(probed, scratch),
        logits=logits,
        plan=plan,
        records=records,
        graph=graph,
        float_operators={} if plan is None else operators_in_float(graph),
    )


def operators_in_float(graph: Graph) -> dict[str, int]:
    """Operators of a quantized graph that compute in float."""
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
        found = dict(self._all(variant, arithmetic, part))
        given = [value.name for value in variant.graph.graph.outputs]
        return {name: array for name, array in found.items() if name in given}

    def first(self, variant: Variant, arithmetic: Arithmetic, part: str) -> NDArray[Any]:
        """The first output: the one that metrics score."""
        return next(iter(self._all(variant, arithmetic, part).values()))

    def logits(self, variant: Variant, arithmetic: Arithmetic, part: str) -> NDArray[Any]:
        """What the first output is made of: where SNR is measured."""
        found = self._all(variant, arithmetic, part)
        return found[variant.logits] if variant.logits is not None else next(iter(found.values()))

    def _all(self, variant: Variant, arithmetic: Arithmetic, part: str) -> Outputs:
        wanted = (variant.probe_digest, arithmetic, part)  # not the name: targets repair the same plan differently
        if wanted not in self._known:
            self._known[wanted] = evaluate(variant.probe, self._parts[part], arithmetic, self._threads)
        return self._known[wanted]


def evaluate(model: Compiled, samples: Samples, arithmetic: Arithmetic, threads: int) -> Outputs:
    """Runs a model file over samples.

    Raises:
        ModelError: an output has no row per sample, or is not finite.
    """
    if arithmetic is Arithmetic.SATURATING and isinstance(model, bytes | LargeModel):
        outputs = Emulator(model, saturating).run(samples.inputs)
    else:
        outputs = run(open_compiled(model, arithmetic, threads), samples.inputs)
    for name, array in outputs.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise ModelError(f"output {name!r} holds NaN or infinity on the given data; check the data's scale")
    return outputs
