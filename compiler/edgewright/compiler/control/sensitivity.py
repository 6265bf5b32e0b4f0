"""Measures, once for all targets, what every rounding of a plan does to the outputs when it is alone.

For each tensor that is rounded and each weight, the part of the float model behind it runs once with that one error,
from float activations that are kept. Ranking n operators so costs about n / 2 inferences per sample, not n.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from ..data import Samples
from ..graph import Graph, clone, fixed_batch
from ..lower.workload import Shapes, at_size, operator_costs
from ..quantize.calibration.statistics import Statistics
from ..quantize.plan import Encoding, Plan
from ..quantize.rules.lookup import rules_of
from ..quantize.rules.rules import Rules
from ..quantize.weights import restored, rounded, weight_array
from .groups import Structure, results_of
from .noise import Measured, Sensitivity, Source, levels_of, rounded_values, tensor_error, weight_error
from .suffix import Arrays, Part, behind, between, open_part, open_whole

MAX_SAMPLES = 32
WORTH_A_LOOK = 0.02
"""Share of all noise from which the alternatives of a rounding are measured; others are scaled by their own error."""
MAX_CACHE_BYTES = 256 << 20
"""Of activations that are kept; nets with large ones are measured on fewer samples."""


def measure_sensitivity(
    graph: Graph,
    plan: Plan,
    structure: Structure,
    statistics: Statistics,
    tune: Samples,
    alternatives: Mapping[str, Sequence[Encoding]],
) -> Sensitivity:
    """Runs the parts of the model.

    Args:
        graph: the float graph, equalised where the plan is.
        plan: the plain plan.
        structure: of the plan.
        statistics: of the graph's activations.
        tune: samples to choose from, evenly.
        alternatives: other encodings, by the name of the rounding; measured where the rounding matters.
    """
    shapes = {name: (fixed_batch(graph) or 1, *array.shape[1:]) for name, array in tune.inputs.items()}
    bench = _Bench(graph, shapes, structure, plan)
    bench.keep_float_activations(_chosen(tune, graph, bench.bytes_per_sample))
    tensors = {name: bench.tensor_source(name, statistics) for name in structure.roundings}
    operators = [name for group in structure.groups for name in group.operators]
    weights = {name: bench.weight_source(name) for name in operators if plan.operators[name].weight is not None}
    total = sum(source.noise for source in (*tensors.values(), *weights.values()))
    others = {
        name: bench.measured(name, alternatives[name])
        for name, source in tensors.items()
        if source.noise > WORTH_A_LOOK * total and alternatives.get(name)
    }
    return Sensitivity(
        samples=bench.samples, sample_runs=bench.sample_runs, weights=weights, tensors=tensors, others=others
    )


def _chosen(tune: Samples, graph: Graph, bytes_per_sample: int) -> list[Samples]:
    """Calls of the model: samples at even distances, in whole batches."""
    count = min(MAX_SAMPLES, len(tune), max(1, MAX_CACHE_BYTES // max(1, bytes_per_sample)))
    batch = fixed_batch(graph)
    step = batch or count
    places = np.linspace(0, len(tune) - 1, count).astype(np.intp)
    if batch is not None:
        places = np.resize(places, -(-count // batch) * batch)
    return [tune.take(places[start : start + step]) for start in range(0, len(places), step)]


@dataclass
class _Bench:
    """The float model, its activations on a few samples, and a count of what was run."""

    graph: Graph
    shapes: Shapes
    structure: Structure
    plan: Plan
    calls: list[Arrays] = field(default_factory=list)
    samples: int = 0
    sample_runs: float = 0.0

    def __post_init__(self) -> None:
        self.nodes = {node.name or "": node for node in self.graph.graph}
        fixed = at_size(self.graph, self.shapes)
        self._rules = rules_of(self.plan.scheme)
        self._macs = {name: cost.macs for name, cost in operator_costs(fixed, "float32").items()}
        self._outputs = [value.name or "" for value in self.graph.graph.outputs]
        self._needed = self._tensors_to_keep()
        values = {value.name: value for node in fixed.graph for value in node.outputs}
        self.bytes_per_sample = sum(_bytes_of(values[name]) for name in self._needed if name in values)

    def _tensors_to_keep(self) -> list[str]:
        results = [
            results_of(self.nodes[name], self._rules)
            for group in self.structure.groups
            for name in group.operators
            if self.plan.operators[name].weight is not None
        ]
        tensors = {*self.structure.roundings, *(value.name or "" for values in results for value in values)}
        kept = dict.fromkeys(self._outputs)
        for tensor in sorted(tensors):
            kept |= dict.fromkeys((tensor, *behind(self.graph, tensor).inputs))
        for values in results:
            first = _first_of(values[0], self._rules)
            kept |= dict.fromkeys(between(first, values).inputs)
        return list(kept)

    def keep_float_activations(self, calls: Iterable[Samples]) -> None:
        """Runs the float model and keeps what the parts need."""
        session = open_whole(self.graph, self._needed)
        names = [output.name for output in session.get_outputs()]
        for call in calls:
            values = session.run(names, call.inputs)
            self.calls.append({**call.inputs, **dict(zip(names, map(np.asarray, values), strict=True))})
            self.samples += len(call)
        self.sample_runs += self.samples
        self._signal = {name: sum(_power(call[name]) for call in self.calls) for name in self._outputs}

    def tensor_source(self, rounding: str, statistics: Statistics) -> Source:
        """That tensor alone, rounded as planned."""
        encoding = self.plan.tensors[rounding]
        local = tensor_error(statistics.tensors[rounding], encoding)
        return Source(noise=self.noises_of_tensor(rounding, [encoding])[0], local=local)

    def weight_source(self, operator: str) -> Source:
        """The weight of that operator alone, rounded as planned."""
        encoding, weight = self.plan.operators[operator].weight, weight_array(self.nodes[operator])
        if encoding is None or weight is None:
            raise ValueError(f"operator {operator!r} has no constant weight that the plan could round")
        return Source(noise=self.noise_of_weight(operator), local=weight_error(weight, encoding))

    def measured(self, rounding: str, encodings: Sequence[Encoding]) -> tuple[Measured, ...]:
        """That tensor alone, rounded in other ways."""
        noises = self.noises_of_tensor(rounding, encodings)
        return tuple(
            Measured(low=encoding.low, high=encoding.high, levels=levels_of(encoding), noise=noise)
            for encoding, noise in zip(encodings, noises, strict=True)
        )

    def noises_of_tensor(self, rounding: str, encodings: Sequence[Encoding]) -> list[float]:
        """At the outputs, when that tensor alone is rounded to each of the encodings."""
        changed = [[rounded_values(call[rounding], encoding) for call in self.calls] for encoding in encodings]
        return self._noises(rounding, changed)

    def noise_of_weight(self, operator: str) -> float:
        """At the outputs, when the weight of that operator alone is rounded."""
        copy = clone(self.graph)
        node = next(node for node in copy.graph if node.name == operator)
        _round_weight(copy, node, self.plan)
        results = results_of(node, self._rules)[:1]
        part = between(node, results)
        session = open_part(copy, part, self.calls[0])
        self._count(part)
        changed = [
            np.asarray(session.run(list(part.outputs), {name: call[name] for name in part.inputs})[0])
            for call in self.calls
        ]
        return self._noises(results[0].name or "", [changed])[0]

    def _noises(self, tensor: str, versions: Sequence[Sequence[NDArray[Any]]]) -> list[float]:
        part = behind(self.graph, tensor)
        session = open_part(self.graph, part, self.calls[0]) if part.outputs else None
        noises = []
        for version in versions:
            errors = dict.fromkeys(self._outputs, 0.0)
            for call, changed in zip(self.calls, version, strict=True):
                if tensor in errors:
                    errors[tensor] += _power(changed - call[tensor])
                if session is not None:
                    inputs = {name: call[name] for name in part.inputs} | {tensor: changed}
                    found = session.run(list(part.outputs), inputs)
                    for name, array in zip(part.outputs, found, strict=True):
                        errors[name] += _power(np.asarray(array) - call[name])
            self._count(part)
            noises.append(sum(_relative(errors[name], self._signal[name]) for name in self._outputs))
        return noises

    def _count(self, part: Part) -> None:
        total = sum(self._macs.values())
        share = sum(self._macs.get(name, 0) for name in part.nodes) / total if total else 1.0
        self.sample_runs += share * self.samples


def _first_of(result: ir.Value, rules: Rules) -> ir.Node:
    """The operator that a result is of, seen through an absorbed activation."""
    maker = result.producer()
    if maker is None:
        raise ValueError(f"value {result.name!r} is no result of an operator")
    source = maker.inputs[0].producer() if maker.inputs and maker.inputs[0] is not None else None
    return source if source is not None and results_of(source, rules)[0] is result else maker


def _round_weight(copy: Graph, node: ir.Node, plan: Plan) -> None:
    """Gives the node the weight, and the bias, that an emitter would round."""
    operator, weight = plan.operators[node.name or ""], weight_array(node)
    if operator.weight is None or weight is None:
        raise ValueError(f"node {node.name!r} has no weight to round")
    _replace(copy, node, 1, restored(rounded(weight, operator.weight), operator.weight))
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    if operator.bias_correction and bias is not None and bias.const_value is not None:
        _replace(copy, node, 2, bias.const_value.numpy() + np.asarray(operator.bias_correction, dtype=np.float32))


def _replace(copy: Graph, node: ir.Node, index: int, array: NDArray[Any]) -> None:
    name = f"{node.name}_input_{index}_rounded"
    value = ir.Value(
        name=name,
        const_value=ir.tensor(array.astype(np.float32), name=name),
        type=ir.TensorType(ir.DataType.FLOAT),
        shape=ir.Shape(array.shape),
    )
    copy.graph.register_initializer(value)
    node.replace_input_with(index, value)


def _bytes_of(value: ir.Value) -> int:
    sizes = [] if value.shape is None else [size if isinstance(size, int) else 1 for size in value.shape]
    return int(np.prod(sizes, dtype=np.int64)) * 4


def _power(array: NDArray[Any]) -> float:
    return float(np.sum(array.astype(np.float64) ** 2))


def _relative(noise: float, signal: float) -> float:
    return noise / signal if signal > 0 else 0.0
