"""Does LiteRT compute what the QDQ graph says: operator by operator on real integers, and from end to end?

The graph is cut at every QuantizeLinear. Each part reads integers that the whole graph made of real samples in ONNX
Runtime, and runs there and, emitted, in LiteRT's reference kernels; so a step of difference is that operator's own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from bench.emitters.forms import Forms
from bench.emitters.litert import Array, Litert
from bench.emitters.lossless import AS_STORED
from edgewright.compiler.graph import Graph, from_proto, to_bytes, to_proto
from edgewright.compiler.lower.onnxruntime import Arithmetic, open_session
from edgewright.compiler.tflite.emitter.emit import emit
from edgewright.compiler.tflite.file.write import write

QUANTIZER = "QuantizeLinear"
MOST_CLASSES = 100
"""A net with more outputs rebuilds its input: every element is an answer, right within one step."""


@dataclass(frozen=True)
class Part:
    """What lies between quantizers."""

    operators: str
    """Its ONNX operators but quantizers, in order."""
    inputs: tuple[str, ...]
    output: str
    nodes: tuple[onnx.NodeProto, ...]


def parts(model: onnx.ModelProto) -> Iterator[Part]:
    """One for each QuantizeLinear of an activation."""
    makers = {output: node for node in model.graph.node for output in node.output}
    stored = {weight.name for weight in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == QUANTIZER and node.input[0] not in stored:
            yield _part(model, makers, stored, node)


def _part(model: onnx.ModelProto, makers: Mapping[str, onnx.NodeProto], stored: set[str], last: onnx.NodeProto) -> Part:
    inputs: list[str] = []
    needed: set[str] = set()
    waiting = [last]
    while waiting:
        node = waiting.pop()
        if node.output[0] in needed:
            continue
        needed.add(node.output[0])
        for name in node.input:
            maker = makers.get(name)
            if maker is not None and maker.op_type != QUANTIZER:
                waiting.append(maker)
            elif name and name not in stored and name not in inputs:
                inputs.append(name)
    nodes = tuple(node for node in model.graph.node if node.output[0] in needed)
    kinds = [node.op_type for node in nodes if not node.op_type.endswith("Linear")] or [QUANTIZER]
    return Part("+".join(kinds), tuple(inputs), last.output[0], nodes)


def part_model(model: onnx.ModelProto, part: Part, inputs: Mapping[str, Array], output: Array) -> Graph:
    """The part alone, for arrays of these shapes and types."""
    read = {name for node in part.nodes for name in node.input}
    graph = helper.make_graph(
        list(part.nodes),
        "part",
        [_port(name, array) for name, array in inputs.items()],
        [_port(part.output, output)],
        [weight for weight in model.graph.initializer if weight.name in read],
    )
    return from_proto(helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version))


def _port(name: str, array: Array) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)


def per_operator(graph: Graph, x: NDArray[np.float32]) -> dict[str, int]:
    """Largest difference in steps, by part (operators and the name of what they make)."""
    model = to_proto(graph)
    found = list(parts(model))
    steps = {f"{part.operators} {part.output}": 0 for part in found}
    rows = list(_integers(model, [part.output for part in found], x))
    for part in found:
        alone = part_model(model, part, {name: rows[0][name] for name in part.inputs}, rows[0][part.output])
        exact = open_session(to_bytes(alone), Arithmetic.EXACT)
        litert = Litert(write(emit(alone).model), reference=True)
        for row in rows:
            wanted = exact.run(None, {name: row[name] for name in part.inputs})[0].astype(np.int64)
            given = litert.run_named({name: row[name] for name in part.inputs})[0].astype(np.int64)
            key = f"{part.operators} {part.output}"
            steps[key] = max(steps[key], int(np.abs(given - wanted).max()))
    return steps


def _integers(model: onnx.ModelProto, names: list[str], x: NDArray[np.float32]) -> Iterator[dict[str, Array]]:
    """Of each sample: the input, and every activation as the whole graph rounds it."""
    probed = onnx.ModelProto.FromString(model.SerializeToString())
    known = {value.name for value in probed.graph.output}
    for node in probed.graph.node:
        if node.output[0] in names and node.output[0] not in known:
            zero = next(weight for weight in probed.graph.initializer if weight.name == node.input[2])
            probed.graph.output.append(helper.make_tensor_value_info(node.output[0], zero.data_type, None))
    session = open_session(probed.SerializeToString(), Arithmetic.EXACT)
    port = session.get_inputs()[0].name
    for sample in x:
        outputs = session.run(names, {port: sample[None]})
        yield {port: sample[None], **dict(zip(names, outputs, strict=True))}


def end_to_end(forms: Forms, x: NDArray[np.float32]) -> dict[str, Any]:
    """Answers that are the same, of the whole net."""
    session = open_session(to_bytes(forms.quantized), Arithmetic.EXACT)
    port = session.get_inputs()[0].name
    exact = np.concatenate([session.run(None, {port: sample[None]})[0] for sample in x])
    litert = Litert(write(emit(forms.quantized, AS_STORED).model), reference=True)
    given = litert.real(litert.run(litert.rounded(x)))[0].reshape(exact.shape)
    step = litert.step()
    return {"samples": len(x), "equal_answers": round(equal_answers(given, exact, step), 4)}


def equal_answers(given: Array, exact: Array, step: float) -> float:
    """Share of samples with the same class, or of elements within one step."""
    if given.shape[1] > MOST_CLASSES:
        return float((np.abs(given - exact) <= step * 1.001).mean())
    return float((given.argmax(1) == exact.argmax(1)).mean())
