"""What LiteRT must give for a graph, float or quantized.

A quantized graph is judged operator by operator: LiteRT is asked for all integers that the graph names, ONNX Runtime is
given the same integers wherever it reads some, and what each then makes of equal inputs may differ by a step.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper, numpy_helper

from edgewright.compiler.graph import Graph, from_proto, to_proto
from edgewright.compiler.metrics import snr_db
from edgewright.compiler.tflite.emitter.emit import emit
from edgewright.compiler.tflite.file.model import Array, Model
from edgewright.compiler.tflite.file.read import read
from edgewright.compiler.tflite.file.write import write
from edgewright.compiler.tflite.reader.read_graph import graph_of
from tests.compiler.tflite.runs import run_litert, run_onnx

FLOAT_TOLERANCE = 1e-4
"""Of the largest number."""
STEPS = 1
"""Between equal inputs."""
SAME_DB = 200.0
UNREFERENCED = {"ELU", "ROUND", "CEIL"}
"""Operators without a reference kernel in LiteRT 2.3."""
LEAST_DB = 30.0
"""Of floats that are rounded somewhere, summed in two orders."""


@dataclass(frozen=True)
class Cut:
    """Integers that a graph computes, and how it reads them."""

    integers: str
    real: str
    """What one DequantizeLinear makes of them."""
    scale: float
    zero_point: int
    kind: str
    operators: tuple[str, ...]
    """What is between them and other integers."""
    coarsest: float
    """The largest step among these other integers."""

    def of(self, real: Array) -> Array:
        """The integers of exact multiples of the step."""
        bounds = np.iinfo(self.kind)
        steps = np.rint(real.astype(np.float64) / self.scale) + self.zero_point
        return np.asarray(np.clip(steps, bounds.min, bounds.max).astype(self.kind))

    def steps(self, longest: int) -> int:
        """How many may lie between; `longest` is the longest side.

        In 16 bits LiteRT's kernels look Tanh and Softmax up in tables of 513 places, and Softmax counts what is far
        below the largest as exp(-10), 1.5 steps (lite/kernels/internal/reference/softmax.h). What kernels give in one
        encoding alone, or in that of what they read, is rounded twice where the graph wants another. Resize by the
        integer kernel counts places in 1024ths, half of one off per place.
        """
        last = self.operators[-1] if self.operators else ""
        if "Resize" in self.operators and longest > 1:
            return STEPS + math.ceil(int(np.iinfo(self.kind).max) * longest / 1024)
        if self.kind == "int16":
            return {"Tanh": 4, "Sigmoid": 8, "Softmax": 4 + 2 * longest}.get(last, STEPS)
        first = {"Softmax": 1 / 256, "Sigmoid": 1 / 256, "Tanh": 1 / 128, "HardSigmoid": 1 / 256}
        before = max([first[each] for each in self.operators if each in first], default=self.coarsest)
        return STEPS + math.ceil(0.5 * before / self.scale) * (before != self.scale)


def float_problems(graph: Graph, feeds: Mapping[str, Array]) -> list[str]:
    """Where LiteRT's kernels and ONNX Runtime differ by more than rounding."""
    wanted, model = run_onnx(graph, feeds), emit(graph).model
    found = []
    for slow in _resolvers(model):
        given = run_litert(model, feeds, reference=slow)
        found += [
            f"{name}{' (reference)' if slow else ''}: {problem}"
            for name, array in wanted.items()
            if (problem := _difference(given[name], array)) is not None
        ]
    return found


def _resolvers(model: Model) -> tuple[bool, ...]:
    """The fast kernels, and the reference ones where there are some for all operators."""
    lacking = any(
        each.type in UNREFERENCED or (each.type, each.version) == ("DEPTH_TO_SPACE", 2) for each in model.operators
    )
    return (False,) if lacking else (False, True)


def _difference(found: Array, wanted: Array) -> str | None:
    if found.shape != wanted.shape or found.dtype != wanted.dtype:
        return f"{found.dtype} {found.shape}, expected {wanted.dtype} {wanted.shape}"
    if wanted.dtype.kind != "f":
        return None if np.array_equal(found, wanted) else f"{(found != wanted).sum()} of {wanted.size} differ"
    finite = np.isfinite(wanted)
    if not np.array_equal(found[~finite], wanted[~finite], equal_nan=True):
        return "numbers that are not finite differ"
    largest = np.abs(wanted[finite]).max(initial=0)
    error = np.abs(found[finite].astype(np.float64) - wanted[finite]).max(initial=0)
    return None if error <= FLOAT_TOLERANCE * max(largest, 1e-20) else f"{error:.3g} off, the largest is {largest:.3g}"


def integer_problems(graph: Graph, feeds: Mapping[str, Array]) -> list[str]:
    """Where one operator of LiteRT makes other integers of the same ones."""
    proto = to_proto(graph)
    cuts = cuts_of(proto)
    watched, forced = _watched(proto, cuts), _forced(proto, cuts)
    plain, model = emit(graph).model, emit(watched).model
    problems = []
    for slow in _resolvers(model):
        given = run_litert(model, feeds, reference=slow)
        integers = {f"{cut.integers}_forced": cut.of(given[cut.real]) for cut in cuts}
        wanted = run_onnx(forced, {**feeds, **integers})
        found = [_apart(cut, integers[f"{cut.integers}_forced"], wanted[cut.integers]) for cut in cuts]
        for output in proto.graph.output:
            if all(cut.real != output.name for cut in cuts):
                problem = _difference(given[output.name], wanted[output.name])
                found.append(None if problem is None else f"{output.name}: {problem}")
        alone = run_litert(plain, feeds, reference=slow)
        found += [
            f"{name}: other numbers where other results are outputs too, {snr_db(array, given[name]):.1f} dB"
            for name, array in alone.items()
            if snr_db(array, given[name]) < (SAME_DB if _is_integer(plain) else LEAST_DB)
        ]
        problems += [f"{each}{' (reference)' if slow else ''}" for each in found if each is not None]
    return problems


def _is_integer(model: Model) -> bool:
    """Whether nothing but conversions computes on floats."""
    return all(
        operator.type in {"QUANTIZE", "DEQUANTIZE"} or model.tensors[operator.outputs[0]].type != "FLOAT32"
        for operator in model.operators
    )


def _apart(cut: Cut, found: Array, wanted: Array) -> str | None:
    if found.shape != wanted.shape:
        return f"{cut.integers}: {found.shape}, expected {wanted.shape}"
    steps = found.astype(np.int64) - wanted.astype(np.int64)
    worst = int(np.abs(steps).max(initial=0))
    if worst <= cut.steps(max(found.shape, default=1)):
        return None
    return (
        f"{cut.integers} ({', '.join(cut.operators)}; step {cut.scale:.3g}, inputs' {cut.coarsest:.3g}) is {worst} "
        f"steps off, {np.mean(np.abs(steps) > 0):.1%} are off, {steps.mean():+.2f} on average"
    )


def cuts_of(proto: onnx.ModelProto) -> list[Cut]:
    """All computed integers that are dequantized."""
    constants = {tensor.name: tensor for tensor in proto.graph.initializer}
    producers = {name: node for node in proto.graph.node for name in node.output}
    found: dict[str, Cut] = {}
    for node in proto.graph.node:
        if node.op_type != "DequantizeLinear" or node.input[0] in constants or node.input[0] in found:
            continue
        scale, zero = (numpy_helper.to_array(constants[name]) for name in node.input[1:3])
        operators, steps = _between(producers, constants, node.input[0])
        found[node.input[0]] = Cut(
            node.input[0], node.output[0], float(scale), int(zero), zero.dtype.name, operators, steps
        )
    return list(found.values())


def _between(
    producers: Mapping[str, onnx.NodeProto], constants: Mapping[str, onnx.TensorProto], name: str
) -> tuple[tuple[str, ...], float]:
    """The operators back to other integers, and the largest step of these."""
    waiting, operators, steps = [name], [], 0.0
    while waiting:
        node = producers.get(waiting.pop())
        if node is None:
            continue
        if node.op_type == "DequantizeLinear":
            if node.input[0] not in constants:
                steps = max(steps, float(numpy_helper.to_array(constants[node.input[1]])))
            continue
        operators += [node.op_type] if node.op_type != "QuantizeLinear" else []
        waiting += node.input[:1] if node.op_type == "QuantizeLinear" else node.input
    return tuple(reversed(operators)), steps


def _watched(proto: onnx.ModelProto, cuts: list[Cut]) -> Graph:
    """The graph that also gives what its integers mean."""
    made = onnx.ModelProto()
    made.CopyFrom(proto)
    given = {output.name for output in made.graph.output}
    known = {value.name: value for value in made.graph.value_info}
    for cut in cuts:
        if cut.real not in given:
            made.graph.output.append(known.get(cut.real) or onnx.ValueInfoProto(name=cut.real))
    return from_proto(made)


def _forced(proto: onnx.ModelProto, cuts: list[Cut]) -> Graph:
    """The graph that is given the integers it reads, and gives those it makes."""
    made = onnx.ModelProto()
    made.CopyFrom(proto)
    kinds = {cut.integers: helper.np_dtype_to_tensor_dtype(np.dtype(cut.kind)) for cut in cuts}
    for node in made.graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in kinds:
            node.input[0] = f"{node.input[0]}_forced"
    kept = [output for output in made.graph.output if all(cut.real != output.name for cut in cuts)]
    del made.graph.output[:]
    made.graph.output.extend(kept)
    for name, kind in kinds.items():
        made.graph.output.append(helper.make_tensor_value_info(name, kind, None))
        made.graph.input.append(helper.make_tensor_value_info(f"{name}_forced", kind, None))
    return from_proto(made)


def reading_problems(model: Model, feeds: Mapping[str, Array]) -> list[str]:
    """What changes where a written file is read, written again and run."""
    content = write(model)
    again = write(emit(graph_of(read(content, "net"), "net")).model)
    found = []
    for slow in _resolvers(model):
        first, second = (run_litert(each, feeds, reference=slow) for each in (content, again))
        found += [
            f"{name}: other bits after reading{' (reference)' if slow else ''}"
            for name, array in first.items()
            if not np.array_equal(array, second[name], equal_nan=True)
        ]
    return found
