"""Turns a float graph and a static plan into QDQ ONNX, by the rules of `plan.py`.

Names tell what they are: `NAME_quantized` and `NAME_dequantized` stand beside the float tensor NAME, and
`NODE_weight`, `NODE_bias` beside a node. Graph inputs and outputs keep their names and types.
"""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from onnx_ir.passes.common import RemoveUnusedNodesPass, RemoveUnusedOpsetsPass, TopologicalSortPass

from ..clamp import MAX_ABSORBED_SHARE_OF_STEP, bounds_of
from ..faults import NotQuantizable
from ..graph import Graph, clone
from .corrections.equalize import equalized
from .encodings import to_integers
from .hard_sigmoid import is_clipped_by, offset_of, slope_of
from .plan import Encoding, Operator, Plan, WeightEncoding
from .rules.lookup import rules_of
from .weights import WEIGHT_ZERO_POINT, rounded, weight_array

WIDE_TYPES = frozenset({"uint16", "int16"})
WIDE_OPSET = 21
"""From here on QuantizeLinear itself knows 16 bits; before, ONNX Runtime's own operator does."""
CONTRIB_DOMAIN = "com.microsoft"
INTEGER = frozenset({"int8", "int16"})
MAX_BIAS = 2**31 - 1


def emit(graph: Graph, plan: Plan) -> Graph:
    """A new QDQ graph; the given one stays as it is."""
    result = equalized(graph, plan.equalizations) if plan.equalizations else clone(graph)
    emitter = _Emitter(result, plan)
    for node in list(result.graph):
        operator = plan.operators.get(node.name or "")
        if operator is not None and operator.compute in INTEGER:
            emitter.make_integer(node, operator)
    emitter.connect()
    emitter.add_gates()
    RemoveUnusedNodesPass()(result)
    RemoveUnusedOpsetsPass()(result)
    TopologicalSortPass()(result)
    return result


class _Emitter:
    """Adds quantizers beside the nodes of one graph."""

    def __init__(self, graph: Graph, plan: Plan) -> None:
        self._graph = graph
        self._plan = plan
        self._rules = rules_of(plan.scheme)
        self._wide_domain = "" if graph.opset_imports.get("", 0) >= WIDE_OPSET else CONTRIB_DOMAIN
        self._readers: dict[str, list[tuple[ir.Node, int]]] = {}
        """Integer readers of each encoded tensor."""
        self._made: dict[str, ir.Value] = {}
        """Encoded tensors that an integer operator makes: everyone sees them rounded."""
        self._values: dict[str, ir.Value] = {}
        self._gates: dict[ir.Node, str] = {}
        """HardSigmoid nodes that become additions, and the names of what they read."""

    def make_integer(self, node: ir.Node, operator: Operator) -> None:
        """Notes what the node reads and gives, and rounds its weight and bias."""
        activation = self._rules.absorbed_activation(node)
        activations = self._rules.activations_of(node)
        result = node.outputs[0] if activation is None else activation.outputs[0]
        if activation is not None and self._replaces(activation):
            self._skip(activation, node.outputs[0])
            result = node.outputs[0]
        if operator.compute == "int8" and self._is_addition(node):
            self._gates[node] = activations[0].name or ""
        for index, value in enumerate(node.inputs):
            if value is not None and value.name in self._plan.tensors and any(value is each for each in activations):
                self._values[value.name] = value
                self._readers.setdefault(value.name, []).append((node, index))
        for value in (result, *node.outputs[1:]):
            if value.name in self._plan.tensors:
                self._values[value.name] = value
                self._made[value.name] = value
        if operator.weight is not None:
            self._round_weight(node, operator, operator.weight)

    def _replaces(self, activation: ir.Node) -> bool:
        """Whether rounding to its result's encoding does all that the activation does."""
        encoding = self._plan.tensors.get(activation.outputs[0].name or "")
        bounds = bounds_of(activation)
        if encoding is None or bounds is None:
            return False
        tolerance = MAX_ABSORBED_SHARE_OF_STEP * encoding.scale
        return encoding.low >= bounds[0] - tolerance and encoding.high <= bounds[1] + tolerance

    def _is_addition(self, node: ir.Node) -> bool:
        """Whether a HardSigmoid becomes an addition: the encoding of its result ends where the operator does."""
        if node.op_type != "HardSigmoid" or not self._rules.hard_sigmoid_is_addition:
            return False
        encoding = self._plan.tensors.get(node.outputs[0].name or "")
        return encoding is not None and is_clipped_by(encoding, MAX_ABSORBED_SHARE_OF_STEP)

    def _skip(self, activation: ir.Node, before: ir.Value) -> None:
        """Takes the activation out; its result's name moves to the value before it."""
        after = activation.outputs[0]
        name, kind, shape = after.name, after.type, after.shape
        ir.convenience.replace_all_uses_with(after, before, replace_graph_outputs=True)
        self._graph.graph.remove(activation, safe=True)
        before.name, before.type, before.shape = name, kind, shape

    def connect(self) -> None:
        """Puts the quantizers in."""
        for name, value in self._values.items():
            encoding = self._plan.tensors[name]
            restore = self._pair if value.const_value is None else self._constant
            restored = restore(value, encoding)
            if name in self._made:
                self._replace_everywhere(value, restored)
            else:
                for node, index in self._readers.get(name, []):
                    node.replace_input_with(index, restored)

    def add_gates(self) -> None:
        """Integer HardSigmoid nodes become additions; after `connect`, because they read what that has put in."""
        for node in self._gates:
            self._replace_by_addition(node)

    def _replace_by_addition(self, node: ir.Node) -> None:
        """The quantizer behind it clips to 0 and 1 (`hard_sigmoid.py`)."""
        source, result = node.inputs[0], node.outputs[0]
        reader = None if source is None else source.producer()
        if source is None or reader is None or reader.inputs[0] is None:
            raise NotQuantizable(f"operator {node.name!r} is integer in the plan, but the tensor that it reads is not")
        encoding = self._plan.tensors[self._gates[node]]
        kind = np.dtype(encoding.type).type
        scale = self._parameter(f"{node.name}_slope", np.float32(encoding.scale * slope_of(node)))
        scaled = self._dequantize(reader.inputs[0], scale, reader.inputs[2], f"{node.name}_scaled", source)
        one, zero = self._parameter(f"{node.name}_one", kind(1)), self._parameter(f"{node.name}_zero", kind(0))
        step = self._parameter(f"{node.name}_offset", np.float32(offset_of(node)))
        offset = self._dequantize(one, step, zero, f"{node.name}_offset_dequantized", one)
        name, kind_of_result, shape = result.name, result.type, result.shape
        addition = ir.node("Add", [scaled, offset], name=node.name)
        self._graph.graph.insert_before(node, addition)
        ir.convenience.replace_all_uses_with(result, addition.outputs[0], replace_graph_outputs=True)
        self._graph.graph.remove(node, safe=True)
        made = addition.outputs[0]
        made.name, made.type, made.shape = name, kind_of_result, shape

    def _pair(self, value: ir.Value, encoding: Encoding) -> ir.Value:
        domain = self._wide_domain if encoding.type in WIDE_TYPES else ""
        scale = self._parameter(f"{value.name}_scale", np.float32(encoding.scale))
        zero = self._parameter(f"{value.name}_zero_point", np.dtype(encoding.type).type(encoding.zero_point))
        integer_type = _TYPES[encoding.type]
        quantize = _node("QuantizeLinear", domain, [value, scale, zero], f"{value.name}_quantized", integer_type, value)
        return self._dequantize(quantize.outputs[0], scale, zero, f"{value.name}_dequantized", value, domain, quantize)

    def _dequantize(
        self,
        integers: ir.Value,
        scale: ir.Value,
        zero: ir.Value | None,
        name: str,
        like: ir.Value,
        domain: str = "",
        *before: ir.Node,
        axis: int | None = None,
    ) -> ir.Value:
        attributes = {} if axis is None else {"axis": axis}
        inputs = [integers, scale] if zero is None else [integers, scale, zero]
        node = _node("DequantizeLinear", domain, inputs, name, ir.DataType.FLOAT, like, attributes)
        self._graph.graph.extend([*before, node])
        if domain:
            self._graph.opset_imports.setdefault(domain, 1)
        return node.outputs[0]

    def _constant(self, value: ir.Value, encoding: Encoding) -> ir.Value:
        """A constant operand of an addition or multiplication, rounded at build time."""
        array = value.const_value.numpy() if value.const_value is not None else np.zeros(0, np.float32)
        integers = self._parameter(f"{value.name}_quantized", to_integers(array, encoding))
        scale = self._parameter(f"{value.name}_scale", np.float32(encoding.scale))
        zero = self._parameter(f"{value.name}_zero_point", np.dtype(encoding.type).type(encoding.zero_point))
        domain = self._wide_domain if encoding.type in WIDE_TYPES else ""
        return self._dequantize(integers, scale, zero, f"{value.name}_dequantized", value, domain)

    def _replace_everywhere(self, value: ir.Value, restored: ir.Value) -> None:
        """Every reader but the quantizer itself; as a graph output, the restored value takes the name."""
        for use in list(value.uses()):
            if use.node.op_type != "QuantizeLinear" or use.node.inputs[0] is not value:
                use.node.replace_input_with(use.idx, restored)
        outputs = self._graph.graph.outputs
        for index, output in enumerate(outputs):
            if output is value:
                name = value.name
                value.name, restored.name = f"{name}_float", name
                outputs[index] = restored

    def _round_weight(self, node: ir.Node, operator: Operator, encoding: WeightEncoding) -> None:
        weight = weight_array(node)
        source = node.inputs[1]
        if weight is None or source is None:
            raise NotQuantizable(f"operator {node.name!r} has a weight encoding in the plan, but no constant weight")
        encoding = self._with_room_for_bias(node, encoding)
        integers = self._parameter(f"{node.name}_weight", rounded(weight, encoding))
        scale = self._parameter(f"{node.name}_weight_scale", _scales(encoding))
        zeros = np.full(_scales(encoding).shape, WEIGHT_ZERO_POINT[encoding.type], dtype=encoding.type)
        zero = self._parameter(f"{node.name}_weight_zero_point", zeros)
        restored = self._dequantize(
            integers, scale, zero, f"{node.name}_weight_dequantized", source, axis=encoding.axis
        )
        node.replace_input_with(1, restored)
        self._round_bias(node, operator, encoding)

    def _bias(self, node: ir.Node, correction: tuple[float, ...]) -> NDArray[np.float64] | None:
        given = node.inputs[2] if len(node.inputs) > 2 else None
        if given is None or given.const_value is None:
            return np.asarray(correction, dtype=np.float64) if correction and node.op_type != "MatMul" else None
        bias: NDArray[np.float64] = given.const_value.numpy().astype(np.float64)
        return bias + np.asarray(correction) if correction else bias

    def _bias_scale(self, node: ir.Node, encoding: WeightEncoding) -> NDArray[np.float64]:
        source = node.inputs[0]
        activation = self._plan.tensors[source.name or ""] if source is not None else None
        return np.asarray(_scales(encoding), dtype=np.float64) * (activation.scale if activation is not None else 1.0)

    def _with_room_for_bias(self, node: ir.Node, encoding: WeightEncoding) -> WeightEncoding:
        """Wider weight scales where the bias would not fit 32 bits: a large bias on weights near zero."""
        operator = self._plan.operators[node.name or ""]
        bias = self._bias(node, operator.bias_correction)
        if bias is None or not bias.size:
            return encoding
        needed = np.abs(bias) / (MAX_BIAS / 2) / (self._bias_scale(node, encoding) / np.asarray(encoding.scale))
        if encoding.axis is None:
            needed = needed.max(keepdims=True)
        scales = np.maximum(np.asarray(encoding.scale), needed).astype(np.float32)
        return msgspec.structs.replace(encoding, scale=tuple(float(scale) for scale in scales))

    def _round_bias(self, node: ir.Node, operator: Operator, encoding: WeightEncoding) -> None:
        bias = self._bias(node, operator.bias_correction)
        if bias is None or node.op_type == "MatMul":
            return
        step = self._bias_scale(node, encoding).astype(np.float32)
        integers = np.clip(np.rint(bias / step.astype(np.float64)), -MAX_BIAS, MAX_BIAS).astype(np.int32)
        scale = self._parameter(f"{node.name}_bias_scale", step if encoding.axis is not None else step.reshape(()))
        value = self._parameter(f"{node.name}_bias", integers)
        axis = None if encoding.axis is None else 0
        restored = self._dequantize(value, scale, None, f"{node.name}_bias_dequantized", value, axis=axis)
        node.resize_inputs(3)
        node.replace_input_with(2, restored)

    def _parameter(self, name: str, array: Any) -> ir.Value:
        """A new constant of the graph."""
        data = np.asarray(array)
        value = ir.Value(
            name=name,
            const_value=ir.tensor(data, name=name),
            type=ir.TensorType(ir.DataType.from_numpy(data.dtype)),
            shape=ir.Shape(data.shape),
        )
        self._graph.graph.register_initializer(value)
        return value


_TYPES = {
    "uint8": ir.DataType.UINT8,
    "int8": ir.DataType.INT8,
    "uint16": ir.DataType.UINT16,
    "int16": ir.DataType.INT16,
}


def _scales(encoding: WeightEncoding) -> NDArray[np.float32]:
    """One number, or one per channel."""
    scales = np.asarray(encoding.scale, dtype=np.float32)
    return scales.reshape(()) if encoding.axis is None else scales


def _node(
    operator: str,
    domain: str,
    inputs: list[ir.Value],
    name: str,
    kind: ir.DataType,
    like: ir.Value,
    attributes: dict[str, int] | None = None,
) -> ir.Node:
    """A node and its result under one name."""
    node = ir.node(operator, inputs, attributes or {}, domain=domain, name=name)
    result = node.outputs[0]
    result.name, result.type, result.shape = name, ir.TensorType(kind), like.shape
    return node
