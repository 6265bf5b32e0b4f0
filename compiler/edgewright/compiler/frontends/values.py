"""What weights and shapes must be like before anything computes with them."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from ..faults import ModelError, UnsupportedModel
from ..graph import Graph, nodes, place

MAX_ELEMENTS = 1 << 31
"""Of one activation, as far as its shape is known: a larger one would stop the machine that builds."""
CHUNK_ELEMENTS = 1 << 22
FLOATS = frozenset({ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.FLOAT16, ir.DataType.BFLOAT16})


def check_sizes(graph: Graph, where: str) -> None:
    """Raises where a node makes a tensor of a known shape that no machine here can hold.

    Raises:
        UnsupportedModel: the message names the node.
    """
    for node in nodes(graph):
        for value in node.outputs:
            shape = [] if value.shape is None else [size for size in value.shape if isinstance(size, int)]
            if math.prod(shape) > MAX_ELEMENTS:
                raise UnsupportedModel(
                    f"{where}: {node.op_type} at {place(node)} makes a tensor of shape {value.shape}; at most "
                    f"{MAX_ELEMENTS} values are computed at once. Check its sizes, and export the model again"
                )


def check_weights(graph: Graph, where: str) -> None:
    """Raises where a weight holds NaN, which would reach the outputs unseen. Infinity is left: masks are made of it.

    Raises:
        ModelError: the message names the weight and how much of it is NaN.
    """
    for part in graph.graphs():
        for name, value in part.initializers.items():
            _check(name, value.const_value, where)
    for node in nodes(graph):
        for attribute in node.attributes.values():
            if attribute.type == ir.AttributeType.TENSOR and not attribute.is_ref():
                _check(node.outputs[0].name or "?", attribute.as_tensor(), where)


def _check(name: str, tensor: ir.TensorProtocol | None, where: str) -> None:
    if tensor is None or tensor.dtype not in FLOATS:
        return
    flat = tensor.numpy().reshape(-1)
    chunks = (flat[start : start + CHUNK_ELEMENTS] for start in range(0, flat.size, CHUNK_ELEMENTS))
    bad = sum(int(np.count_nonzero(np.isnan(chunk))) for chunk in chunks)
    if bad:
        raise ModelError(
            f"{where}: weights {name!r}: {bad} of {flat.size} values are NaN, so that the model can only answer NaN. "
            "Training has diverged: take an earlier checkpoint, or train again with a lower learning rate"
        )
