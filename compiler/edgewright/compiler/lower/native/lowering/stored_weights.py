"""Float products whose weights are kept as the integers that the graph holds: small files, and less to read per call.

A MatMul or Gemm of floats by a constant behind DequantizeLinear becomes `StoredProduct` of the domain "edgewright",
with the inputs x, integers, scale and, where there is one, a bias. The integers become floats when they are read; the
scale of a column multiplies its sum. Scales along the sum (blocks) do not, so that blocked weights stay floats.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ....graph import Graph
from ..net import Array

DOMAIN = "edgewright"
OPERATOR = "StoredProduct"


def store_weights(graph: Graph) -> None:
    """Rewrites products in place; dequantizers that nobody reads any more stay."""
    for node in list(graph.graph):
        if node.op_type in ("MatMul", "Gemm") and node.domain in ("", "ai.onnx"):
            _store(graph, node)


def signed(integers: Array, zero_points: Array) -> Array | None:
    """Integers around one zero point as int8 around 0; None where they do not fit."""
    points = np.unique(zero_points.astype(np.int64))
    moved = integers.astype(np.int64) - (points[0] if points.size else 0)
    if points.size > 1 or moved.min(initial=0) < -128 or moved.max(initial=0) > 127:
        return None
    return np.asarray(moved, np.int8)


def _store(graph: Graph, node: ir.Node) -> None:
    x, weight = node.inputs[0], node.inputs[1]
    transposed = bool(_number(node, "transB", 0))
    stored = None if weight is None else _columns(weight, transposed)
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    unknown = x is None or x.const_value is not None or (bias is not None and bias.const_value is None)
    if stored is None or unknown or _number(node, "transA", 0):
        return
    matrix, scale = stored
    channels = len(matrix)
    row = np.zeros(channels, np.float32)
    if bias is not None and bias.const_value is not None:
        known = bias.const_value.numpy()
        if known.size not in (1, channels) or known.shape[:-1] not in ((), (1,)):
            return
        row = np.asarray(np.broadcast_to(known.reshape(-1), channels) * np.float32(_number(node, "beta", 1.0)))
    rows = np.stack([scale * np.float32(_number(node, "alpha", 1.0)), row]).astype(np.float32)
    constants = [_constant(graph, f"{node.name}.stored", matrix), _constant(graph, f"{node.name}.rows", rows)]
    replacement = ir.node(OPERATOR, [x, *constants], domain=DOMAIN, name=node.name)
    old, new = node.outputs[0], replacement.outputs[0]
    new.type, new.shape = old.type, old.shape
    graph.graph.insert_before(node, replacement)
    ir.convenience.replace_all_uses_with(old, new, replace_graph_outputs=True)
    name = old.name
    graph.graph.remove([node], safe=True)
    new.name = name
    graph.opset_imports.setdefault(DOMAIN, 1)


def _columns(value: ir.Value, transposed: bool) -> tuple[Array, Array] | None:
    """Integers (K, C) and a scale per K behind a matrix of floats; None where they are something else."""
    dequantize = value.producer()
    if dequantize is None or dequantize.op_type != "DequantizeLinear" or dequantize.domain not in ("", "ai.onnx"):
        return None
    known = [given.const_value for given in dequantize.inputs if given is not None]
    constants = [tensor.numpy() for tensor in known if tensor is not None]
    if len(constants) < len(dequantize.inputs) or _number(dequantize, "block_size", 0):
        return None
    integers, scale = constants[:2]
    if integers.ndim != 2 or integers.dtype not in (np.int8, np.uint8):
        return None
    axis = int(_number(dequantize, "axis", 1)) % 2
    if scale.size > 1 and axis != (0 if transposed else 1):
        return None
    matrix = signed(integers, constants[2] if len(constants) > 2 else np.zeros(1, np.int8))
    if matrix is None:
        return None
    turned = np.ascontiguousarray(matrix if transposed else matrix.T)
    return turned, np.asarray(np.broadcast_to(scale.reshape(-1), len(turned)))


def _constant(graph: Graph, name: str, array: Array) -> ir.Value:
    tensor = ir.tensor(array, name=name)
    value = ir.Value(
        name=name, const_value=tensor, type=ir.TensorType(tensor.dtype), shape=ir.Shape(tuple(array.shape))
    )
    graph.graph.register_initializer(value)
    return value


def _number(node: ir.Node, name: str, default: float) -> float:
    attribute = node.attributes.get(name)
    return default if attribute is None else float(attribute.value)
