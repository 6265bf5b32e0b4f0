"""Places where a factor per channel can move from one weight to the next without changing what the graph computes.

A link starts at a node whose output is scaled by dividing constants (a convolution or matrix product with a constant
weight, a normalisation, a multiplication with a constant per channel) and ends at the convolutions and matrix products
that read it. Everything between must keep channels apart and be positively homogeneous, f(s x) = s f(x) for s > 0, and
nothing else may see the tensor: no other operator, no subgraph, no output of the graph.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from ...graph import Graph
from ..weights import channel_axis, weight_array
from .weight_layout import input_channels

PRODUCTS = frozenset({"Conv", "Gemm", "MatMul"})
NORMALIZATIONS = frozenset({"LayerNormalization", "RMSNormalization"})
HOMOGENEOUS = frozenset({"Relu", "LeakyRelu", "PRelu", "Identity"})
"""Element by element, on any layout. Clip and Relu6 are not: their bound would have to become one per channel."""
SPATIAL = frozenset({"MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool"})
FLATTENING = frozenset({"Flatten", "Reshape", "Squeeze"})

SPATIAL_AXIS = 1
LAST_AXIS = -1


@dataclass(frozen=True)
class Link:
    """A tensor between two weights, through which factors per channel can move."""

    producer: ir.Node
    offsets: tuple[ir.Node, ...]
    """Additions of constants on the way, which must be divided like a bias."""
    consumers: tuple[ir.Node, ...]
    channels: int


def find_links(graph: Graph) -> tuple[Link, ...]:
    """All links of the main graph, in its order."""
    return tuple(link for node in graph.graph if (link := find_link(node)) is not None)


def find_link(producer: ir.Node) -> Link | None:
    """The link that starts at a node, or None where nothing can move."""
    channels = _output_channels(producer)
    if channels is None:
        return None
    ends = _follow(producer.outputs[0], _axis_of_outputs(producer), channels, producer)
    if not ends:
        return None
    offsets = tuple(node for node in ends if node.op_type == "Add")
    consumers = tuple(node for node in ends if node.op_type != "Add")
    return Link(producer, offsets, consumers, channels) if consumers else None


def tensors_between(link: Link) -> Iterator[tuple[ir.Value, int]]:
    """Every tensor that carries the link's factors, and the axis of its channels: 1 or -1."""
    waiting = [(link.producer.outputs[0], _axis_of_outputs(link.producer))]
    while waiting:
        value, axis = waiting.pop()
        yield value, axis
        for node, index in value.uses():
            if node in link.consumers:
                continue
            behind = axis if node in link.offsets else _axis_after(node, index, axis, link.channels)
            if behind is not None:
                waiting.append((node.outputs[0], behind))


def _axis_of_outputs(producer: ir.Node) -> int:
    return SPATIAL_AXIS if producer.op_type == "Conv" else LAST_AXIS


def constant(value: ir.Value | None) -> NDArray[np.float32] | None:
    """The float32 array of a constant, else None."""
    if value is None or value.const_value is None or value.dtype != ir.DataType.FLOAT:
        return None
    return value.const_value.numpy()


def constant_operand(node: ir.Node) -> int | None:
    """Which of the two inputs of an Add or Mul is a float32 constant; None where none or both are."""
    found = [index for index in (0, 1) if constant(node.inputs[index]) is not None]
    return found[0] if len(found) == 1 else None


def _output_channels(node: ir.Node) -> int | None:
    """How many channels the node makes, where constants of it can be divided by one factor for each."""
    if node.domain != "":
        return None
    if node.op_type in PRODUCTS:
        return _product_outputs(node)
    if node.op_type in NORMALIZATIONS:
        return _normalized_channels(node)
    if node.op_type == "Mul":
        index = constant_operand(node)
        scale = None if index is None else constant(node.inputs[index])
        return None if scale is None else _channels_of_vector(scale)
    return None


def _product_outputs(node: ir.Node) -> int | None:
    weight = _own_weight(node)
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    if weight is None or (bias is not None and constant(bias) is None):
        return None
    return int(weight.shape[channel_axis(node)])


def _normalized_channels(node: ir.Node) -> int | None:
    """Only where the last axis alone is normalised."""
    scale = constant(node.inputs[1])
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    if scale is None or (bias is not None and constant(bias) is None):
        return None
    return _channels_of_vector(scale)


def _channels_of_vector(array: NDArray[np.float32]) -> int | None:
    """Length of an array that has one number per channel along its last axis; None for anything else."""
    if array.ndim == 0 or array.size != array.shape[-1] or array.size == 1:
        return None
    return int(array.size)


def _own_weight(node: ir.Node) -> NDArray[np.float32] | None:
    """The constant weight that no other node reads; what is shared would have to be stored twice."""
    weight = weight_array(node)
    value = node.inputs[1]
    if weight is None or value is None or len(value.uses()) != 1 or value.is_graph_output():
        return None
    if node.op_type != "Conv" and weight.ndim != 2:
        return None
    return weight


def _follow(value: ir.Value, axis: int, channels: int, producer: ir.Node) -> list[ir.Node] | None:
    """Consumers and offsets behind a tensor; None where somebody reads it who must not see other numbers."""
    if value.is_graph_output():
        return None
    ends: list[ir.Node] = []
    for node, index in value.uses():
        behind = _behind(node, index, axis, channels, producer) if node.graph is producer.graph else None
        if behind is None:
            return None
        ends.extend(node for node in behind if node not in ends)
    return ends


def _behind(node: ir.Node, index: int, axis: int, channels: int, producer: ir.Node) -> list[ir.Node] | None:
    if node.domain != "":
        return None
    if node.op_type in PRODUCTS:
        return [node] if _consumes(node, index, axis, channels) else None
    if node.op_type == "Add" and axis == LAST_AXIS and constant_operand(node) == 1 - index:
        behind = _follow(node.outputs[0], axis, channels, producer)
        return None if behind is None else [node, *behind]
    next_axis = _axis_after(node, index, axis, channels)
    return None if next_axis is None else _follow(node.outputs[0], next_axis, channels, producer)


def _consumes(node: ir.Node, index: int, axis: int, channels: int) -> bool:
    """Whether the node multiplies the channels of its first input with a constant weight of its own."""
    weight = _own_weight(node) if index == 0 else None
    if weight is None or input_channels(node, weight) != channels:
        return False
    if node.op_type == "Conv":
        return axis == SPATIAL_AXIS
    return not node.attributes.get_int("transA", 0) and (axis == LAST_AXIS or _rank(node.inputs[0]) == 2)


def _axis_after(node: ir.Node, index: int, axis: int, channels: int) -> int | None:
    """Where the channels are behind a node; None where it mixes them or is not homogeneous."""
    if index != 0:
        return None
    if node.op_type in HOMOGENEOUS:
        return axis
    if axis != SPATIAL_AXIS:
        return None
    if node.op_type in SPATIAL:
        return axis if not any(output.uses() for output in node.outputs[1:]) else None
    if node.op_type == "Pad":
        return axis if _pads_zeros(node) else None
    if node.op_type in FLATTENING:
        return LAST_AXIS if _flattens_pixels(node, channels) else None
    return None


def _rank(value: ir.Value | None) -> int | None:
    return None if value is None or value.shape is None else len(value.shape)


def _pads_zeros(node: ir.Node) -> bool:
    """Zeros, and not along the channels; only the form with constant pads for all axes."""
    pads = node.inputs[1].const_value if len(node.inputs) > 1 and node.inputs[1] is not None else None
    filler = node.inputs[2] if len(node.inputs) > 2 else None
    if pads is None or len(node.inputs) > 3 or node.attributes.get_string("mode", "constant") != "constant":
        return False
    if filler is not None and (filler.const_value is None or filler.const_value.numpy().any()):
        return False
    amounts = pads.numpy()
    return bool(amounts[SPATIAL_AXIS] == 0 and amounts[SPATIAL_AXIS + len(amounts) // 2] == 0)


def _flattens_pixels(node: ir.Node, channels: int) -> bool:
    """Whether (N, C, 1, 1) becomes (N, C): the order of the elements then keeps each channel where it was."""
    before, after = node.inputs[0], node.outputs[0]
    if before is None or before.shape is None or after.shape is None or len(after.shape) != 2:
        return False
    return list(before.shape)[1:] == [channels] + [1] * (len(before.shape) - 2) and after.shape[1] == channels
