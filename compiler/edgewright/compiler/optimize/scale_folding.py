"""Folds what scales and shifts each output channel of a product into its weights.

Batch normalisation is one form of it; TensorFlow exports write the same as Mul and Add, or Div and Sub, by a constant.
With y = W x + b, the channel scale s and the shift t: s (W x + b) + t = (s W) x + (s b + t) (Jacob et al. 2018,
arXiv:1712.05877, equation 14). A quantizer then rounds once instead of three times.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgewright.targets.board import Board

from ..graph import Graph, add_weight
from ..passes import Evidence, NoOptions, Pass

Floats = NDArray[np.float64]
PRODUCTS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
MAX_WEIGHT_BYTES = 256 << 20
"""A larger weight is left as it is: folding would hold a second copy of it in memory."""


@dataclass(frozen=True)
class Scale:
    """`y = factor * x + shift`, one of each per output channel, in float64."""

    factor: Floats
    shift: Floats


class FoldScale(Pass[NoOptions]):
    """Conv, ConvTranspose, Gemm and MatMul take up BatchNormalization, Mul, Div, Add and Sub by channel constants.

    A MatMul has no bias: it takes up what only scales, and of a BatchNormalization an Add is left.
    """

    name = "fold-scale"

    def apply(self, graph: Graph, options: NoOptions, target: Board | None) -> tuple[Graph, Evidence]:
        del options, target
        folded = 0
        for node in list(graph.graph):
            if node.op_type in PRODUCTS and node.domain == "":
                while _fold_next(graph, node):
                    folded += 1
        return graph, {"folded": folded}


def _fold_next(graph: Graph, product: ir.Node) -> bool:
    """Folds the only reader of a product into it, and says whether it could."""
    weight = _constant(product.inputs[1])
    result = product.outputs[0]
    uses = list(result.uses())
    if weight is None or len(uses) != 1 or result.is_graph_output() or not _has_constant_bias(product):
        return False
    reader = uses[0].node
    if reader.graph is not product.graph or reader.domain != "":
        return False
    scale = _scale(reader, result, _channels(product, weight), product)
    if scale is None or not np.isfinite(scale.factor).all() or not np.isfinite(scale.shift).all():
        return False
    if product.op_type == "MatMul":
        return _fold_into_matmul(graph, product, reader, weight, scale)
    _set_weight(graph, product, weight, scale)
    _set_bias(graph, product, scale)
    _take_place(graph, product, reader)
    return True


def _fold_into_matmul(
    graph: Graph, product: ir.Node, reader: ir.Node, weight: NDArray[np.float32], scale: Scale
) -> bool:
    only_shifts = bool((scale.factor == 1).all())
    if only_shifts:
        return False
    _set_weight(graph, product, weight, scale)
    if not scale.shift.any():
        _take_place(graph, product, reader)
        return True
    shift = add_weight(graph, f"{reader.outputs[0].name}_shift", scale.shift.astype(np.float32))
    add = ir.node("Add", [product.outputs[0], shift], name=reader.name)
    graph.graph.insert_before(reader, add)
    _take_place(graph, add, reader)
    return True


def _constant(value: ir.Value | None) -> NDArray[np.float32] | None:
    if value is None or value.const_value is None or value.producer() is not None or value.is_graph_input():
        return None
    if value.const_value.dtype != ir.DataType.FLOAT or value.const_value.nbytes > MAX_WEIGHT_BYTES:
        return None
    array: NDArray[np.float32] = value.const_value.numpy()
    return array


def _has_constant_bias(product: ir.Node) -> bool:
    bias = product.inputs[2] if len(product.inputs) > 2 else None
    return bias is None or _constant(bias) is not None


def _channel_axis(product: ir.Node) -> int:
    """Of the weight: the axis of the output channels, within a group for ConvTranspose."""
    if product.op_type == "Gemm":
        return 0 if product.attributes.get_int("transB", 0) else 1
    return {"Conv": 0, "ConvTranspose": 1, "MatMul": -1}[product.op_type]


def _channels(product: ir.Node, weight: NDArray[np.float32]) -> int:
    if product.op_type == "MatMul" and weight.ndim < 2:
        return 0
    groups = product.attributes.get_int("group", 1) if product.op_type == "ConvTranspose" else 1
    return int(weight.shape[_channel_axis(product)]) * groups


def _scale(reader: ir.Node, result: ir.Value, channels: int, product: ir.Node) -> Scale | None:
    """What the reader does to each channel, or None where it does something else."""
    if channels == 0:
        return None
    if reader.op_type == "BatchNormalization":
        return _normalization(reader, product)
    if reader.op_type not in {"Mul", "Div", "Add", "Sub"}:
        return None
    first = reader.inputs[0] is result
    if reader.inputs[0] is reader.inputs[1] or (reader.op_type == "Div" and not first):
        return None
    operand = _per_channel(reader.inputs[1 if first else 0], channels, product)
    if operand is None:
        return None
    ones, zeros = np.ones(channels), np.zeros(channels)
    if reader.op_type == "Mul":
        return Scale(operand, zeros)
    if reader.op_type == "Div":
        return Scale(1 / operand, zeros) if operand.all() else None
    if reader.op_type == "Add":
        return Scale(ones, operand)
    return Scale(ones, -operand) if first else Scale(-ones, operand)


def _normalization(reader: ir.Node, product: ir.Node) -> Scale | None:
    constants = [_constant(value) for value in reader.inputs[1:]]
    training = reader.attributes.get_int("training_mode", 0)
    channels_are_second = product.op_type != "MatMul" or _rank(product.outputs[0]) == 2
    if training or not channels_are_second or any(constant is None for constant in constants):
        return None
    gain, shift, mean, variance = (np.asarray(constant, dtype=np.float64) for constant in constants)
    factor = gain / np.sqrt(variance + reader.attributes.get_float("epsilon", 1e-5))
    return Scale(factor, shift - mean * factor)


def _per_channel(value: ir.Value | None, channels: int, product: ir.Node) -> Floats | None:
    """The constant as one number per output channel, or None where it varies over, or widens, anything else."""
    constant, rank = _constant(value), _rank(product.outputs[0])
    if constant is None or rank is None or constant.ndim > rank:
        return None
    trailing = 0 if product.op_type in {"Gemm", "MatMul"} else rank - 2
    shape = (1,) * (rank - constant.ndim) + constant.shape
    wanted = (1,) * (rank - trailing - 1) + (channels,) + (1,) * trailing
    if constant.size != 1 and shape != wanted:
        return None
    return np.broadcast_to(constant.reshape(-1).astype(np.float64), (channels,))


def _rank(value: ir.Value) -> int | None:
    return None if value.shape is None else len(value.shape)


def _set_weight(graph: Graph, product: ir.Node, weight: NDArray[np.float32], scale: Scale) -> None:
    axis = _channel_axis(product) % weight.ndim
    if product.op_type == "ConvTranspose":
        groups = product.attributes.get_int("group", 1)
        split = weight.reshape(groups, weight.shape[0] // groups, weight.shape[1], -1)
        scaled = (split * scale.factor.reshape(groups, 1, -1, 1)).reshape(weight.shape)
    else:
        scaled = weight * scale.factor.reshape([-1 if index == axis else 1 for index in range(weight.ndim)])
    name = f"{product.outputs[0].name}_scaled_{len(graph.graph.initializers)}"
    product.replace_input_with(1, add_weight(graph, name, scaled.astype(np.float32)))


def _set_bias(graph: Graph, product: ir.Node, scale: Scale) -> None:
    bias = _constant(product.inputs[2]) if len(product.inputs) > 2 else None
    beta = product.attributes.get_float("beta", 1.0) if product.op_type == "Gemm" else 1.0
    old = np.zeros(()) if bias is None else beta * bias.astype(np.float64)
    shifted = old * scale.factor + scale.shift
    if product.op_type == "Gemm" and beta != 1.0:
        product.attributes["beta"] = ir.AttrFloat32("beta", 1.0)
    if bias is None and not shifted.any():
        return
    name = f"{product.outputs[0].name}_bias_{len(graph.graph.initializers)}"
    value = add_weight(graph, name, shifted.astype(np.float32))
    product.resize_inputs(3)
    product.replace_input_with(2, value)


def _take_place(graph: Graph, node: ir.Node, reader: ir.Node) -> None:
    """The node's result becomes what the reader gave, under the reader's name."""
    old, new = reader.outputs[0], node.outputs[0]
    name, new.type = old.name, old.type
    new.shape = old.shape
    ir.convenience.replace_all_uses_with(old, new, replace_graph_outputs=True)
    graph.graph.remove(reader, safe=True)
    new.name = name
