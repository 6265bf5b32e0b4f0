"""Compares what a file declares of its tensors with what follows from its operators."""

from __future__ import annotations

import onnx_ir as ir

from ...faults import ModelError
from ...graph import Graph
from .operators.conversions import ONNX_TYPES
from .reading import Reading


def check_declared(graph: Graph, reading: Reading) -> None:
    """Raises where an operator gives another shape or type than the file says: kernels trust what it says.

    Raises:
        ModelError: the message names the tensor.
    """
    for node in graph.graph:
        for value in node.outputs:
            found = reading.declared.get(value.name or "")
            if found is not None:
                _check(value, reading, *found)


def _check(value: ir.Value, reading: Reading, index: int, order: tuple[int, ...]) -> None:
    tensor, sizes = reading.model.tensors[index], reading.sizes(index)
    wanted = [sizes[axis] for axis in order]
    shape = None if value.shape is None else [size if isinstance(size, int) else None for size in value.shape]
    fits = shape is None or (
        len(shape) == len(wanted) and all(a == b or a is None or b is None for a, b in zip(shape, wanted, strict=True))
    )
    kind = ONNX_TYPES[tensor.type]
    if not fits or (value.dtype is not None and int(value.dtype) != kind):
        raise ModelError(
            f"{reading.draft.where}: tensor {tensor.name!r} is declared as {tensor.type} {tensor.shape}, but what "
            f"makes it gives {value.dtype} {tuple(shape or ())} (axes {order}); the file is damaged, export it again"
        )
