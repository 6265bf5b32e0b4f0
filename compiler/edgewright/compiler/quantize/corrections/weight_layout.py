"""Where the channels of a weight are: one view of Conv, Gemm and MatMul for everything that works per channel."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from ..weights import channel_axis


def groups(node: ir.Node) -> int:
    """How many independent groups of channels the node has; 1 for Gemm and MatMul."""
    return node.attributes.get_int("group", 1) if node.op_type == "Conv" else 1


def by_channel(node: ir.Node, weight: NDArray[Any]) -> NDArray[Any]:
    """A weight as (groups, outputs per group, inputs per group, kernel positions); a view where that is possible."""
    if node.op_type == "Conv":
        count = groups(node)
        return weight.reshape(count, weight.shape[0] // count, weight.shape[1], -1)
    outputs_first = weight if channel_axis(node) == 0 else weight.T
    return outputs_first[None, :, :, None]


def input_channels(node: ir.Node, weight: NDArray[Any]) -> int:
    """How many channels the node reads."""
    count, _, inputs, _ = by_channel(node, weight).shape
    return int(count * inputs)


def divide_outputs(node: ir.Node, weight: NDArray[np.float32], factors: NDArray[np.float64]) -> NDArray[np.float32]:
    """The weight with every output channel divided by its factor; factors (outputs,)."""
    shape = [1] * weight.ndim
    shape[channel_axis(node)] = len(factors)
    return _by_rows(np.divide, weight, factors.reshape(shape))


def multiply_inputs(node: ir.Node, weight: NDArray[np.float32], factors: NDArray[np.float64]) -> NDArray[np.float32]:
    """The weight with every input channel multiplied by its factor; factors (inputs,)."""
    if node.op_type == "Conv":
        view = by_channel(node, weight)
        return (view * factors.reshape(view.shape[0], 1, -1, 1)).astype(np.float32).reshape(weight.shape)
    shape = (1, -1) if channel_axis(node) == 0 else (-1, 1)
    return _by_rows(np.multiply, weight, factors.reshape(shape))


def _by_rows(operation: np.ufunc, weight: NDArray[np.float32], factors: NDArray[np.float64]) -> NDArray[np.float32]:
    """Computed in float64, of which a whole weight at a time would take twice its own memory."""
    result = np.empty_like(weight)
    rows = np.broadcast_to(factors, (len(weight), *factors.shape[1:]))
    for index, row in enumerate(weight):
        result[index] = operation(row, rows[index], dtype=np.float64)
    return result
