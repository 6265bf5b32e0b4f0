"""Runs a model bit by bit as ONNX Runtime does on a CPU that is not here.

ONNX Runtime writes its own optimised graph (without layouts that depend on the machine). Sums of int8 products in it
are computed here, exact or saturating as the target's table says; everything between them runs in ONNX Runtime, as
written.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from edgewright.targets.accumulation import Lookup
from edgewright.targets.faults import EnvironmentFault

from ..faults import UnsupportedModel, first_line
from . import onnxruntime as engine
from .model_file import ModelFile
from .onnxruntime import Outputs
from .products import PRODUCTS, as_written

Array = NDArray[Any]
MICROSOFT = "com.microsoft"
SEVERITY_FATAL = 4
NOT_EMULATED = frozenset({"QAttention", "DynamicQuantizeLSTM", "QEmbedLayerNormalization", "QMoE", "QOrderedMatMul"})
"""Operators of ONNX Runtime with int8 products inside; QDQ models never become these on a CPU."""


@dataclass
class _Segment:
    """Nodes that the engine runs at once."""

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    reads: tuple[str, ...] = ()
    gives: tuple[str, ...] = ()
    session: onnxruntime.InferenceSession | None = None


class Emulator:
    """A model on a CPU with other int8 kernels."""

    def __init__(self, model: ModelFile, accumulation: Lookup) -> None:
        """Prepares a model file for a target whose table is given.

        Raises:
            UnsupportedModel: int8 products stand inside operators or subgraphs that cannot be emulated.
        """
        self._lookup = as_written(accumulation) if _operators(model) & PRODUCTS.keys() else accumulation
        proto, self._inputs, self._outputs = _optimised(model)
        self._opsets = proto.opset_import
        self._ir_version = proto.ir_version
        self._constants = {item.name: item for item in proto.graph.initializer}
        self._arrays: dict[str, Array] = {}
        nodes = [part for node in proto.graph.node for part in _divided(node)]
        _refuse(nodes)
        self._steps = _steps(nodes, tuple(output.name for output in self._outputs))
        self._last_reads = _last_reads(self._steps)

    def run(self, inputs: Mapping[str, Array]) -> Outputs:
        """Runs any number of samples, in the batches that the model takes; outputs have one row per sample.

        Raises:
            DataError: the engine refuses the values.
            ModelError: an output's first axis is not the batch.
        """
        return engine.run(_Calls(self._inputs, self._outputs, self.call), inputs)

    def call(self, inputs: Mapping[str, Array]) -> Outputs:
        """One call, of the size that is given."""
        values: dict[str, Array] = dict(inputs)
        names = [output.name for output in self._outputs]
        for index, step in enumerate(self._steps):
            if isinstance(step, _Segment):
                values |= self._run_segment(step, values)
            else:
                values[step.output[0]] = self._run_product(step, values)
            done = [name for name in values if self._last_reads.get(name, -1) <= index and name not in names]
            for name in done:
                del values[name]
        return {name: self._value(name, values) for name in names}

    def _run_product(self, node: onnx.NodeProto, values: Mapping[str, Array]) -> Array:
        operands = [None if not name else self._value(name, values) for name in node.input]
        return PRODUCTS[node.op_type](node, operands, self._lookup)

    def _value(self, name: str, values: Mapping[str, Array]) -> Array:
        return values[name] if name in values else self._array(name)

    def _array(self, name: str) -> Array:
        if name not in self._arrays:
            self._arrays[name] = numpy_helper.to_array(self._constants[name])
        return self._arrays[name]

    def _run_segment(self, segment: _Segment, values: Mapping[str, Array]) -> dict[str, Array]:
        reads = [name for name in segment.reads if name in values]
        if segment.session is None:
            segment.session = self._open(segment, {name: values[name] for name in reads})
        results = segment.session.run(list(segment.gives), {name: values[name] for name in reads})
        return dict(zip(segment.gives, results, strict=True))

    def _open(self, segment: _Segment, values: Mapping[str, Array]) -> onnxruntime.InferenceSession:
        """Types of what it reads are those of the first values that come."""
        inputs = [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), [None] * value.ndim)
            for name, value in values.items()
        ]
        constants = [self._constants[name] for name in segment.reads if name in self._constants]
        outputs = [onnx.ValueInfoProto(name=name) for name in segment.gives]
        graph = helper.make_graph(segment.nodes, "segment", inputs, outputs, constants)
        model = helper.make_model(graph, opset_imports=self._opsets, ir_version=self._ir_version)
        options = _options(onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL)
        return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


@dataclass(frozen=True)
class _Calls:
    """What running samples in batches needs of an `InferenceSession`."""

    inputs: list[Any]
    outputs: list[Any]
    call: Callable[[Mapping[str, Array]], Outputs]

    def get_inputs(self) -> list[Any]:
        return self.inputs

    def get_outputs(self) -> list[Any]:
        return self.outputs

    def run(self, names: list[str], inputs: Mapping[str, Array]) -> list[Array]:
        outputs = self.call(inputs)
        return [outputs[name] for name in names]


def _operators(model: ModelFile) -> set[str]:
    """Operators of the model as it was given."""
    proto = (
        onnx.load_model_from_string(model)
        if isinstance(model, bytes)
        else onnx.load(model.path, load_external_data=False)
    )
    return {node.op_type for node in proto.graph.node}


def _optimised(model: ModelFile) -> tuple[onnx.ModelProto, list[Any], list[Any]]:
    """The graph that ONNX Runtime makes of a model before it thinks of layouts, its inputs and its outputs.

    Raises:
        EnvironmentFault: the temporary folder has no room for it.
    """
    options = _options(onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "optimised.onnx"
        options.optimized_model_filepath = str(path)
        options.add_session_config_entry("session.optimized_model_external_initializers_file_name", "weights.bin")
        source = model if isinstance(model, bytes) else model.path
        try:
            session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # the engine has loaded this model before, so what fails is writing
            raise EnvironmentFault(
                f"emulating another CPU needs room in {tempfile.gettempdir()} (TMPDIR): {first_line(error)}"
            ) from error
        return onnx.load(path), session.get_inputs(), session.get_outputs()


def _options(level: onnxruntime.GraphOptimizationLevel) -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = SEVERITY_FATAL
    options.graph_optimization_level = level
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def _divided(node: onnx.NodeProto) -> Iterable[onnx.NodeProto]:
    """DynamicQuantizeMatMul as the two operators that it stands for."""
    if node.op_type != "DynamicQuantizeMatMul":
        return [node]
    a, b, b_scale, b_zero, bias = (*node.input, "", "", "")[:5]
    stem = f"{node.output[0]}/dynamic"
    quantized, scale, zero = f"{stem}_quantized", f"{stem}_scale", f"{stem}_zero_point"
    return [
        helper.make_node("DynamicQuantizeLinear", [a], [quantized, scale, zero]),
        helper.make_node(
            "MatMulIntegerToFloat", [quantized, b, scale, b_scale, zero, b_zero, bias], node.output, node.name,
            domain=MICROSOFT,
        ),
    ]  # fmt: skip


def _refuse(nodes: Iterable[onnx.NodeProto]) -> None:
    for node in nodes:
        inner = {part.op_type for attribute in node.attribute for part in _inside(attribute)}
        found = sorted(({node.op_type} & NOT_EMULATED) | (inner & (PRODUCTS.keys() | NOT_EMULATED)))
        if found:
            raise UnsupportedModel(
                f"node {node.name!r}: int8 {found[0]} cannot be emulated for another CPU; "
                "compile it for this machine (--target host), or keep it in float"
            )


def _inside(attribute: onnx.AttributeProto) -> Iterable[onnx.NodeProto]:
    """Nodes of subgraphs, at any depth."""
    for graph in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
        for node in graph.node:
            yield node
            for inner in node.attribute:
                yield from _inside(inner)


def _reads(node: onnx.NodeProto) -> set[str]:
    """Everything that a node reads, values that its subgraphs take from outside included."""
    names = {name for name in node.input if name}
    for attribute in node.attribute:
        for inner in _inside(attribute):
            names |= {name for name in inner.input if name}
        for graph in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
            names |= {value.name for value in graph.output}
    return names


def _steps(nodes: list[onnx.NodeProto], outputs: tuple[str, ...]) -> list[_Segment | onnx.NodeProto]:
    """Products one by one, and between them everything that needs no further product, in one segment."""
    depth: dict[str, int] = {}
    segments: dict[int, _Segment] = {}
    products: dict[int, list[onnx.NodeProto]] = {}
    for node in nodes:
        level = max((depth.get(name, 0) for name in _reads(node)), default=0)
        if node.op_type in PRODUCTS:
            products.setdefault(level, []).append(node)
            level += 1
        else:
            segments.setdefault(level, _Segment()).nodes.append(node)
        depth |= {name: level for name in node.output if name}
    steps: list[_Segment | onnx.NodeProto] = []
    for level in range(max((*segments, *products), default=0) + 1):
        steps += [segments[level]] if level in segments else []
        steps += products.get(level, [])
    _connect(steps, outputs)
    return steps


def _connect(steps: list[_Segment | onnx.NodeProto], outputs: tuple[str, ...]) -> None:
    """Says of each segment what it reads from outside and gives to the outside."""
    wanted = set(outputs)
    for step in reversed(steps):
        if not isinstance(step, _Segment):
            wanted |= _reads(step)
            continue
        made = [name for node in step.nodes for name in node.output if name]
        step.gives = tuple(name for name in made if name in wanted)
        step.reads = tuple(sorted({name for node in step.nodes for name in _reads(node)} - set(made)))
        wanted |= set(step.reads)


def _last_reads(steps: list[_Segment | onnx.NodeProto]) -> dict[str, int]:
    return {
        name: index
        for index, step in enumerate(steps)
        for name in (step.reads if isinstance(step, _Segment) else step.input)
    }
