"""Dynamic int8: products round their input to the range of each call, weights are int8 in the file. No calibration.

What is emitted is the pattern that ONNX Runtime fuses: DynamicQuantizeLinear, MatMulInteger, Cast, Mul (, Add) becomes
`DynamicQuantizeMatMul`, or `MatMulIntegerToFloat` where several products share one input. The range is that of the
whole tensor, so what a sample gives depends a little on the samples in the same batch; static int8 has no such effect.
DynamicQuantizeLinear gives uint8, so sums saturate where u8s8 does (`Scheme.guard`).
"""

from __future__ import annotations

from typing import Final

import msgspec
import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from onnx_ir.passes.common import RemoveUnusedNodesPass

from ...faults import NotQuantizable
from ...graph import Graph, clone, graph_digest
from ..opset import raised
from ..plan import Operator, Plan, WeightEncoding
from ..scheme import Guard, Scheme
from ..weights import LARGEST_INTEGER, restored, rounded, spread, symmetric_encoding
from .products import PRODUCTS, Product, add_rows, check_axis, flat_bias, left_operand, product_of
from .rewrite import Replacement, insert_after_maker, new_node
from .tables import TABLE_READER, keep_shared_weights, propose_table
from .weight_only import INT4_OPSET, needs_opset_21, replace_with_stored

SEVEN_BIT_LARGEST: Final = 64
"""255 * 64 + 255 * 64 = 32 640 fits 16 bits."""
WIDEST: Final = 255
PAIR_FACTORS: Final = tuple(1 + step / 8 for step in range(9))
"""Scales that are tried, as multiples of the full-range scale; finer steps gain 0.2 dB more."""
STAYS_FLOAT: Final = {
    "LSTM": "only a contributed operator of ONNX Runtime computes recurrent layers in int8",
    "GRU": "no engine computes it in int8",
    "RNN": "no engine computes it in int8",
    "Conv": "convolutions are slower with ranges of each call; use a static scheme",
    "ConvTranspose": "it has no dynamic int8 kernel",
}


def propose_dynamic(graph: Graph, scheme: Scheme) -> Plan:
    """Every product with a constant weight becomes dynamic, and tables are stored as int8; what stays float says why.

    Args:
        graph: the optimised float graph; it is only read.
        scheme: its `per_channel` and `guard` count; without scales per channel "pairs" is "seven-bit".

    Raises:
        NotQuantizable: there is no such product.
    """
    operators: dict[str, Operator] = {}
    for node in graph.graph:
        if node.op_type in PRODUCTS:
            operators[node.name or ""] = _propose(node, scheme)
        elif node.op_type == TABLE_READER and (operator := propose_table(node)) is not None:
            operators[node.name or ""] = operator
        elif node.op_type in STAYS_FLOAT:
            operators[node.name or ""] = Operator(compute="float", reason=STAYS_FLOAT[node.op_type])
    keep_shared_weights(graph, operators)
    if not any(operator.compute == "dynamic" for operator in operators.values()):
        raise NotQuantizable("the model has no MatMul or Gemm with a constant float32 weight for dynamic int8")
    return Plan(model_digest=graph_digest(graph), scheme=scheme, operators=dict(sorted(operators.items())))


def _propose(node: ir.Node, scheme: Scheme) -> Operator:
    product = product_of(node)
    if isinstance(product, str):
        return Operator(compute="float", reason=product)
    encoding = symmetric_encoding(product.weight, "int8", product.axis if scheme.per_channel else None)
    return Operator(compute="dynamic", weight=_guarded(product, encoding, scheme.guard))


def _guarded(product: Product, encoding: WeightEncoding, guard: Guard) -> WeightEncoding:
    if guard == "none":
        return encoding
    if guard == "pairs" and encoding.axis is not None:
        return pair_guarded(product.weight, encoding)
    return seven_bit(encoding)


def pair_guarded(weight: NDArray[np.float32], encoding: WeightEncoding) -> WeightEncoding:
    """No pair of weights overflows 16 bits with activations up to 255, which a range of each call always reaches.

    For each channel the scale is taken with the least squared error of the weights once pairs keep to their limit; on
    normal weights that is 3.3 dB better than 7 bits. Static plans do this by what calibration saw (`saturation.py`).

    Args:
        weight: a finite matrix.
        encoding: int8 with one scale per channel.
    """
    reduced = 1 - (encoding.axis or 0)
    limited = msgspec.structs.replace(encoding, pair_peaks=(WIDEST,) * int(weight.shape[reduced]))
    best, least = np.asarray(encoding.scale), np.full(len(encoding.scale), np.inf)
    for factor in PAIR_FACTORS:
        tried = _scaled(limited, factor)
        errors = np.square(restored(rounded(weight, tried), tried) - weight).sum(axis=reduced, dtype=np.float64)
        best = np.where(errors < least, np.asarray(tried.scale), best)
        least = np.minimum(errors, least)
    return msgspec.structs.replace(limited, scale=tuple(float(scale) for scale in best))


def seven_bit(encoding: WeightEncoding) -> WeightEncoding:
    """The same range in integers from -64 to 64."""
    return _scaled(encoding, LARGEST_INTEGER[encoding.type] / SEVEN_BIT_LARGEST)


def _scaled(encoding: WeightEncoding, factor: float) -> WeightEncoding:
    return msgspec.structs.replace(encoding, scale=tuple(float(np.float32(scale * factor)) for scale in encoding.scale))


def emit_dynamic(graph: Graph, plan: Plan) -> Graph:
    """A new graph with the plan's dynamic operators and stored weights; the given one stays as it is.

    Raises:
        NotQuantizable: the plan asks of a node what it cannot do.
        UnsupportedModel: int4 weights need a newer opset, and an operator has no rule for that.
    """
    result = raised(graph, INT4_OPSET) if needs_opset_21(plan) else clone(graph)
    for node in list(result.graph):
        operator = plan.operators.get(node.name or "")
        if operator is not None and operator.compute == "dynamic":
            replace_with_dynamic(result, node, operator)
        elif operator is not None and operator.compute == "weights":
            replace_with_stored(result, node, operator)
    RemoveUnusedNodesPass()(result)
    return result


def replace_with_dynamic(graph: Graph, node: ir.Node, operator: Operator) -> None:
    """Replaces one MatMul or Gemm, in place; its result keeps its name.

    Raises:
        NotQuantizable: it has no constant weight, or the plan no encoding for it.
    """
    product = product_of(node)
    if isinstance(product, str):
        raise NotQuantizable(f"operator {node.name!r} cannot be dynamic as the plan says: {product}")
    if operator.weight is None or operator.weight.type != "int8" or operator.weight.block_size is not None:
        raise NotQuantizable(f"operator {node.name!r} is dynamic in the plan and needs an int8 weight without blocks")
    check_axis(product, operator.weight)
    replacement = Replacement(graph, node)
    result = _multiply(graph, product, operator.weight, replacement)
    bias = flat_bias(product)
    if bias is not None:
        result = replacement.call("Add", [result, replacement.constant("bias", bias)], "biased")
    replacement.finish(add_rows(product, result, replacement))


def _multiply(graph: Graph, product: Product, encoding: WeightEncoding, replacement: Replacement) -> ir.Value:
    shape = product.node.outputs[0].shape
    integers, scale, zero_point = _rounded_input(graph, left_operand(product, replacement))
    weight = replacement.constant("weight", product.in_order(rounded(product.weight, encoding)))
    steps = spread(encoding, product.weight.ndim).reshape(-1 if encoding.axis is not None else ()) * product.alpha
    weight_scale = replacement.constant("weight_scale", steps.astype(np.float32))
    sums = replacement.call("MatMulInteger", [integers, weight, zero_point], "integer", ir.DataType.INT32, shape=shape)
    floats = replacement.call("Cast", [sums], "float", attributes={"to": ir.DataType.FLOAT.value}, shape=shape)
    step = replacement.call("Mul", [scale, weight_scale], "scale")
    return replacement.call("Mul", [floats, step], "scaled", shape=shape)


def _rounded_input(graph: Graph, value: ir.Value) -> tuple[ir.Value, ir.Value, ir.Value]:
    """Integers, scale and zero point of a tensor; made once for all its readers."""
    for use in value.uses():
        if use.node.op_type == "DynamicQuantizeLinear" and use.node.graph is graph.graph:
            integers, scale, zero_point = use.node.outputs
            return integers, scale, zero_point
    names = [f"{value.name}_dynamic", f"{value.name}_dynamic_scale", f"{value.name}_dynamic_zero_point"]
    kinds = [ir.DataType.UINT8, ir.DataType.FLOAT, ir.DataType.UINT8]
    node = new_node("DynamicQuantizeLinear", [value], names, kinds, shape=value.shape)
    insert_after_maker(graph, value, node)
    integers, scale, zero_point = node.outputs
    return integers, scale, zero_point
