"""QDQ graphs as graphs of integer operators: what ONNX Runtime makes of the same graph, so that bits agree.

DequantizeLinear, an operator, QuantizeLinear become one node: QLinearConv and QLinearMatMul of ONNX, QGemm, QLinearAdd
and their like of com.microsoft, as `MatMulIntegerToFloat` and QGemm without an output scale where a product's result
stays float. Operators that only move data work on the integers themselves. `operators/quantized.py` lowers them; graphs
that come with such nodes need nothing of this.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from ....clamp import bounds_of
from ....graph import Graph, clone
from .stored_weights import store_weights

MICROSOFT = "com.microsoft"
CLAMPS = frozenset({"Relu", "Clip"})
MOVERS = frozenset(
    {"MaxPool", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Slice", "Split", "Gather", "DepthToSpace"}
)
UNARY: Mapping[str, str] = {
    "AveragePool": "QLinearAveragePool", "GlobalAveragePool": "QLinearGlobalAveragePool",
    "LeakyRelu": "QLinearLeakyRelu", "Sigmoid": "QLinearSigmoid",
}  # fmt: skip
BINARY: Mapping[str, str] = {"Add": "QLinearAdd", "Mul": "QLinearMul"}
BYTES = frozenset({ir.DataType.UINT8, ir.DataType.INT8})


def fuse_qdq(graph: Graph) -> Graph:
    """A new graph in which clusters are single nodes; quantizers that belong to none stay."""
    if not any(node.op_type == "DequantizeLinear" for node in graph.graph):
        return graph
    result = clone(graph)
    fuser = _Fuser(result)
    for node in list(result.graph):
        if node.op_type in MOVERS:
            fuser.move(node)
        elif node.op_type in CLAMPS:
            fuser.absorb(node)
    for node in list(result.graph):
        fuser.skip(node)
    for node in list(result.graph):
        fuser.join(node)
    store_weights(result)
    fuser.clean()
    return result


@dataclass(frozen=True)
class _Encoded:
    """An integer tensor behind a float value."""

    integers: ir.Value
    scale: ir.Value
    zero: ir.Value

    @property
    def inputs(self) -> tuple[ir.Value, ir.Value, ir.Value]:
        return self.integers, self.scale, self.zero


class _Fuser:
    """Rewrites one graph."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._zeros: dict[tuple[str, tuple[int, ...]], ir.Value] = {}

    def move(self, node: ir.Node) -> None:
        """A mover of a dequantized tensor becomes a mover of the integers, dequantized behind it."""
        source = node.inputs[0]
        encoded = self._encoded(source)
        if encoded is None or encoded.integers.const_value is not None or not _is_per_tensor(encoded):
            return
        kind = _type_of(encoded)
        node.replace_input_with(0, encoded.integers)
        for value in node.outputs:
            self._dequantize_behind(node, value, encoded, kind)

    def _dequantize_behind(self, node: ir.Node, value: ir.Value, encoded: _Encoded, kind: ir.DataType) -> None:
        behind = ir.node("DequantizeLinear", [value, encoded.scale, encoded.zero], name=f"{value.name}_dequantized")
        made = behind.outputs[0]
        made.type, made.shape = ir.TensorType(ir.DataType.FLOAT), value.shape
        uses = [(use.node, use.idx) for use in value.uses() if use.node is not behind]
        self._graph.graph.insert_after(node, behind)
        for reader, index in uses:
            reader.replace_input_with(index, made)
        name = value.name
        outputs = self._graph.graph.outputs
        for index, output in enumerate(outputs):
            if output is value:
                outputs[index] = made
        value.name, made.name = f"{name}_integers", name
        value.type = ir.TensorType(kind)

    def absorb(self, node: ir.Node) -> None:
        """A Relu or Clip goes where the quantizer behind it ends no later than it does."""
        quantize, source, bounds = self._quantizer(node), node.inputs[0], bounds_of(node)
        if quantize is None or source is None or bounds is None:
            return
        result = self._result(quantize)
        scale, zero = result.scale.const_value, result.zero.const_value
        if scale is None or zero is None or scale.size != 1:
            return
        limits, point = np.iinfo(zero.numpy().dtype), int(zero.numpy().reshape(-1)[0])
        step = float(scale.numpy().reshape(-1)[0])
        if (limits.min - point) * step >= bounds[0] and (limits.max - point) * step <= bounds[1]:
            quantize.replace_input_with(0, source)
            self._graph.graph.remove([node], safe=True)

    def skip(self, node: ir.Node) -> None:
        """A quantizer of what was dequantized by the same numbers gives the same integers."""
        if node.op_type != "QuantizeLinear" or node.domain not in ("", "ai.onnx"):
            return
        encoded = self._encoded(node.inputs[0])
        if encoded is None or any(value is None or value.const_value is None for value in node.inputs[1:]):
            return
        result = self._result(node)
        if _type_of(encoded) == _type_of(result) and _numbers(encoded) == _numbers(result):
            ir.convenience.replace_all_uses_with(node.outputs[0], encoded.integers)

    def join(self, node: ir.Node) -> None:
        """One cluster, where the node's inputs and its result are encoded as its integer operator needs them."""
        if node.domain not in ("", "ai.onnx"):
            return
        if node.op_type == "Conv":
            self._conv(node)
        elif node.op_type == "MatMul":
            self._matmul(node)
        elif node.op_type == "Gemm":
            self._gemm(node)
        elif node.op_type in UNARY:
            self._pointwise(node, UNARY[node.op_type])
        elif node.op_type in BINARY:
            self._pointwise(node, BINARY[node.op_type])
        elif node.op_type == "Concat":
            self._concat(node)

    def _conv(self, node: ir.Node) -> None:
        operands, quantize = self._operands(node, 2), self._quantizer(node)
        bias, is_integer = self._bias(node)
        if operands is None or quantize is None or not is_integer:
            return
        result = self._result(quantize)
        if _type_of(operands[0]) == _type_of(result):
            inputs = [*operands[0].inputs, *operands[1].inputs, result.scale, result.zero]
            self._replace(node, quantize, "QLinearConv", "", [*inputs, *([] if bias is None else [bias])])

    def _matmul(self, node: ir.Node) -> None:
        operands, quantize = self._operands(node, 2), self._quantizer(node)
        if operands is None or not _is_per_tensor(operands[0]):
            return
        a, b = operands
        if quantize is not None and _type_of(a) == _type_of(self._result(quantize)):
            result = self._result(quantize)
            inputs = [*a.inputs, *b.inputs, result.scale, result.zero]
            self._replace(node, quantize, "QLinearMatMul", "", inputs)
        elif quantize is None:
            inputs = [a.integers, b.integers, a.scale, b.scale, a.zero, b.zero]
            self._replace(node, None, "MatMulIntegerToFloat", MICROSOFT, inputs)

    def _gemm(self, node: ir.Node) -> None:
        operands, quantize = self._operands(node, 2), self._quantizer(node)
        bias, is_integer = self._bias(node)
        if operands is None or not is_integer or node.attributes.get_float("beta", 1.0) != 1.0:
            return
        inputs: list[ir.Value | None] = [*operands[0].inputs, *operands[1].inputs, bias]
        if quantize is not None:
            result = self._result(quantize)
            if _type_of(operands[0]) != _type_of(result):
                return
            inputs += [result.scale, result.zero]
        self._replace(node, quantize, "QGemm", MICROSOFT, inputs)

    def _pointwise(self, node: ir.Node, operator: str) -> None:
        operands, quantize = self._operands(node, len(node.inputs)), self._quantizer(node)
        if operands is None or quantize is None or not all(map(_is_per_tensor, operands)):
            return
        result = self._result(quantize)
        if all(_type_of(each) == _type_of(result) for each in operands):
            inputs = [value for each in operands for value in each.inputs]
            self._replace(node, quantize, operator, MICROSOFT, [*inputs, result.scale, result.zero])

    def _concat(self, node: ir.Node) -> None:
        operands, quantize = self._operands(node, len(node.inputs)), self._quantizer(node)
        if operands is None or quantize is None or not all(map(_is_per_tensor, operands)):
            return
        result = self._result(quantize)
        inputs = [result.scale, result.zero, *(value for each in operands for value in each.inputs)]
        self._replace(node, quantize, "QLinearConcat", MICROSOFT, inputs)

    def _operands(self, node: ir.Node, count: int) -> list[_Encoded] | None:
        """The first inputs of a node, where all are encoded in 8 bits."""
        found = [self._encoded(value) for value in node.inputs[:count]]
        if len(found) < count:
            return None
        known = [each for each in found if each is not None and _type_of(each) in BYTES]
        return known if len(known) == count else None

    def _encoded(self, value: ir.Value | None) -> _Encoded | None:
        producer = None if value is None else value.producer()
        if producer is None or producer.op_type != "DequantizeLinear" or producer.domain not in ("", "ai.onnx"):
            return None
        integers, scale = producer.inputs[0], producer.inputs[1]
        if integers is None or scale is None or scale.const_value is None:
            return None
        zero = producer.inputs[2] if len(producer.inputs) > 2 else None
        encoded = _Encoded(integers, scale, zero if zero is not None else self._zero(integers, scale))
        return encoded if encoded.zero.const_value is not None and _type_of(encoded) in BYTES else None

    def _bias(self, node: ir.Node) -> tuple[ir.Value | None, bool]:
        """The int32 bias, and whether there is none in float."""
        value = node.inputs[2] if len(node.inputs) > 2 else None
        if value is None:
            return None, True
        producer = value.producer()
        if producer is None or producer.op_type != "DequantizeLinear" or producer.inputs[0] is None:
            return None, False
        known = producer.inputs[0].const_value
        return producer.inputs[0], known is not None and known.dtype == ir.DataType.INT32

    def _quantizer(self, node: ir.Node) -> ir.Node | None:
        """The only reader of a node's result, where it is a quantizer to 8 bits."""
        result = node.outputs[0]
        uses = list(result.uses())
        if len(uses) != 1 or result.is_graph_output() or len(node.outputs) > 1:
            return None
        reader = uses[0].node
        if reader.op_type != "QuantizeLinear" or reader.domain not in ("", "ai.onnx") or uses[0].idx != 0:
            return None
        known = [value is not None and value.const_value is not None for value in reader.inputs[1:]]
        return reader if all(known) and _type_of(self._result(reader)) in BYTES else None

    def _result(self, quantize: ir.Node) -> _Encoded:
        scale = quantize.inputs[1]
        zero = quantize.inputs[2] if len(quantize.inputs) > 2 else None
        integers = quantize.outputs[0]
        if scale is None:
            raise ValueError(f"{quantize.name!r} has no scale")
        return _Encoded(integers, scale, zero if zero is not None else self._zero(integers, scale))

    def _zero(self, integers: ir.Value, scale: ir.Value) -> ir.Value:
        """The zero point that is meant where none is written."""
        signed = integers.dtype == ir.DataType.INT8
        shape = () if scale.const_value is None else tuple(scale.const_value.numpy().shape)
        key = ("int8" if signed else "uint8", shape)
        if key not in self._zeros:
            tensor = ir.tensor(np.zeros(shape, key[0]), name=f"zero_point_of_{key[0]}_{len(self._zeros)}")
            value = ir.Value(
                name=tensor.name, const_value=tensor, type=ir.TensorType(tensor.dtype), shape=ir.Shape(shape)
            )
            self._graph.graph.register_initializer(value)
            self._zeros[key] = value
        return self._zeros[key]

    def _replace(
        self, node: ir.Node, quantize: ir.Node | None, operator: str, domain: str, inputs: Sequence[ir.Value | None]
    ) -> None:
        """One node in the place of a node and its quantizer."""
        last = node if quantize is None else quantize
        fused = ir.node(operator, inputs, dict(node.attributes), domain=domain, name=node.name)
        old, new = last.outputs[0], fused.outputs[0]
        new.type, new.shape = old.type, old.shape
        self._graph.graph.insert_before(last, fused)
        ir.convenience.replace_all_uses_with(old, new, replace_graph_outputs=True)
        name = old.name
        self._graph.graph.remove([last], safe=True)
        if quantize is not None:
            self._graph.graph.remove([node], safe=True)
        new.name = name
        if domain:
            self._graph.opset_imports.setdefault(domain, 1)

    def clean(self) -> None:
        """Takes out quantizers that nobody reads any more."""
        for node in reversed(list(self._graph.graph)):
            outputs = node.outputs
            if not any(value.uses() or value.is_graph_output() for value in outputs):
                self._graph.graph.remove([node], safe=True)


def _is_per_tensor(encoded: _Encoded) -> bool:
    return encoded.scale.const_value is not None and encoded.scale.const_value.size == 1


def _type_of(encoded: _Encoded) -> ir.DataType:
    """Of the integers: their zero point's."""
    known = encoded.zero.const_value
    return ir.DataType.UNDEFINED if known is None else known.dtype


def _numbers(encoded: _Encoded) -> tuple[list[float], list[int]]:
    scale, zero = encoded.scale.const_value, encoded.zero.const_value
    if scale is None or zero is None:
        raise ValueError(f"{encoded.integers.name!r} has scales of the run time")
    return scale.numpy().reshape(-1).tolist(), zero.numpy().reshape(-1).tolist()
