"""Weight-only int8 and int4: the file holds integers, the arithmetic around them is that of floats. No calibration.

Products become DequantizeLinear (opset 21 `block_size` for int4, per channel for int8) and MatMul or Gemm. ONNX Runtime
1.31 fuses both into `MatMulNBits`, so weights stay small in memory too; there it also rounds activations to int8 in
blocks (accuracy level 4, its default; `session.qdq_matmulnbits_accuracy_level` = 1 switches it off, and is slower).
Its kernels do not saturate on CPUs without VNNI. Tables that rows are gathered from become int8 with a scale per row:
the rows are gathered first and become float afterwards. Convolutions are emitted where a plan says so but not proposed:
ONNX Runtime dequantizes their weights again in every call.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from onnx_ir.passes.common import RemoveUnusedNodesPass

from edgewright.targets.faults import UserFault

from ...faults import NotQuantizable
from ...graph import Graph, clone, graph_digest
from ..opset import raised
from ..plan import Operator, Plan, WeightEncoding
from ..scheme import Scheme
from ..weights import channel_axis, rounded, spread, symmetric_encoding, weight_array
from .blocks import block_scales, blocked_encoding, blocked_integers
from .products import PRODUCTS, Product, add_rows, check_axis, flat_bias, left_operand, product_of
from .rewrite import Replacement, constant, new_node
from .tables import TABLE_READER, keep_shared_weights, propose_table, replace_table

INT4_OPSET: Final = 21
"""First with int4 and with `block_size`."""
FUSED_BLOCK_SIZES: Final = (16, 32, 64, 128, 256)
"""Those that ONNX Runtime fuses; with others it would dequantize the whole weight in every call."""
FUSED_ACTIVATIONS: Final = frozenset(
    {"Relu", "Clip", "LeakyRelu", "Sigmoid", "HardSigmoid", "Tanh", "Elu", "Selu", "Softplus", "Softsign"}
    | {"ThresholdedRelu"}
)
STAYS_FLOAT: Final = {
    "Conv": "ONNX Runtime dequantizes the weights of a convolution again in every call",
    "ConvTranspose": "ONNX Runtime dequantizes the weights of a convolution again in every call",
    "LSTM": "recurrent operators take float weights only",
    "GRU": "recurrent operators take float weights only",
    "RNN": "recurrent operators take float weights only",
}


def propose_weights(graph: Graph, scheme: Scheme) -> Plan:
    """Every matrix and every table whose readers can all use it as integers.

    Args:
        graph: the optimised float graph; it is only read.
        scheme: `weights` is "int8" or "int4"; `block_size` counts for int4, `per_channel` for int8. Tables are int8
            in both.

    Raises:
        NotQuantizable: no weight can be stored as integers.
        UserFault: the block size is none that is fused, or the weight type is not for this method.
    """
    if scheme.weights not in ("int8", "int4"):
        raise UserFault(f"weight-only plans store weights as int8 or int4, but the scheme says {scheme.weights}")
    if scheme.weights == "int4" and scheme.block_size not in FUSED_BLOCK_SIZES:
        sizes = ", ".join(map(str, FUSED_BLOCK_SIZES))
        raise UserFault(f"a block size of {scheme.block_size} was asked for; ONNX Runtime fuses blocks of {sizes}")
    operators = {node.name or "": operator for node in graph.graph if (operator := _propose(node, scheme)) is not None}
    keep_shared_weights(graph, operators)
    if not any(operator.compute == "weights" for operator in operators.values()):
        raise NotQuantizable("the model has no constant float32 matrix or table that could be stored as integers")
    return Plan(model_digest=graph_digest(graph), scheme=scheme, operators=dict(sorted(operators.items())))


def _propose(node: ir.Node, scheme: Scheme) -> Operator | None:
    """What a node with weights does; None for operators that have none."""
    if node.op_type in PRODUCTS:
        product = product_of(node)
        if isinstance(product, str):
            return Operator(compute="float", reason=product)
        return Operator(compute="weights", weight=_encoding(product, scheme))
    if node.op_type == TABLE_READER:
        return propose_table(node)
    if node.op_type in STAYS_FLOAT:
        return Operator(compute="float", reason=STAYS_FLOAT[node.op_type])
    return None


def _encoding(product: Product, scheme: Scheme) -> WeightEncoding:
    if scheme.weights == "int4":
        return blocked_encoding(product.weight, "int4", product.axis, scheme.block_size)
    return symmetric_encoding(product.weight, "int8", product.axis if scheme.per_channel else None)


def emit_weights(graph: Graph, plan: Plan) -> Graph:
    """A new graph whose weights are stored as the plan says; the given one stays as it is.

    Its opset is 21 where a weight is blocked or int4 and the graph's is older.

    Raises:
        NotQuantizable: the plan stores a weight that is not there.
        UnsupportedModel: the opset has to be raised, and an operator has no rule for that.
    """
    result = raised(graph, INT4_OPSET) if needs_opset_21(plan) else clone(graph)
    for node in list(result.graph):
        operator = plan.operators.get(node.name or "")
        if operator is not None and operator.compute == "weights":
            replace_with_stored(result, node, operator)
    RemoveUnusedNodesPass()(result)
    return result


def needs_opset_21(plan: Plan) -> bool:
    """Whether a weight of the plan cannot be written in older opsets."""
    weights = [operator.weight for operator in plan.operators.values() if operator.weight is not None]
    return any(weight.type == "int4" or weight.block_size is not None for weight in weights)


def replace_with_stored(graph: Graph, node: ir.Node, operator: Operator) -> None:
    """Replaces one MatMul, Gemm, Gather or Conv, in place; its result keeps its name.

    Raises:
        NotQuantizable: it has no constant weight, or the plan no encoding for it.
    """
    if operator.weight is None:
        raise NotQuantizable(f"operator {node.name!r} stores its weight as integers in the plan, but has no encoding")
    if node.op_type == TABLE_READER:
        replace_table(graph, node, operator.weight)
    elif node.op_type in {"Conv", "ConvTranspose"}:
        _replace_convolution(graph, node, operator.weight)
    else:
        _replace_product(graph, node, operator.weight)


def _replace_product(graph: Graph, node: ir.Node, encoding: WeightEncoding) -> None:
    product = product_of(node)
    if isinstance(product, str):
        raise NotQuantizable(f"operator {node.name!r} cannot store its weight as the plan says: {product}")
    check_axis(product, encoding)
    if encoding.type not in ("int8", "int4"):
        raise NotQuantizable(f"operator {node.name!r}: weights are stored as int8 or int4, not as {encoding.type}")
    replacement = Replacement(graph, node)
    inputs = [left_operand(product, replacement), _stored(product, encoding, replacement)]
    shape = node.outputs[0].shape
    inside, behind = _biases(product)
    if inside is None:
        result = replacement.call("MatMul", inputs, "stored", shape=shape)
    else:
        result = replacement.call("Gemm", [*inputs, replacement.constant("bias", inside)], "stored", shape=shape)
    if behind is not None:
        result = replacement.call("Add", [result, replacement.constant("bias", behind)], "biased", shape=shape)
    replacement.finish(add_rows(product, result, replacement))


def _biases(product: Product) -> tuple[NDArray[np.float32] | None, NDArray[np.float32] | None]:
    """What is added by the Gemm itself (None for a MatMul), and what by an addition behind (None for no addition)."""
    bias = flat_bias(product)
    nothing = np.zeros(product.channels, dtype=np.float32)
    if _is_activated(product.node):
        return nothing if _has_rank_2(product) else None, nothing if bias is None else bias
    if bias is None and _has_rank_2(product) and _is_added(product.node):
        return nothing, None
    return bias, None


def _is_activated(node: ir.Node) -> bool:
    """Whether ONNX Runtime would fuse an activation to the product, or leave it alone for one that clips.

    Either way it does not see the dequantizer any more, and the weight would be dequantized in every call. An addition
    in between, even of zeros, keeps them apart.
    """
    return any(use.node.op_type in FUSED_ACTIVATIONS for use in node.outputs[0].uses())


def _is_added(node: ir.Node) -> bool:
    """Whether ONNX Runtime would make a Gemm of the product and an addition, with the same end; a bias prevents it."""
    return len(node.inputs) > 2 or any(use.node.op_type == "Add" for use in node.outputs[0].uses())


def _has_rank_2(product: Product) -> bool:
    shape = product.left.shape
    return product.node.op_type == "Gemm" or (shape is not None and len(shape) == 2)


def _stored(product: Product, encoding: WeightEncoding, replacement: Replacement) -> ir.Value:
    """The weight [K, N] behind its dequantizer."""
    shape = ir.Shape((product.weight.size // product.channels, product.channels))
    if encoding.block_size is not None:
        integers = blocked_integers(product.weight, encoding)
        scales = block_scales(encoding, product.channels)
        attributes = {"axis": 0, "block_size": encoding.block_size}
    else:
        integers = product.in_order(rounded(product.weight, encoding))
        scales = spread(encoding, 2).reshape(-1 if encoding.axis is not None else ()).astype(np.float32)
        attributes = {} if encoding.axis is None else {"axis": 1}
    weight = replacement.constant("weight", integers, ir.DataType.INT4 if encoding.type == "int4" else None)
    scale = replacement.constant("weight_scale", scales * np.float32(product.alpha))
    return replacement.call("DequantizeLinear", [weight, scale], "weight_float", attributes=attributes, shape=shape)


def _replace_convolution(graph: Graph, node: ir.Node, encoding: WeightEncoding) -> None:
    weight = weight_array(node)
    if weight is None or encoding.type != "int8" or encoding.axis not in (None, channel_axis(node)):
        raise NotQuantizable(f"operator {node.name!r}: only a constant weight of a convolution is stored, as int8")
    scales = np.asarray(encoding.scale, dtype=np.float32)
    scale = constant(graph, f"{node.name}_weight_scale", scales.reshape(-1 if encoding.axis is not None else ()))
    integers = constant(graph, f"{node.name}_weight", rounded(weight, encoding))
    attributes = {} if encoding.axis is None else {"axis": encoding.axis}
    name = f"{node.name}_weight_float"
    restore = new_node("DequantizeLinear", [integers, scale], [name], [ir.DataType.FLOAT], attributes)
    if node.graph is not None:
        node.graph.insert_before(node, restore)
    node.replace_input_with(1, restore.outputs[0])
